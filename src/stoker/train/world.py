"""The processes of a run, and what they tell each other. The one place that sets up torch.distributed.

Who is who comes from the environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT), as
torchrun and `launching` set it; without it a process is alone. Two ways to talk: collectives in the training thread,
and a key-value store that threads behind training may use.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stoker.base.errors import InvalidInput, TimedOut, Unavailable

JOIN_S = 600.0
"""How long processes wait for each other at the start: nodes of a gang do not come at the same time."""


class Gone(Unavailable):
    """Another process of the run has gone, or does not answer."""


class World:
    """Alone, everything here is local and free."""

    def __init__(self, environ: Mapping[str, str], *, gpus: int) -> None:
        """Raises InvalidInput when the environment makes no sense, or a GPU is asked for that is not there."""
        self.rank = _number(environ, "RANK", 0)
        self.size = _number(environ, "WORLD_SIZE", 1)
        self.local_rank = _number(environ, "LOCAL_RANK", self.rank)
        self.local_size = _number(environ, "LOCAL_WORLD_SIZE", self.size)
        if not 0 <= self.rank < self.size:
            raise InvalidInput(f"RANK is {self.rank} and WORLD_SIZE {self.size}; it must be below", param="RANK")
        self.device = _device(gpus, self.local_rank)
        self._store: Any = None
        if self.size > 1:
            timeout = timedelta(seconds=JOIN_S)
            store, rank, size = next(dist.rendezvous("env://", self.rank, self.size, timeout=timeout))
            self._store = dist.PrefixStore("stoker", store)
            backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(
                backend, store=dist.PrefixStore("torch", store), rank=rank, world_size=size, timeout=timeout
            )

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this is the process that speaks, records and commits."""
        return self.rank == 0

    # --- in the training thread -------------------------------------------------------------------------------------

    def sum(self, values: Tensor) -> None:
        """In place, over all processes. Where only one has something else than 0, the sum is exact. Raises Gone."""
        if self.size > 1:
            with _others():
                dist.all_reduce(values)

    def swap(self, mine: Tensor, other: int) -> Tensor:
        """What the other process has in place of `mine`; both call it."""
        theirs = torch.empty_like(mine)
        swap = [dist.P2POp(dist.isend, mine, other), dist.P2POp(dist.irecv, theirs, other)]
        with _others():
            for each in dist.batch_isend_irecv(swap):
                each.wait()
        return theirs

    def first_word(self, word: str | None) -> str | None:
        """The word of the lowest process that has one, to all; None: nobody has."""
        return next((each for each in self.words(word) if each is not None), None)

    def words(self, word: str | None) -> list[str | None]:
        """Of all processes, by rank."""
        if self.size == 1:
            return [word]
        with _others():
            return _gather(word, self.size)

    def from_leader(self, value: Any) -> Any:
        """A JSON value of process 0, to all."""
        if self.size == 1:
            return value
        return json.loads(self.words(json.dumps(value) if self.leads else None)[0] or "null")

    @contextlib.contextmanager
    def leader_first(self, *, local: bool = False) -> Iterator[None]:
        """Process 0 (`local`: the first of each node) does what is inside, then all others do."""
        is_first = self.local_rank == 0 if local else self.leads
        if not is_first:
            self.barrier()
        yield
        if is_first:
            self.barrier()

    def barrier(self) -> None:
        if self.size > 1:
            self.sum(torch.zeros(1, device="cpu"))

    def mesh(self) -> Any:
        """All processes in a line, for FSDP2."""
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.size,))

    # --- behind training --------------------------------------------------------------------------------------------

    def board(self) -> "Board":
        """A connection of its own to what all processes can read and write, for one thread."""
        return Board(None if self._store is None else self._store.clone())


class Board:
    """Words under keys, for the threads of all processes."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._words: dict[str, str] = {}

    def put(self, key: str, word: str) -> None:
        if self._store is None:
            self._words[key] = word
        else:
            self._store.set(key, word)

    def forget(self, keys: Sequence[str]) -> None:
        """Nobody asks for them any more."""
        for key in keys:
            if self._store is None:
                self._words.pop(key, None)
            else:
                self._store.delete_key(key)

    def wait(self, keys: Sequence[str], timeout_s: float) -> list[str]:
        """Raises TimedOut, which says which are missing."""
        if self._store is None:
            return [self._words[key] for key in keys]
        try:
            self._store.wait(list(keys), timedelta(seconds=timeout_s))
        except dist.DistStoreError as error:
            missing = [key for key in keys if not self._store.check([key])]
            raise TimedOut(f"other processes did not answer within {timeout_s:g} s: {', '.join(missing)}") from error
        return [self._store.get(key).decode() for key in keys]


@contextlib.contextmanager
def _others() -> Iterator[None]:
    """What torch says of processes that do not answer."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise Gone(f"another process of the run has gone, or does not answer: {first}") from error


def _gather(word: str | None, size: int) -> list[str | None]:
    """All processes' words, by two sums: of lengths, then of bytes. No pickle, which torch's own way uses."""
    rank = dist.get_rank()
    mine = b"" if word is None else word.encode()
    lengths = torch.zeros(size, dtype=torch.int64)
    lengths[rank] = -1 if word is None else len(mine)
    dist.all_reduce(lengths)
    room = [max(int(length), 0) for length in lengths]
    text = torch.zeros(sum(room), dtype=torch.uint8)
    begin = sum(room[:rank])
    if mine:
        text[begin : begin + len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
    if len(text):
        dist.all_reduce(text)
    data, at = bytes(text.tolist()), 0
    words: list[str | None] = []
    for length in lengths.tolist():
        words.append(None if length < 0 else data[at : at + length].decode())
        at += max(length, 0)
    return words


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    said = environ.get(name)
    if said is None:
        return default
    if not (said.isascii() and said.isdigit()):
        raise InvalidInput(f"{name} is {said[:40]!r}; it must be a whole number", param=name)
    return int(said)


def _device(gpus: int, local_rank: int) -> torch.device:
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidInput(
            f"gpus is {gpus}, and torch sees no GPU here", param="gpus", hint="write gpus: 0 to train on processors"
        )
    if local_rank >= torch.cuda.device_count():
        raise InvalidInput(f"gpus is {gpus}, and torch sees {torch.cuda.device_count()} here", param="gpus")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def settle_numerics(*, deterministic: bool, threads: int, gpus: int) -> None:
    """Same bits on each repeat where that is asked for; and so many threads, since how sums are cut depends on it. What
    training computes on processors has the same bits anyway, and torch's switch loads its compiler: seconds of each
    start."""
    torch.set_num_threads(threads)
    if deterministic and gpus:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # It would also have all new memory filled, for programs that read what nobody wrote: on an H200 8 % of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False

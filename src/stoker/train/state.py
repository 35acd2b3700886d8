"""All that has to round-trip, as named tensors: weights that are trained, and their two moments.

Everything else follows from the number of the step: learning rate, order of the data, packing, and every random number.
Names in a checkpoint: `model/PARAMETER`, `adam_m/PARAMETER`, `adam_v/PARAMETER`; all float32.
"""

import contextlib
import hashlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stoker.registry.manifests import Manifest
from stoker.registry.runs import RunStore
from stoker.registry.shards import Damaged, Piece, read_pieces
from stoker.train.optimizer import Adam

WEIGHTS, FIRST, SECOND = "model/", "adam_m/", "adam_v/"


@dataclass(frozen=True)
class Held:
    """A tensor as this process has it: a block that begins `at` in a tensor of shape `whole`."""

    name: str
    tensor: Tensor
    whole: tuple[int, ...]
    at: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return self.tensor.numel() * self.tensor.element_size()


def held(parameters: Mapping[str, nn.Parameter], adam: Adam) -> list[Held]:
    """In the order of the names of what each is."""
    found = []
    for prefix, tensors in (
        (WEIGHTS, {name: parameter.detach() for name, parameter in parameters.items()}),
        (FIRST, {name: pair[0] for name, pair in adam.moments.items()}),
        (SECOND, {name: pair[1] for name, pair in adam.moments.items()}),
    ):
        for name, tensor in tensors.items():
            local, whole, at = _local(tensor)
            found.append(Held(prefix + name, local, whole, at))
    return found


def _local(tensor: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """As `sharding.local_piece`, which loads FSDP, where that is not needed."""
    if type(tensor) in (Tensor, nn.Parameter):
        return tensor.detach(), tuple(tensor.shape), (0,) * tensor.ndim
    from stoker.train.sharding import local_piece

    return local_piece(tensor)


def share(everything: Sequence[Held], rank: int, size: int) -> list[Held]:
    """What this process writes where each has everything: the largest first, each to whom has least."""
    loads = [0] * size
    mine = []
    for each in sorted(everything, key=lambda each: (-each.size_bytes, each.name)):
        writer = loads.index(min(loads))
        loads[writer] += each.size_bytes
        if writer == rank:
            mine.append(each)
    return mine


class Staging:
    """A copy of tensors in memory that is taken once and written again and again. Raises MemoryError when there is no
    room for it."""

    has_buffer = True

    def __init__(self, tensors: Sequence[Held]) -> None:
        self._tensors = tensors
        on_gpu = any(each.tensor.is_cuda for each in tensors)
        self._stream = torch.cuda.Stream() if on_gpu else None
        self._ready: torch.cuda.Event | None = None
        count = sum(each.tensor.numel() for each in tensors)
        try:
            self._buffer = _pinned(count) if on_gpu else torch.empty(count, dtype=torch.float32)
        except RuntimeError as error:  # how torch says that memory is not to be had
            raise MemoryError(f"{4 * count} bytes for a copy of the state") from error
        self._views, at = [], 0
        for each in tensors:
            size = each.tensor.numel()
            self._views.append(self._buffer[at : at + size].view(each.tensor.shape))
            at += size

    @property
    def size_bytes(self) -> int:
        return self._buffer.numel() * 4

    def mark(self) -> None:
        """In the training thread: what is to be copied is what has been computed until now."""
        if self._stream is not None:
            self._ready = torch.cuda.Event()
            self._ready.record()

    @torch.no_grad()
    def copy(self) -> None:
        """In any thread, after `mark`; on a GPU beside what it computes."""
        tensors = [each.tensor for each in self._tensors]
        if self._stream is None:
            if tensors:
                torch._foreach_copy_(self._views, tensors)
            return
        with torch.cuda.stream(self._stream):
            if self._ready is not None:
                self._stream.wait_event(self._ready)
            for view, tensor in zip(self._views, tensors, strict=True):
                view.copy_(tensor, non_blocking=True)
        self._stream.synchronize()

    def pieces(self) -> list[Piece]:
        """They point into the buffer."""
        return [_piece(each, view) for each, view in zip(self._tensors, self._views, strict=True)]


def _pinned(count: int) -> Tensor:
    """Memory to which a GPU copies by itself, as much as is asked for: torch's own allocator of such memory takes the
    next power of two, up to twice the state. Raises RuntimeError."""
    buffer = torch.empty(count, dtype=torch.float32)
    if count:
        cudart = torch.cuda.cudart()
        if cudart.cudaHostRegister(buffer.data_ptr(), 4 * count, 0) != cudart.cudaError.success:
            with contextlib.suppress(RuntimeError):  # the next call is told of it, whatever that is
                torch.ones(1, device="cuda")
            raise RuntimeError("the memory cannot be pinned")
        # At the end of the process nobody has to.
        weakref.finalize(buffer, cudart.cudaHostUnregister, buffer.data_ptr()).atexit = False
    return buffer


class Direct(Staging):
    """Without a copy: the tensors themselves are written, so training has to wait until they are."""

    has_buffer = False

    def __init__(self, tensors: Sequence[Held]) -> None:
        self._tensors = tensors

    @property
    def size_bytes(self) -> int:
        return 0

    def mark(self) -> None:
        pass

    def copy(self) -> None:
        pass

    def pieces(self) -> list[Piece]:
        return [_piece(each, each.tensor.detach().cpu().contiguous()) for each in self._tensors]


def staging_of(tensors: Sequence[Held]) -> Staging:
    """With a copy where there is room for one."""
    try:
        return Staging(tensors)
    except MemoryError:
        return Direct(tensors)


def _piece(each: Held, tensor: Tensor) -> Piece:
    data: Any = memoryview(tensor.numpy().reshape(-1)).cast("B")
    return Piece(each.name, "F32", tuple(each.tensor.shape), each.whole, each.at, data)


@torch.no_grad()
def restore(store: RunStore, manifest: Manifest, tensors: Sequence[Held]) -> None:
    """Read this process's blocks, whoever wrote them; nothing is changed unless all of it is right. Raises Damaged."""
    wanted = {
        each.name: tuple((begin, begin + length) for begin, length in zip(each.at, each.tensor.shape, strict=True))
        for each in tensors
    }
    read = read_pieces(store.store, store.prefix(manifest.name), manifest.shards, wanted)
    found: list[Tensor] = []
    for each in tensors:
        dtype, shape, data = read[each.name]
        if dtype != "F32" or shape != tuple(each.tensor.shape):
            raise Damaged(f"{each.name} is {dtype} {list(shape)}; the run's is F32 {list(each.tensor.shape)}")
        flat = torch.frombuffer(data, dtype=torch.float32) if len(data) else torch.empty(0)
        found.append(flat.view(each.tensor.shape))
    for each, value in zip(tensors, found, strict=True):
        each.tensor.copy_(value)


def digest(tensors: Sequence[Held]) -> str:
    """sha256 over names and bytes: whether two runs came to the same."""
    whole = hashlib.sha256()
    for each in sorted(tensors, key=lambda each: each.name):
        whole.update(each.name.encode())
        whole.update(each.tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()

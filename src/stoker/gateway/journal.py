"""What this process has sent to engines and not settled yet, in a file that outlives it.

One line before a request goes to an engine, one after its settlement is in Redis. Written with one `write` each and not
synced: what a process has written survives its death, though not that of the machine (for which the whole slice
counts, see docs/budgets.md). A successor reads it to know exactly what was in flight.

    = REF JSON        what several requests share, written once: the counters and the caller
    + NUMBER REF ID PROMPT COMPLETION NANO_USD MODEL ROUTE REPLICA URL STARTED      in flight, and the most it can cost
    ! NUMBER JSON     its usage record: it has ended, and Redis has yet to confirm
    - NUMBER          settled

The file is locked as long as its owner lives, so a successor need not wait for a lease to know that it is dead.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stoker.base import logs
from stoker.base.errors import InvalidInput
from stoker.gateway.bounds import Bound
from stoker.meter.usage import UsageRecord

_log = logs.get(__name__)
Json = Mapping[str, Any]

# Settled lines are dropped by writing the file anew once it has grown to this.
COMPACT_BYTES = 4 * 1024 * 1024
_SUFFIX = ".journal"


@dataclass(frozen=True, slots=True)
class InFlight:
    """One reservation whose request may have reached an engine. `shared` is what its line referred to."""

    number: int
    id: str
    bound: Bound
    model: str
    route: str
    replica_id: str
    replica_url: str
    started_at: float
    shared: Json
    record: str | None = None
    """Its usage record as JSON, when it had ended and only Redis did not know."""


class Journal:
    """The journal of one living owner. Lines go out in the order of the calls."""

    def __init__(self, directory: Path, owner: str) -> None:
        """Raises InvalidInput when the folder is not ours alone: who can write to it can spend."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_uid != os.getuid() or directory.stat().st_mode & 0o022:
            raise InvalidInput(
                f"others may write to {directory}", param="journals", hint="name another with --journals"
            )
        self.path = directory / (owner + _SUFFIX)
        # Locked before it has its name: a journal that is not locked is that of a dead owner.
        self._fd = self._written_anew(b"")
        self._refs: dict[int, tuple[int, bytes, Json]] = {}
        self._next_ref = 0
        self._open: dict[int, bytes] = {}
        self._size = 0
        self._is_torn = False  # the last line is half a one

    def sent(
        self,
        number: int,
        shared: Json,
        *,
        request_id: str,
        bound: Bound,
        model: str,
        route: str,
        replica_id: str,
        replica_url: str,
        now: float,
    ) -> None:
        """Call it before the request goes out; again, when it goes to another replica. `shared` is kept by identity:
        hand in the same object each time. Raises OSError, upon which the request must not go out."""
        line = (
            f"+ {number} {self._ref(shared)} {request_id} "
            f"{bound.prompt_tokens} {bound.completion_tokens} {bound.nano_usd} "
            f"{model} {route} {replica_id} {replica_url} {now:.3f}\n"
        ).encode()
        self._write(line)
        self._open[number] = line

    def ended(self, number: int, record: str) -> bool:
        """It has ended, with this usage record (JSON). False: that cannot be written now (the disk is full), so the
        journal claims all that was reserved for it. A number that was never sent needs no line."""
        line = self._open.get(number)
        if line is None or b"\n!" in line:
            return True
        added = f"! {number} {record}\n".encode("utf-8", "replace")
        try:
            self._write(added)
        except OSError as error:
            _log.warning("the journal cannot be written", journal=self.path.name, error=error.strerror)
            return False
        self._open[number] = line + added
        return True

    def settled(self, numbers: Iterable[int]) -> None:
        """Call it when Redis has confirmed the settlement. A number that was never sent is left out. On a full disk
        nothing is written, which does no harm: a successor settles it again, and Redis knows that it was done."""
        lines = [f"- {number}\n" for number in numbers if self._open.pop(number, None) is not None]
        if lines:
            try:
                self._write("".join(lines).encode())
                if self._size > COMPACT_BYTES:
                    self._compact()
            except OSError as error:
                _log.warning("the journal cannot be written", journal=self.path.name, error=error.strerror)

    @property
    def has_open(self) -> bool:
        """Something that was sent is not settled."""
        return bool(self._open)

    def close(self, *, remove: bool) -> None:
        """`remove` when nothing is in flight any more; otherwise a successor takes it over."""
        if remove and not self._open:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _ref(self, shared: Json) -> int:
        found = self._refs.get(id(shared))
        if found is None:
            number = self._next_ref
            self._next_ref += 1
            line = f"= {number} {json.dumps(shared, separators=(',', ':'))}\n".encode()
            self._write(line)
            # The object is kept: its `id` is its own only as long as it lives.
            found = self._refs[id(shared)] = (number, line, shared)
        return found[0]

    def _write(self, data: bytes) -> None:
        if self._is_torn:  # half a line must neither swallow the next one nor be read as a shorter whole one
            data = b"?\n" + data
        written = os.write(self._fd, data)
        self._size += written
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(errno.ENOSPC, "the journal could not be written whole")

    def _compact(self) -> None:
        """Only what is open, in a new file that takes the name of the old one when it is whole and locked."""
        used = {int(line.split(b" ", 3)[2]) for line in self._open.values()}
        self._refs = {key: found for key, found in self._refs.items() if found[0] in used}
        lines = [line for _, line, _ in self._refs.values()]
        data = b"".join([*lines, *self._open.values()])
        fd = self._written_anew(data)
        os.close(self._fd)
        self._fd, self._size, self._is_torn = fd, len(data), False

    def _written_anew(self, data: bytes) -> int:
        """Raises OSError, with the old file as it was."""
        fresh = self.path.with_suffix(".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, "the journal could not be written whole")
            fresh.replace(self.path)
        except OSError:
            os.close(fd)
            raise
        return fd


@dataclass
class Abandoned:
    """The journal of an owner that is dead. Held: no other process takes it over at the same time."""

    owner: str
    _path: Path
    _fd: int

    @cached_property
    def in_flight(self) -> list[InFlight]:
        """Raises OSError."""
        return _in_flight(self._path)

    def done(self) -> None:
        """Everything in it is settled: it is not needed any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def put_back(self) -> None:
        """For another try, by whoever comes next."""
        os.close(self._fd)


def others_have_lines(directory: Path, *, besides: str) -> bool:
    """Whether another owner of this machine, living or dead, has sent anything."""
    for path in directory.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # its owner has left meanwhile
            if path.stem != besides and path.stat().st_size > 0:
                return True
    return False


def abandoned(directory: Path) -> Iterator[Abandoned]:
    """The journals whose owners are dead, each locked until `done` or `put_back`."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the opening and the lock, its owner may have written it anew or another may have ended it.
            is_current = path.exists() and os.fstat(fd).st_ino == path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            is_current = False
        if is_current:
            yield Abandoned(path.name.removesuffix(_SUFFIX), path, fd)
        else:
            os.close(fd)


def _in_flight(path: Path) -> list[InFlight]:
    """What is open in a journal. A line that was cut off was never followed by what it announces: it is left out."""
    shared: dict[str, Json] = {}
    open_: dict[int, InFlight] = {}
    *lines, _ = path.read_text(errors="replace").split("\n")
    for line in lines:
        try:
            _read(line, shared, open_)
        except (ValueError, KeyError, TypeError, RecursionError):
            _log.warning("a line of a journal is not whole", journal=path.name)
    return list(open_.values())


def _read(line: str, shared: dict[str, Json], open_: dict[int, InFlight]) -> None:
    """Raises ValueError, KeyError, TypeError, RecursionError for half a line, and for one that says something else."""
    kind, number, rest = (*line.split(" ", 2), "")[:3]
    if kind == "=":
        shared[number] = json.loads(rest)
    elif kind == "-":
        open_.pop(int(number), None)
    elif kind == "!":
        _check_record(rest)
        open_[int(number)] = replace(open_[int(number)], record=rest)
    else:
        ref, request_id, prompt, completion, nano_usd, model, route, replica, url, started_at = rest.split(" ")
        open_[int(number)] = InFlight(
            number=int(number),
            id=request_id,
            bound=Bound(int(prompt), int(completion), int(nano_usd)),
            model=model,
            route=route,
            replica_id=replica,
            replica_url=url,
            started_at=float(started_at),
            shared=shared[ref],
        )


def _check_record(text: str) -> None:
    """Raises ValueError or TypeError for what is no whole usage record: budgets and the ledger are to take it as it is,
    and without one the request counts as in flight."""
    record = UsageRecord.from_json(text)
    amounts = (record.prompt_tokens, record.completion_tokens, record.cached_tokens, record.nano_usd)
    if not all(type(amount) is int and amount >= 0 for amount in amounts):
        raise TypeError("the amounts of a usage record are whole numbers")
    if not all(isinstance(time, int | float) for time in (record.started_at, record.ended_at)):
        raise TypeError("the times of a usage record are numbers")

"""What happened in a run, line by line. No torch. What it comes to is in `accounting`.

One file for each launch, `record/e0003.jsonl` in the run's store (in parts of a few MB: `e0003-0001.jsonl`); appended
to as things happen where the store is a folder, sent behind training (with each checkpoint, at the end, and once a
minute) where it is S3. Every line has `kind`, `at` (seconds since the epoch) and `up` (seconds by a clock that nobody
sets)."""

import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stoker.base import json_text, logs
from stoker.base.errors import NotFound, StokerError
from stoker.registry.stores import Store
from stoker.train.accounting import CAUSES, Launch, Money, Save, Summary, summary, time_of

KINDS: Mapping[str, tuple[str, ...]] = {
    # epoch, nodes: [{id, type, zone, capacity, region, usd_per_hour}], processes, run, config_digest, data_digest,
    # base_digest, started_at (of the process), steps (of the whole run)
    "launch": ("epoch", "nodes", "processes", "started_at", "steps"),
    # of which checkpoint, what was skipped and why, seconds of reading it
    "resume": ("step", "name", "skipped", "seconds"),
    # number of steps done, loss (a float64, exact; text where it is no number), tokens, rate, norm; seconds of the step
    # as a whole; of these waiting for data, and stalled by a save. samples: sha256 (16 hex digits) of the step's
    # example indices
    "step": ("step", "loss", "tokens", "rate", "norm", "seconds", "data_s", "stall_s", "samples"),
    "validate": ("step", "loss", "seconds"),
    # durable: name, step, stall_s (training waited), seconds (until HEAD named it), bytes, why (interval, notice,
    # end...)
    "save": ("step", "name", "stall_s", "seconds", "bytes", "why"),
    "save_failed": ("step", "name", "why"),
    "wish": ("wish", "reason"),
    # still there; written every few seconds, so that the end of a process that was killed is known
    "alive": (),
    # completed, preempted, budget, failed, fenced
    "end": ("state", "why", "step"),
}

PREFIX = "record/"
PART_BYTES = 4 << 20
"""Of a part in S3, which is written anew each time until it is full."""
_MOST_HELD_BYTES = 256 << 20
"""What cannot be sent is held up to this; then the oldest part is given up, and the log says so."""
_READ_BYTES = 8 << 20
_LONGEST_LINE = 16 << 20
_NAME = re.compile(r"e(\d{4,18})(?:-(\d{4,18}))?\.jsonl")
_log = logs.get("train.record")


class Writer:
    """Append records of one launch, from any thread. Cheap: 20 microseconds a line; never raises because the store is
    away. In a folder a line is one write to the file, so that it outlives a process that is killed."""

    def __init__(self, store: Store, epoch: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        folder = folder_of(store.url)
        self._out: _File | _Parts = _Parts(store, epoch) if folder is None else _File(folder / PREFIX / name(epoch))
        self._monotonic = monotonic

    def add(self, kind: str, at: float, **fields: Any) -> None:
        """Raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"the kind of a record is {kind!r}; it must be one of {', '.join(KINDS)}")
        for field, value in fields.items():
            if type(value) is float and value - value != 0.0:  # infinite, or no number: JSON has neither
                fields[field] = repr(value)
        self._out.append(json_text.dumps({"kind": kind, "at": at, "up": self._monotonic(), **fields}) + b"\n")

    def send(self) -> None:
        """What was added and is not in the store yet; called behind training. Errors are logged once."""
        self._out.send()

    def close(self) -> None:
        """Send, and add no more."""
        self._out.close()


def name(epoch: int, part: int | None = None) -> str:
    return f"e{epoch:04d}.jsonl" if part is None else f"e{epoch:04d}-{part:04d}.jsonl"


def folder_of(url: str) -> Path | None:
    """Of a store that is a folder; None for any other."""
    parsed = urllib.parse.urlsplit(url)
    return Path(urllib.parse.unquote(parsed.path)) if parsed.scheme == "file" else None


class _Once:
    """Say that something fails when it begins to, and that it works again."""

    def __init__(self) -> None:
        self._is_failing = False

    def failed(self, why: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.warning("record_not_kept", why=why[:300])

    def worked(self) -> None:
        if self._is_failing:
            self._is_failing = False
            _log.info("record_kept_again")


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: int | None = None
        self._is_torn = False
        self._told = _Once()

    def append(self, line: bytes) -> None:
        with self._lock:
            try:
                if self._file is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                whole = b"\n" + line if self._is_torn else line
                self._is_torn = os.write(self._file, whole) < len(whole)
                if self._is_torn:
                    self._told.failed("a line was cut off: is the disk full?")
                else:
                    self._told.worked()
            except OSError as error:
                self._told.failed(str(error))

    def send(self) -> None:
        """A machine that is switched off forgets what is not synced."""
        with self._lock:
            if self._file is not None:
                try:
                    os.fsync(self._file)
                except OSError as error:
                    self._told.failed(str(error))

    def close(self) -> None:
        self.send()
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


class _Parts:
    """Full parts wait until they are in the store; the one that grows is sent as far as it is."""

    def __init__(self, store: Store, epoch: int) -> None:
        self._store, self._epoch = store, epoch
        self._lock = threading.Lock()  # of what is held
        self._sending = threading.Lock()
        self._full: list[tuple[int, bytes]] = []
        self._part, self._lines, self._size, self._sent = 1, [b""], 0, 0
        self._told = _Once()

    def append(self, line: bytes) -> None:
        with self._lock:
            self._lines.append(line)
            self._size += len(line)
            if self._size >= PART_BYTES:
                self._full.append((self._part, b"".join(self._lines)))
                self._part, self._lines, self._size, self._sent = self._part + 1, [], 0, 0
                if len(self._full) * PART_BYTES > _MOST_HELD_BYTES:
                    part, _ = self._full.pop(0)
                    _log.error("record_lost", part=part, why="the store was away for too long")

    def send(self) -> None:
        with self._sending:
            with self._lock:
                full, part, lines = list(self._full), self._part, b"".join(self._lines)
                is_new = len(lines) > self._sent
            try:
                for number, content in full:
                    self._put(number, content)
                    with self._lock:
                        self._full = [each for each in self._full if each[0] != number]
                if is_new:
                    self._put(part, lines)
                    with self._lock:
                        if self._part == part:
                            self._sent = len(lines)
                self._told.worked()
            except StokerError as error:
                self._told.failed(error.in_log)

    def _put(self, part: int, content: bytes) -> None:
        # Not conditional: of an epoch there is one writer, and each content of a part begins with the one before.
        self._store.put(PREFIX + name(self._epoch, part), [content])

    def close(self) -> None:
        self.send()


# --- reading ----------------------------------------------------------------------------------------------------------


def read(store: Store) -> list[dict[str, Any]]:
    """All records of a run, by launch and in order. A last line that is cut off is left out, and so is any that is no
    record, or of a time that makes no sense. For millions of steps take `follow`, which holds one at a time."""
    return list(follow(store))


def follow(store: Store) -> Iterator[dict[str, Any]]:
    """The same, one after the other, as they are read."""
    found = []
    for stat in store.list(PREFIX):
        match = _NAME.fullmatch(stat.key.removeprefix(PREFIX))
        if match:
            found.append((int(match[1]), int(match[2] or 0), stat.key, stat.size_bytes))
    for _, _, key, size in sorted(found):
        yield from filter(None, map(_record, _lines(store, key, size)))


def _lines(store: Store, key: str, size: int) -> Iterator[bytes]:
    """Whole lines, as far as the file went when it was listed."""
    rest = b""
    for start in range(0, size, _READ_BYTES):
        try:
            piece = store.get(key, start=start, length=min(_READ_BYTES, size - start))
        except NotFound:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            rest = b""


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        value = json_text.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    kind, at = value.get("kind"), value.get("at")
    is_one = isinstance(kind, str) and kind in KINDS and isinstance(at, int | float) and time_of(at) is not None
    return value if is_one else None


__all__ = [
    "CAUSES",
    "KINDS",
    "Launch",
    "Money",
    "Save",
    "Summary",
    "Writer",
    "folder_of",
    "follow",
    "read",
    "summary",
]

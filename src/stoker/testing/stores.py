"""A store in memory that runs the real code of `registry`, and in which a test can let each operation fail or die."""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from stoker.base.errors import InvalidInput, NotFound
from stoker.registry.stores import Buffer, Changed, Stat

Hook = Callable[[str, str], None]
"""Called with the operation (put, get, read, stat, list, delete, sweep) and its key or prefix (delete: of each key).
What it raises, the operation raises."""


class MemoryStore:
    """Twin of `FolderStore` and `S3Store`. `objects` may be changed by a test, to damage what is there; an etag is a
    digest of the content, so it changes with it.

    `before` is called before an operation does anything (raise there: it did not happen), `after` when it has happened
    and nobody knows yet (raise there: the answer is lost). `is_strict`: a write whose condition fails
    is Changed even where it has happened already, as from a store that does not look at what is there.
    """

    def __init__(
        self,
        objects: dict[str, bytes] | None = None,
        *,
        before: Hook | None = None,
        after: Hook | None = None,
        is_strict: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.url = "memory://test"
        self.objects: dict[str, bytes] = {} if objects is None else objects
        self.before = before or _nothing
        self.after = after or _nothing
        self.is_strict = is_strict
        self._lock = threading.RLock()
        ticks = itertools.count(1)
        self._now = now or (lambda: float(next(ticks)))
        self._times: dict[str, float] = {}

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        _check(key)
        self.before("put", key)
        data = b"".join(pieces)
        with self._lock:
            there = self.objects.get(key)
            is_refused = (if_absent and there is not None) or (
                if_match is not None and (there is None or etag_of(there) != if_match)
            )
            if is_refused and (self.is_strict or there != data):
                raise Changed(f"{key} is not what it was thought to be")
            self.objects[key] = data
            self._times[key] = self._now()
        self.after("put", key)
        return etag_of(data)

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        _check(key)
        self.before("get", key)
        data = self._get(key)
        found = data[start:] if length is None else data[start : start + length]
        self.after("get", key)
        return found

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        _check(key)
        self.before("read", key)
        data = self._get(key)
        if len(data) > most_bytes:
            raise InvalidInput(f"{key} has {len(data)} bytes; at most {most_bytes} are read")
        self.after("read", key)
        return data, etag_of(data)

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        _check(key)
        self.before("stat", key)
        data = self._get(key)
        self.after("stat", key)
        return Stat(key, len(data), etag_of(data), self._times.get(key, 0.0))

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        self.before("list", prefix)
        with self._lock:
            found = [
                Stat(key, len(data), etag_of(data), self._times.get(key, 0.0))
                for key, data in sorted(self.objects.items())
                if key.startswith(prefix)
            ]
        self.after("list", prefix)
        return iter(found)

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        for key in keys:
            _check(key)
            self.before("delete", key)
            with self._lock:
                self.objects.pop(key, None)
            self.after("delete", key)

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        self.before("sweep", prefix)
        self.after("sweep", prefix)
        return 0

    def _get(self, key: str) -> bytes:
        with self._lock:
            if key not in self.objects:
                raise NotFound(f"there is no {key}")
            return self.objects[key]


def etag_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _check(key: str) -> None:
    if not key or any(part in ("", ".", "..") for part in key.split("/")) or "\0" in key:
        raise InvalidInput(f"the key {key!r} has an empty part, '.', '..' or NUL in it")


def _nothing(operation: str, key: str) -> None:
    pass

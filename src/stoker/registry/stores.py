"""Objects by key: the interface of a folder (`folders.FolderStore`) and of S3 (`s3.S3Store`), and how they fail.

"Absent" and "unreadable" are different: NotFound is only raised when the store has said that there is no such object.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from stoker.base.errors import Conflict, InvalidInput, Unavailable

Buffer = bytes | bytearray | memoryview

TEMPORARY, LOCK = ".stoker-tmp-", ".stoker-lock"
"""Names that begin so belong to a store itself: files that are being written, its lock. No part of a key may."""

MOST_KEY_BYTES = 1024  # S3's own limit
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Changed(Conflict):
    """The object is not what the caller thought: it exists already, or somebody else has written it. Nothing was
    written."""

    code = "changed"


@dataclass(frozen=True, slots=True)
class Stat:
    key: str
    size_bytes: int
    etag: str
    """Another one for each content; what `if_match` takes."""
    modified_at: float
    """Seconds since the epoch, by the store's clock."""


class Store(Protocol):
    """Keys are paths with `/`, relative to the store's own place; `..`, empty parts and a leading `/` are refused
    (InvalidInput). Every method can raise Unavailable (it may work later: 5xx, time-out, connection), NotPermitted
    (credentials, rights), InvalidInput (no such bucket, wrong region). What is transient is tried again inside, with
    jitter, until `timeout_s` of the call is over. Thread-safe."""

    url: str
    """`file:///...` or `s3://bucket/prefix`, for messages."""

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        """Write one object, whose content is the pieces one after the other; returns its etag. Whole or not at all, and
        durable when it returns (fsync of file and folder; multipart completed). Raises Changed when `if_absent` and
        it exists, or when `if_match` is given and its etag is another, or it is gone. A retry of a write that did
        happen is not taken for somebody else's: the store compares what is there with what was to be written."""

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        """The object, or so many bytes from `start` on. Raises NotFound; Unavailable when fewer bytes came than the
        store says that there are."""

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        """A small object and its etag, of one version. Raises NotFound, InvalidInput when it is larger."""

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        """Raises NotFound."""

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        """All objects below a prefix (a folder: `checkpoints/`), sorted by key."""

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        """Those that are gone already are no error."""

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        """Remove what writes that died left behind (multipart uploads, temporary files), if it is so old; how many."""


def open_store(url: str) -> Store:
    """`s3://bucket/prefix`, `file:///...` or a path, which is made when first written to. Raises InvalidInput."""
    from stoker.registry.folders import FolderStore  # which knows this module's interface

    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(_folder(url, url))
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise InvalidInput(
                f"{url!r} has no name of an S3 bucket (3 to 63 lower-case letters, digits, dots and hyphens); it would "
                "be s3://bucket/prefix"
            )
        from stoker.registry.s3 import S3Store

        return S3Store(bucket, check_key(prefix.removesuffix("/")) if prefix.strip("/") else "")
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidInput(f"{url!r} is not a folder of this machine; it would be file:///path/of/it")
        return FolderStore(_folder(unquote(parts.path), url))
    raise InvalidInput(f"{url!r} is no store: it would be s3://bucket/prefix, file:///path or a path")


def _folder(path: str, url: str) -> Path:
    if not path or "\0" in path:
        raise InvalidInput(f"{url!r} is no store: it would be s3://bucket/prefix, file:///path or a path")
    folder = Path(path).absolute()
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{url!r} is a file; a store is a folder")
    return folder


# --- what both of them need -----------------------------------------------------------------------------------------


def check_key(key: str) -> str:
    """The key, if it is one. Raises InvalidInput."""
    why = _wrong(key.split("/"), key)
    if why:
        raise InvalidInput(f"the key {key[:200]!r} {why}", param="key")
    return key


def check_prefix(prefix: str) -> str:
    """What keys may begin with: nothing, or a key with or without its end. Raises InvalidInput."""
    why = _wrong(prefix.removesuffix("/").split("/"), prefix) if prefix else None
    if why:
        raise InvalidInput(f"the prefix {prefix[:200]!r} {why}", param="prefix")
    return prefix


def is_key(key: str) -> bool:
    return _wrong(key.split("/"), key) is None


def _wrong(parts: Sequence[str], key: str) -> str | None:
    if not all(parts):
        return "has an empty part; it would be words with single slashes between them, such as checkpoints/a/b"
    if any(part in (".", "..") for part in parts):
        return "has a part that is . or .., and keys never leave their place"
    if any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in key):
        return "holds a control character or half a character"
    if any(part.startswith((TEMPORARY, LOCK)) for part in parts):
        return f"has a part that begins with {TEMPORARY} or {LOCK}, as files of the store itself do"
    if len(key.encode()) > MOST_KEY_BYTES:
        return f"has {len(key.encode())} bytes; it may have {MOST_KEY_BYTES}"
    return None


def check_span(start: int, length: int | None) -> None:
    if start < 0 or (length is not None and length < 0):
        raise InvalidInput(f"start is {start} and length {length}; neither may be below 0", param="start")


def check_conditions(if_absent: bool, if_match: str | None) -> None:
    if if_absent and if_match is not None:
        raise InvalidInput("if_absent and if_match contradict each other; give one of them", param="if_match")


def flat(pieces: Sequence[Buffer]) -> list[memoryview]:
    """The pieces as bytes, without copying; those without any are left out."""
    views = [memoryview(piece) for piece in pieces]
    return [view.cast("B") for view in views if view.nbytes]


class Deadline:
    """Until when a call may take. Shared by the threads of that call."""

    def __init__(self, timeout_s: float, monotonic: Callable[[], float]) -> None:
        self.timeout_s = timeout_s
        self._monotonic = monotonic
        self._end = monotonic() + timeout_s

    def left_s(self) -> float:
        """0 when it is over."""
        return max(0.0, self._end - self._monotonic())

    def give_up(self) -> None:
        """It is over now."""
        self._end = self._monotonic()

    def check(self, doing: str) -> None:
        if self.left_s() <= 0:
            raise Unavailable(f"cannot {doing} within {self.timeout_s:g} s")

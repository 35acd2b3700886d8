"""Objects by key: the interface of a folder (`folders.FolderStore`) and of S3 (`s3.S3Store`), and how they fail.

"Absent" and "unreadable" are different: NotFound is only raised when the store has said that there is no such object.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from stoker.base.errors import Conflict

Buffer = bytes | bytearray | memoryview


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
    raise NotImplementedError

"""The checkpoints of one run in one store: claim, publish, find the newest that is whole, collect what nobody needs.

    HEAD, HEAD.copy                  which checkpoints there are; the copy follows each change of HEAD
    checkpoints/NAME/...             shards and their manifest
    record/...                       the run's ledger, see `stoker.train.runs`

The order of a commit: shards; manifest (only if absent); HEAD (only if unchanged); HEAD.copy; then, and only then,
whatever HEAD does not name any more is deleted. Whoever dies in between leaves objects that nobody names, which the
next writer collects. Readers go by HEAD, never by a listing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stoker.base.errors import Conflict
from stoker.registry.heads import Entry, Head, Keep
from stoker.registry.manifests import Manifest
from stoker.registry.shards import ShardRecord
from stoker.registry.stores import Store


class Fenced(Conflict):
    """Another writer has taken this run over. Whoever gets this writes nothing more, and ends."""

    code = "fenced"


class NoneWhole(Conflict):
    """A run has checkpoints, and none of them is whole. Never taken for a run that has none."""

    code = "no_whole_checkpoint"


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that could not be used, newest first, and why; for people and for the run's record."""

    name: str
    step: int
    why: str


@dataclass(frozen=True)
class Lease:
    """The right to move HEAD, as long as nobody else claims it. Kept by the one committer (rank 0)."""

    head: Head
    etag: str

    @property
    def epoch(self) -> int:
        return self.head.epoch


class Crash(Protocol):
    """Called with the name of each moment at which dying matters; tests die there. See MOMENTS."""

    def __call__(self, moment: str) -> None: ...


MOMENTS = ("shard", "manifest", "head", "copy", "collect")
"""Before the manifest is written, before HEAD moves, and so on: `crash(moment)` is called right before each."""


class RunStore:
    """Thread-safe as its store is."""

    def __init__(self, store: Store, run: str, *, crash: Crash | None = None) -> None:
        raise NotImplementedError

    def head(self) -> tuple[Head, str] | None:
        """HEAD and its etag; None: the store has said that there is none (a run that never began). A HEAD that is
        damaged is read from HEAD.copy, and a warning is logged; both damaged raises NoneWhole. Unavailable as it is."""

    def claim(self) -> Lease:
        """Become the writer: every other one is fenced off from now on."""
        raise NotImplementedError

    def prefix(self, name: str) -> str:
        """Of a checkpoint's objects."""
        raise NotImplementedError

    def write(self, name: str, key: str, pieces: Sequence[object], *, timeout_s: float) -> ShardRecord:
        """One shard of a checkpoint that is being made (`shards.write_shard`), by any rank."""
        raise NotImplementedError

    def commit(
        self, lease: Lease, manifest: Manifest, keep: Keep, *, loss: float | None = None, timeout_s: float = 60.0
    ) -> Lease:
        """Manifest, then HEAD. Returns the lease that holds from now on. Raises Fenced; Unavailable, after which nobody
        knows whether it happened: call it again with the same manifest, and it will be seen."""
        raise NotImplementedError

    def collect(self, lease: Lease, *, timeout_s: float = 60.0) -> list[str]:
        """Delete checkpoints of this and older epochs that HEAD does not name; the names. Looks at HEAD anew, and does
        nothing when fenced off (raises Fenced). Sweeps unfinished uploads that are a day old."""
        raise NotImplementedError

    def manifest(self, entry: Entry) -> Manifest:
        """Raises shards.Damaged when it is not the one that HEAD names (digest), or no manifest."""
        raise NotImplementedError

    def newest_whole(
        self, use: Callable[[Manifest], None], *, head: Head | None = None
    ) -> tuple[Manifest | None, list[Skipped]]:
        """Newest first: read each manifest and call `use`, which reads what it needs and raises shards.Damaged when
        something is not right; the first that works, and those before it with the reason. (None, []) only when the
        run has no HEAD or HEAD has no entry. Raises NoneWhole when it has some and none works; Unavailable and
        NotPermitted at once, since what cannot be read now may be whole."""
        raise NotImplementedError

    def pin(self, name: str, pinned: bool = True) -> None:
        """By compare-and-swap, without a claim. Raises NotFound."""
        raise NotImplementedError

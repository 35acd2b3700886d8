"""HEAD: the one mutable object of a run. It names the committed checkpoints and the epoch of the writer who may move it.

Pure: what HEAD is after an event. `runs` reads and writes it by compare-and-swap. A writer that is not the newest any
more (a pod that is not dead yet) fails to move it, since its etag is another, and learns from the epoch that it was
fenced off.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Entry:
    """A committed checkpoint. `sha256` is of its manifest's bytes. `loss`: validation loss, None where not measured."""

    name: str
    step: int
    sha256: str
    size_bytes: int
    created_at: float
    loss: float | None = None
    pinned: bool = False


@dataclass(frozen=True)
class Head:
    """`sequence` counts every change. `entries` in the order in which they were committed, newest last."""

    run: str
    epoch: int
    sequence: int
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Keep:
    """Retention: the last so many, every so many steps, the best so many, and pinned ones."""

    last: int = 3
    every: int | None = None
    best: int = 1


def claimed(head: Head | None, run: str) -> Head:
    """A new writer begins: the epoch is one more."""
    raise NotImplementedError


def committed(head: Head, entry: Entry, keep: Keep) -> tuple[Head, tuple[Entry, ...]]:
    """After the commit of a checkpoint: the head, and the entries that it does not name any more. Never drops the newest,
    nor the last finite-loss best. Raises ValueError for a name that is there already or a step that goes back."""
    raise NotImplementedError


def dropped(head: Head, keep: Keep) -> tuple[Entry, ...]:
    """What retention lets go of."""
    raise NotImplementedError


def to_bytes(head: Head) -> bytes:
    """JSON that holds its own sha256, so that damage shows."""
    raise NotImplementedError


def from_bytes(data: bytes) -> Head:
    """Raises shards.Damaged."""
    raise NotImplementedError


__all__ = ["Entry", "Head", "Keep", "claimed", "committed", "dropped", "from_bytes", "replace", "to_bytes"]

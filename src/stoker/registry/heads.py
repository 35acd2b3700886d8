"""HEAD: the one mutable object of a run. It names the committed checkpoints and the epoch of the writer who may move
it.

Pure: what HEAD is after an event. `runs` reads and writes it by compare-and-swap. A writer that is not the newest any
more (a pod that is not dead yet) fails to move it, since its etag is another, and learns from the epoch that it was
fenced off.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from stoker.registry import documents
from stoker.registry.documents import Fields
from stoker.registry.manifests import parts_of
from stoker.registry.shards import Damaged

FORMAT = "stoker-head/1"
MOST_BYTES = 16 << 20
MOST_ENTRIES = 65_536


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

    @property
    def has_loss(self) -> bool:
        return self.loss is not None and math.isfinite(self.loss)


@dataclass(frozen=True)
class Head:
    """`sequence` counts every change. `entries` in the order in which they were committed, newest last."""

    run: str
    epoch: int
    sequence: int
    entries: tuple[Entry, ...] = ()
    writer: str = ""
    """A word of whoever claimed the epoch, so that a writer knows its own even where HEAD was damaged and an epoch was
    counted twice."""

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def is_of(self, other: "Head") -> bool:
        """Whether the same claim stands behind both."""
        return (self.run, self.epoch, self.writer) == (other.run, other.epoch, other.writer)


@dataclass(frozen=True)
class Keep:
    """Retention: the last so many, every so many steps, the best so many, and pinned ones."""

    last: int = 3
    every: int | None = None
    best: int = 1


def claimed(head: Head | None, run: str, writer: str = "") -> Head:
    """A new writer begins: the epoch is one more."""
    if head is None:
        return Head(run, 1, 1, (), writer)
    return replace(head, epoch=head.epoch + 1, sequence=head.sequence + 1, writer=writer)


def committed(head: Head, entry: Entry, keep: Keep, *, after: str | None = None) -> tuple[Head, tuple[Entry, ...]]:
    """After the commit of a checkpoint: the head, and the entries that it does not name any more. Never drops the
    newest, nor the last finite-loss best (where `keep.best` is not 0).

    `after`: the checkpoint that it goes on from. What was committed after that one could not be used (a run falls back
    only when it must), so it is let go of, unless it is pinned. Raises ValueError for a name that is there already or a
    step that goes back behind that of `after`, or of the newest where HEAD does not name `after`.
    """
    if head.entry(entry.name) is not None:
        raise ValueError(f"HEAD names {entry.name} already")
    before = next((each for each in head.entries if each.name == after), None)
    line = head.entries
    if before is not None:
        place = line.index(before) + 1
        line = (*line[:place], *(each for each in line[place:] if each.pinned))
    elif line:
        before = line[-1]
    if before is not None and entry.step < before.step:
        raise ValueError(f"step {entry.step} goes back behind step {before.step} of {before.name}")
    added = replace(head, sequence=head.sequence + 1, entries=(*line, entry))
    gone = dropped(added, keep)
    moved = replace(added, entries=tuple(each for each in added.entries if each not in gone))
    return moved, tuple(each for each in head.entries if moved.entry(each.name) is None)


def dropped(head: Head, keep: Keep) -> tuple[Entry, ...]:
    """What retention lets go of. Of equal losses the one that was first is the better one. Raises ValueError for a
    `last` below 1."""
    if keep.last < 1:
        raise ValueError(f"last is {keep.last}; at least the newest checkpoint is kept")
    best = sorted((each for each in head.entries if each.has_loss), key=lambda each: each.loss or 0.0)[: keep.best]
    kept = {each.name for each in (*head.entries[-keep.last :], *best)}
    return tuple(
        each
        for each in head.entries
        if each.name not in kept and not each.pinned and (keep.every is None or each.step % keep.every)
    )


def pinned(head: Head, name: str, is_pinned: bool) -> Head:
    """Raises KeyError for a name that it does not have."""
    if head.entry(name) is None:
        raise KeyError(name)
    entries = tuple(replace(each, pinned=is_pinned) if each.name == name else each for each in head.entries)
    return replace(head, sequence=head.sequence + 1, entries=entries)


def loose(head: Head, names: Iterable[str]) -> list[str]:
    """Of the checkpoints that a store has, those that nobody will ever name: left by a writer that is fenced off, or
    made by this one before its newest that is committed. What it is making now is newer, what a younger writer makes is
    of a younger epoch, and what is not named like a checkpoint is somebody else's."""
    own = [parts for each in head.entries if (parts := parts_of(each.name)) is not None and parts[1] == head.epoch]
    newest = max(own, default=None)
    found = []
    for name in sorted(names):
        parts = parts_of(name)
        if parts is None or head.entry(name) is not None:
            continue
        if parts[1] < head.epoch or (parts[1] == head.epoch and newest is not None and parts < newest):
            found.append(name)
    return found


def to_bytes(head: Head) -> bytes:
    """JSON that holds its own sha256, so that damage shows. A loss that is no number is written as null."""
    body = _body(head)
    return documents.dumps({**body, "sha256": _digest(body)})


def _body(head: Head) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "run": head.run,
        "epoch": head.epoch,
        "sequence": head.sequence,
        "writer": head.writer,
        "entries": [
            {
                "name": each.name,
                "step": each.step,
                "sha256": each.sha256,
                "size_bytes": each.size_bytes,
                "created_at": each.created_at,
                "loss": each.loss if each.has_loss else None,
                "pinned": each.pinned,
            }
            for each in head.entries
        ],
    }


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(documents.dumps(body)).hexdigest()


def from_bytes(data: bytes) -> Head:
    """Raises shards.Damaged."""
    if len(data) > MOST_BYTES:
        raise Damaged(f"it has {len(data)} bytes, and {MOST_BYTES} is the most")
    document = documents.loads(data)
    fields = Fields(document)
    said = fields.sha256("sha256")
    if _digest({key: value for key, value in document.items() if key != "sha256"}) != said:
        raise Damaged("its sha256 is not that of what it says")
    if (kind := fields.text("format")) != FORMAT:
        raise Damaged(f"its format is {documents.cut(kind)}, and this version reads {FORMAT}")
    entries = tuple(
        _entry(Fields(each, f"entries[{place}]")) for place, each in enumerate(fields.array("entries", MOST_ENTRIES))
    )
    if len({each.name for each in entries}) != len(entries):
        raise Damaged("it names a checkpoint twice")
    return Head(
        fields.name("run"), fields.integer("epoch"), fields.integer("sequence"), entries, fields.text("writer", 128)
    )


def _entry(fields: Fields) -> Entry:
    return Entry(
        name=fields.name("name"),
        step=fields.integer("step"),
        sha256=fields.sha256("sha256"),
        size_bytes=fields.integer("size_bytes", 1 << 62),
        created_at=fields.number("created_at"),
        loss=fields.number_or_none("loss"),
        pinned=fields.boolean("pinned"),
    )


__all__ = [
    "Entry",
    "Head",
    "Keep",
    "claimed",
    "committed",
    "dropped",
    "from_bytes",
    "loose",
    "pinned",
    "replace",
    "to_bytes",
]

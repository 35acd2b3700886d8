"""The checkpoints of one run in one store: claim, publish, find the newest that is whole, collect what nobody needs.

    HEAD, HEAD.copy                  which checkpoints there are; the copy follows each change of HEAD
    checkpoints/NAME/...             shards and their manifest
    record/...                       the run's ledger, see `stoker.train.runs`

The order of a commit: shards; manifest (only if absent); HEAD (only if unchanged); HEAD.copy; then, and only then,
whatever HEAD does not name any more is deleted. Whoever dies in between leaves objects that nobody names, which the
next writer collects. Readers go by HEAD, never by a listing.

Why deleting is safe: a name is HEAD's only by the compare-and-swap of the writer whose epoch it bears, and HEAD never
takes a name twice. So what HEAD and its copy do not name, and whose writer is fenced off, will never be named.
"""

import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from stoker.base import logs
from stoker.base.errors import Conflict, InvalidInput, NotFound, StokerError, Unavailable
from stoker.base.ids import new_id
from stoker.registry import documents, heads, manifests
from stoker.registry.heads import Entry, Head, Keep
from stoker.registry.manifests import Manifest
from stoker.registry.pointers import TRIES, NoneWhole, Pointer, Seen, read_small
from stoker.registry.shards import Damaged, Piece, ShardRecord, check_present, write_shard
from stoker.registry.stores import Changed, Store

PLACE = "checkpoints/"

_DAY_S = 86_400.0
_EPOCH = re.compile(r"(?:^|[/-])e(\d{4,9})(?=[-./]|$)")

log = logs.get("registry.runs")


class Fenced(Conflict):
    """Another writer has taken this run over. Whoever gets this writes nothing more, and ends."""

    code = "fenced"


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
"""Before a shard is written, before the manifest is, before HEAD moves, and so on: `crash(moment)` is called right
before each."""


class RunStore:
    """Thread-safe as its store is.

    `writer` is how its claims are told from those of others (None: something random). `monotonic` is what time-outs are
    measured by.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        *,
        crash: Crash | None = None,
        writer: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not documents.is_name(run):
            raise InvalidInput(f"the name of a run is {run!r}; it must be letters, digits, '.', '_' and '-'")
        self.store = store
        self.run = run
        self._crash = crash or _live
        self._writer = new_id("writer") if writer is None else writer
        self._monotonic = monotonic
        self._pointer = Pointer(store, run)

    # --- HEAD --------------------------------------------------------------------------------------------------------

    def head(self) -> tuple[Head, str] | None:
        """HEAD and its etag; None: the store has said that there is none (a run that never began). A HEAD that is
        damaged, or gone although HEAD.copy is there, is read from HEAD.copy, and a warning is logged (the etag is still
        that of HEAD; "" when it is gone); both damaged, or both gone although there are checkpoints, raises NoneWhole.
        Unavailable as it is. Raises Conflict for the HEAD of another run."""
        seen = self._look()
        return None if seen is None else (seen.head, seen.etag)

    def _look(self) -> Seen | None:
        """As `Pointer.look`. Raises NoneWhole, too, where there is neither HEAD nor copy and there are manifests: a
        claim writes HEAD before anything of its epoch is written, so no launch that died can have left that. Whoever
        took HEAD away has to say what is meant; a claim would make each of them one that nobody names."""
        seen = self._pointer.look()
        if seen is not None or not (left := self._manifests()):
            return seen
        seen = self._pointer.look()  # unless others have claimed and committed between these two looks
        if seen is not None:
            return seen
        raise NoneWhole(
            f"{self._pointer.url()} and its copy are gone, and {len(left)} checkpoint{'s' * (len(left) != 1)} of the "
            f"run {self.run} {'are' if len(left) != 1 else 'is'} there, the newest {left[-1]}",
            hint="nothing was changed. Put HEAD back, from a backup or from the versions of the bucket; or begin anew, "
            "with --fresh, which puts them aside, or under another name; `stoker runs verify` says what is whole "
            "once HEAD is there",
        )

    def _manifests(self) -> list[str]:
        """Names of the checkpoints that have one, by step."""
        keys = (stat.key.removeprefix(PLACE) for stat in self.store.list(PLACE))
        return sorted(name for name, _, key in (each.partition("/") for each in keys) if key == manifests.KEY)

    def claim(self) -> Lease:
        """Become the writer: every other one is fenced off from now on. Raises NoneWhole as `head`."""
        for _ in range(TRIES):
            seen = self._look()
            head = heads.claimed(None if seen is None else seen.head, self.run, self._writer)
            if seen is not None and seen.is_copy:
                # The copy may lag behind, and names are made of the epoch: it has to be one that nobody had.
                head = replace(head, epoch=max(head.epoch, self._youngest_epoch() + 1))
            try:
                etag = self._pointer.put(head, "" if seen is None else seen.etag)
            except Changed:
                continue
            self._pointer.follow(head)
            return Lease(head, etag)
        raise Unavailable(f"{self._pointer.url()} was changed by others {TRIES} times while it was claimed")

    def _youngest_epoch(self) -> int:
        """That any key in the store bears."""
        return max((int(each) for stat in self.store.list() for each in _EPOCH.findall(stat.key)), default=0)

    def pin(self, name: str, pinned: bool = True) -> None:
        """By compare-and-swap, without a claim. Raises NotFound; Conflict while HEAD is damaged."""
        for _ in range(TRIES):
            seen = self._pointer.look()
            entry = None if seen is None else seen.head.entry(name)
            if seen is None or entry is None:
                there = "" if seen is None else ", ".join(each.name for each in seen.head.entries)
                raise NotFound(f"{self.run} has no checkpoint {name}; it has: {there or 'none'}")
            if seen.is_copy:
                raise Conflict(f"{self._pointer.url()} is damaged", hint="the next launch of the run repairs it")
            if entry.pinned == pinned:
                return
            head = heads.pinned(seen.head, name, pinned)
            try:
                self._pointer.put(head, seen.etag)
            except Changed:
                continue
            self._pointer.follow(head)
            return
        raise Unavailable(f"{self._pointer.url()} was changed by others {TRIES} times while {name} was pinned")

    # --- writing -----------------------------------------------------------------------------------------------------

    def prefix(self, name: str) -> str:
        """Of a checkpoint's objects."""
        if not documents.is_name(name):
            raise ValueError(f"the name of a checkpoint is {name!r}; it must be letters, digits, '.', '_' and '-'")
        return f"{PLACE}{name}/"

    def write(self, name: str, key: str, pieces: Sequence[Piece], *, timeout_s: float) -> ShardRecord:
        """One shard of a checkpoint that is being made (`shards.write_shard`), by any rank."""
        if not documents.is_key(key) or key == manifests.KEY:
            raise ValueError(f"the key of a shard is {key!r}; it must be a path below its checkpoint")
        self._crash("shard")
        return write_shard(self.store, self.prefix(name), key, pieces, timeout_s=timeout_s)

    def commit(
        self, lease: Lease, manifest: Manifest, keep: Keep, *, loss: float | None = None, timeout_s: float = 60.0
    ) -> Lease:
        """Manifest, then HEAD. Returns the lease that holds from now on. Raises Fenced; Unavailable, after which nobody
        knows whether it happened: call it again with the same manifest, and it will be seen. Raises Conflict when a
        shard is not there, and ValueError for a manifest of another run or epoch, or a step that goes back.

        `manifest.parent` is the last checkpoint that was committed, or that the run went on from: what HEAD names after
        it could not be used, and is let go of (`heads.committed`). Once HEAD has moved, whatever fails is logged."""
        if (manifest.run, manifest.epoch) != (self.run, lease.epoch):
            raise ValueError(
                f"the manifest is of run {manifest.run} and epoch {manifest.epoch}; "
                f"the lease is of {self.run} and {lease.epoch}"
            )
        left = _Left(self._monotonic, timeout_s)
        data = manifests.to_bytes(manifest)
        entry = Entry(
            manifest.name,
            manifest.step,
            hashlib.sha256(data).hexdigest(),
            manifest.size_bytes,
            manifest.created_at,
            loss,
        )
        try:
            check_present(self.store, self.prefix(manifest.name), manifest.shards, timeout_s=left())
            self._put_manifest(manifest.name, data, left())
        except (Damaged, Changed) as exc:
            self._look_again(lease)  # whoever is fenced off may find all that it wrote collected
            raise Conflict(f"{manifest.name} cannot be committed: {exc}") from exc
        moved = self._name(lease, entry, keep, manifest.parent, left)
        self._crash("copy")
        has_followed = self._pointer.follow(moved.head, left())
        self._crash("collect")
        if has_followed:
            gone = [each.name for each in lease.head.entries if moved.head.entry(each.name) is None]
            try:
                self._delete(gone, left())
            except StokerError as exc:
                log.warning("checkpoints that are not kept could not be deleted", run=self.run, why=exc.in_log)
        return moved

    def _put_manifest(self, name: str, data: bytes, timeout_s: float) -> None:
        self._crash("manifest")
        try:
            self.store.put(self.prefix(name) + manifests.KEY, [data], if_absent=True, timeout_s=timeout_s)
        except Changed as exc:
            with suppress(Damaged, NotFound):
                if read_small(self.store, self.prefix(name) + manifests.KEY, manifests.MOST_BYTES)[0] == data:
                    return  # this very commit, whose answer was lost
            raise Changed("it has another manifest; count the attempt in its name") from exc

    def _name(self, lease: Lease, entry: Entry, keep: Keep, parent: str | None, left: "_Left") -> Lease:
        """Move HEAD so that it names the entry. What was changed meanwhile with the same claim (a pin, or this very
        commit, whose answer was lost) is built upon; with another claim it is Fenced."""
        self._crash("head")
        seen = Seen(lease.head, lease.etag, is_copy=False)
        for _ in range(TRIES):
            known = seen.head.entry(entry.name)
            if known is not None and known.sha256 != entry.sha256:
                raise Conflict(f"HEAD names another checkpoint {entry.name}; count the attempt in its name")
            if known is not None and not seen.is_copy:
                return Lease(seen.head, seen.etag)
            if known is not None:
                head = replace(seen.head, sequence=seen.head.sequence + 1)
            else:
                head, _ = heads.committed(seen.head, entry, keep, after=parent)
            with suppress(Changed):
                return Lease(head, self._pointer.put(head, seen.etag, left()))
            seen = self._look_again(lease)
        raise Unavailable(f"{self._pointer.url()} was changed by others {TRIES} times while {entry.name} was committed")

    def _look_again(self, lease: Lease) -> Seen:
        """HEAD as it is now, still of this lease's claim. Raises Fenced."""
        seen = self._pointer.look()
        if seen is None:
            raise Fenced(f"{self._pointer.url()} is gone: the run was moved away or deleted")
        if seen.is_copy and (seen.head.epoch, seen.head.sequence) < (lease.epoch, lease.head.sequence):
            seen = replace(seen, head=lease.head)  # the copy lags behind what this writer has seen itself
        if not seen.head.is_of(lease.head):
            raise Fenced(
                f"another launch has taken {self.run} over: HEAD has epoch {seen.head.epoch}, this one {lease.epoch}"
            )
        return seen

    # --- collecting --------------------------------------------------------------------------------------------------

    def collect(self, lease: Lease, *, timeout_s: float = 60.0) -> list[str]:
        """Delete checkpoints of this and older epochs that HEAD does not name; the names. Of this epoch only those
        older than the newest that is committed: a newer one may be in the making. Looks at HEAD anew, and does nothing
        when fenced off (raises Fenced), or while HEAD is damaged. Sweeps unfinished uploads that are a day old."""
        self._crash("collect")
        left = _Left(self._monotonic, timeout_s)
        found: defaultdict[str, list[str]] = defaultdict(list)
        for stat in self.store.list(PLACE, timeout_s=left()):
            found[stat.key.removeprefix(PLACE).partition("/")[0]].append(stat.key)
        seen = self._look_again(lease)
        if seen.is_copy or not self._pointer.follow(seen.head, left()):
            log.warning("nothing is collected: HEAD or HEAD.copy is not what it should be", run=self.run)
            return []
        names = heads.loose(seen.head, found)
        self.store.delete([key for name in names for key in found[name]], timeout_s=left())
        self.store.sweep(PLACE, older_than_s=_DAY_S, timeout_s=left())
        return names

    def _delete(self, names: Iterable[str], timeout_s: float) -> None:
        for name in names:
            keys = [stat.key for stat in self.store.list(self.prefix(name), timeout_s=timeout_s)]
            self.store.delete(keys, timeout_s=timeout_s)

    # --- reading -----------------------------------------------------------------------------------------------------

    def manifest(self, entry: Entry) -> Manifest:
        """Raises shards.Damaged when it is not the one that HEAD names (digest), or no manifest."""
        try:
            data, _ = read_small(self.store, self.prefix(entry.name) + manifests.KEY, manifests.MOST_BYTES)
        except NotFound as exc:
            raise Damaged("its manifest is missing") from exc
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise Damaged("its manifest is not the one that HEAD names (sha256)")
        manifest = manifests.from_bytes(data)
        if (manifest.run, manifest.name, manifest.step) != (self.run, entry.name, entry.step):
            raise Damaged(f"its manifest is of {manifest.run} {manifest.name}, step {manifest.step}")
        return manifest

    def newest_whole(
        self, use: Callable[[Manifest], None], *, head: Head | None = None
    ) -> tuple[Manifest | None, list[Skipped]]:
        """Newest first: read each manifest and call `use`, which reads what it needs and raises shards.Damaged when
        something is not right; the first that works, and those before it with the reason. (None, []) only when the
        run has no HEAD or HEAD has no entry. Raises NoneWhole when it has some and none works; Unavailable and
        NotPermitted at once, since what cannot be read now may be whole.

        A writer gives `lease.head`, so that nothing is committed between the look at HEAD and the claim; raises Fenced
        when something cannot be used because a younger writer has let go of it. A reader gives none, and when HEAD has
        moved on meanwhile (and what it named was deleted) it looks again and begins anew."""
        manifest: Manifest | None = None
        skipped: list[Skipped] = []
        for _ in range(TRIES):
            now = self._now() if head is None else head
            if now is None or not now.entries:
                return None, []
            manifest, skipped = self._first_whole(now, use)
            if skipped and head is not None:
                self._look_again(Lease(head, ""))
            if not skipped or head is not None or self._now() == now:
                break
        for each in skipped:
            log.warning("checkpoint cannot be used", run=self.run, checkpoint=each.name, why=each.why)
        if manifest is None:
            reasons = "; ".join(f"{each.name}: {each.why}" for each in skipped)
            raise NoneWhole(f"{self.run} has {len(skipped)} checkpoints, and none of them is whole: {reasons}")
        return manifest, skipped

    def _now(self) -> Head | None:
        seen = self._look()
        return None if seen is None else seen.head

    def _first_whole(self, head: Head, use: Callable[[Manifest], None]) -> tuple[Manifest | None, list[Skipped]]:
        skipped: list[Skipped] = []
        for entry in reversed(head.entries):
            try:
                manifest = self.manifest(entry)
                use(manifest)
            except Damaged as exc:
                skipped.append(Skipped(entry.name, entry.step, exc.why))
            else:
                return manifest, skipped
        return None, skipped


def _live(moment: str) -> None:
    """Nobody dies."""


class _Left:
    """Seconds that are left of a time-out; at least one, since whoever is late may still succeed."""

    def __init__(self, monotonic: Callable[[], float], timeout_s: float) -> None:
        self._monotonic = monotonic
        self._end = monotonic() + timeout_s

    def __call__(self) -> float:
        return max(1.0, self._end - self._monotonic())


__all__ = [
    "MOMENTS",
    "PLACE",
    "Crash",
    "Fenced",
    "Lease",
    "NoneWhole",
    "RunStore",
    "Skipped",
]

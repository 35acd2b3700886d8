"""HEAD and HEAD.copy in a store: looked at, moved by compare-and-swap, followed. `runs` decides what they say."""

from contextlib import suppress
from dataclasses import dataclass

from stoker.base import logs
from stoker.base.errors import Conflict, InvalidInput, NotFound, StokerError
from stoker.registry import heads
from stoker.registry.documents import Damaged
from stoker.registry.heads import Head
from stoker.registry.stores import Changed, Store

HEAD = "HEAD"
COPY = "HEAD.copy"

TRIES = 32
"""Of a compare-and-swap: each one that fails was somebody else's success."""

log = logs.get("registry.runs")


class NoneWhole(Conflict):
    """A run has checkpoints, and none of them is whole. Never taken for a run that has none."""

    code = "no_whole_checkpoint"


@dataclass(frozen=True)
class Seen:
    """What the store says. `etag` is of the object HEAD, "" when there is none; `is_copy`: HEAD is damaged or lost, and
    this is what HEAD.copy says."""

    head: Head
    etag: str
    is_copy: bool


class Pointer:
    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run

    def look(self) -> Seen | None:
        """None: the run never began. Raises NoneWhole when neither can be used, Conflict for those of another run."""
        seen = self._look()
        if seen is not None and not seen.etag:
            seen = (
                self._look()
            )  # the first claim of a run may have written both between the looks at the one and the other
        if seen is not None and seen.is_copy:
            why = "damaged" if seen.etag else "gone"
            log.warning("HEAD cannot be used; HEAD.copy is", run=self._run, why=why, sequence=seen.head.sequence)
        return seen

    def _look(self) -> Seen | None:
        etag, why = "", "is gone"
        try:
            data, etag = read_small(self._store, HEAD, heads.MOST_BYTES)
            return Seen(self._of_this_run(heads.from_bytes(data)), etag, is_copy=False)
        except NotFound:
            pass
        except Damaged as exc:
            why = f"is damaged: {exc.why}"
            etag = etag or self._store.stat(HEAD).etag
        try:
            data, _ = read_small(self._store, COPY, heads.MOST_BYTES)
            return Seen(self._of_this_run(heads.from_bytes(data)), etag, is_copy=True)
        except NotFound as exc:
            if not etag:
                return None
            raise NoneWhole(f"{self.url(HEAD)} {why}, and there is no {COPY}") from exc
        except Damaged as exc:
            raise NoneWhole(f"{self.url(HEAD)} {why}; {COPY} is damaged, too: {exc.why}") from exc

    def _of_this_run(self, head: Head) -> Head:
        if head.run != self._run:
            raise Conflict(
                f"{self.url(HEAD)} is of the run {head.run}, and this one is {self._run}",
                hint="give each run a place of its own",
            )
        return head

    def put(self, head: Head, etag: str, timeout_s: float = 60.0) -> str:
        """Compare and swap. Raises Changed."""
        data = [heads.to_bytes(head)]
        if etag:
            return self._store.put(HEAD, data, if_match=etag, timeout_s=timeout_s)
        return self._store.put(HEAD, data, if_absent=True, timeout_s=timeout_s)

    def follow(self, head: Head, timeout_s: float = 60.0) -> bool:
        """HEAD.copy says what HEAD says, or something newer: never goes back. False when it could not be written, which
        is no failure of what HEAD has said already."""
        try:
            for _ in range(TRIES):
                if self._has_followed(head, timeout_s):
                    return True
        except StokerError as exc:
            log.warning("HEAD.copy could not be written", run=self._run, why=exc.in_log)
        return False

    def _has_followed(self, head: Head, timeout_s: float) -> bool:
        etag = ""
        try:
            data, etag = read_small(self._store, COPY, heads.MOST_BYTES)
            copy = heads.from_bytes(data)
            if (copy.epoch, copy.sequence) >= (head.epoch, head.sequence):
                return True
        except NotFound:
            pass
        except Damaged:
            etag = etag or self._store.stat(COPY).etag
        try:
            if etag:
                self._store.put(COPY, [heads.to_bytes(head)], if_match=etag, timeout_s=timeout_s)
            else:
                self._store.put(COPY, [heads.to_bytes(head)], if_absent=True, timeout_s=timeout_s)
        except Changed:
            return False
        return True

    def url(self, key: str = HEAD) -> str:
        return f"{self._store.url.rstrip('/')}/{key}"


def read_small(store: Store, key: str, most_bytes: int) -> tuple[bytes, str]:
    """As `Store.read`, but Damaged where it is larger."""
    try:
        return store.read(key, most_bytes=most_bytes)
    except InvalidInput as exc:
        with suppress(NotFound):
            if (size := store.stat(key).size_bytes) > most_bytes:
                raise Damaged(f"{key} has {size} bytes, and {most_bytes} is the most") from exc
        raise

"""The commit protocol, explored to the last interleaving of its calls, and that the exploration finds what is broken on
purpose. `commit_world` says what is explored and what must hold."""

import re
from typing import Any

import pytest
from commit_world import Faults, Scenario, check, small, writer

from stoker.registry import heads
from stoker.registry.heads import Entry, Head, Keep
from stoker.registry.pointers import COPY, HEAD, Pointer, Seen
from stoker.registry.runs import Fenced, Lease, RunStore
from stoker.registry.stores import Changed


@pytest.mark.parametrize("scenario", small(), ids=[scenario.name for scenario in small()])
def test_what_head_names_is_whole_and_never_goes_back_whatever_happens_in_between(scenario: Scenario) -> None:
    report = check(scenario)

    assert report.problem is None, str(report.problem)
    assert report.is_complete
    assert report.settled > 0


# --- protocols that are broken on purpose ---------------------------------------------------------------------------


class HeadFirst(RunStore):
    """HEAD moves before the manifest is there."""

    def _put_manifest(self, name: str, data: bytes, timeout_s: float) -> None:
        self.after_head = (name, data, timeout_s)

    def _name(self, *args: Any) -> Lease:
        lease = super()._name(*args)
        super()._put_manifest(*self.after_head)
        return lease


class WithoutCompare(RunStore):
    """HEAD is written, whoever has written it meanwhile."""

    class Blind(Pointer):
        def put(self, head: Head, etag: str, timeout_s: float = 60.0) -> str:
            return self._store.put(HEAD, [heads.to_bytes(head)])

    def __init__(self, store: Any, run: str, **options: Any) -> None:
        super().__init__(store, run, **options)
        self._pointer = self.Blind(store, run)


class DeletesFirst(RunStore):
    """What is not kept is deleted before HEAD has let go of it."""

    def _name(self, lease: Lease, entry: Entry, keep: Keep, parent: str | None, left: Any) -> Lease:
        _, gone = heads.committed(lease.head, entry, keep, after=parent)
        self._delete([each.name for each in gone], left())
        return super()._name(lease, entry, keep, parent, left)


class WithoutFence(RunStore):
    """Whoever finds HEAD changed builds upon it, whosever it is."""

    def _look_again(self, lease: Lease) -> Seen:
        seen = self._pointer.look()
        assert seen is not None
        return seen


class CollectsAll(RunStore):
    """Whatever HEAD does not name is deleted: what a younger writer is making, too."""

    def collect(self, lease: Lease, *, timeout_s: float = 60.0) -> list[str]:
        found = {stat.key.split("/")[1] for stat in self.store.list("checkpoints/")}
        names = sorted(found - {entry.name for entry in lease.head.entries})
        self._delete(names, timeout_s)
        return names


class WithoutCopy(RunStore):
    """HEAD.copy is left as it was by the claim, and what it names is deleted."""

    class Lazy(Pointer):
        def follow(self, head: Head, timeout_s: float = 60.0) -> bool:
            return super().follow(head, timeout_s) if not head.entries else True

    def __init__(self, store: Any, run: str, **options: Any) -> None:
        super().__init__(store, run, **options)
        self._pointer = self.Lazy(store, run)


class CopyGoesBack(RunStore):
    """HEAD.copy is written over whatever is there."""

    class Blind(Pointer):
        def follow(self, head: Head, timeout_s: float = 60.0) -> bool:
            self._store.put(COPY, [heads.to_bytes(head)])
            return True

    def __init__(self, store: Any, run: str, **options: Any) -> None:
        super().__init__(store, run, **options)
        self._pointer = self.Blind(store, run)


class DoesNotKnowItself(RunStore):
    """A compare-and-swap that failed was somebody else, even where it was this one, whose answer was lost."""

    def _name(self, lease: Lease, entry: Entry, keep: Keep, parent: str | None, left: Any) -> Lease:
        head, _ = heads.committed(lease.head, entry, keep, after=parent)
        try:
            return Lease(head, self._pointer.put(head, lease.etag, left()))
        except Changed as exc:
            raise Fenced("somebody has changed HEAD") from exc


def pair(kind: type[RunStore], faults: Faults | None = None, begun: int = 1) -> Scenario:
    return Scenario(kind.__name__, (writer("a", 1, kind), writer("b", 1, kind)), faults or Faults(), begun)


BROKEN = [
    (pair(HeadFirst), "HEAD names s00000020-e000[23]-0, whose manifest is not there"),
    (pair(WithoutCompare), "moved HEAD|made HEAD go back"),
    (pair(DeletesFirst), "HEAD names s00000010-e0001-0, whose (manifest|shard) is not there"),
    (pair(WithoutFence), "moved HEAD in the epoch|stale epoch|made HEAD go back|process . failed"),
    (pair(CollectsAll), "is not there|process . failed"),
    (pair(WithoutCopy), "HEAD.copy names s00000010-e0001-0, whose (manifest|shard) is not there"),
    (pair(CopyGoesBack), "made HEAD.copy go back"),
    (
        Scenario("lost", (writer("a", 1, DoesNotKnowItself),), Faults(lost=1), 1),
        "a was told that another has taken over, and nobody has",
    ),
]


@pytest.mark.parametrize(("scenario", "why"), BROKEN, ids=[scenario.name for scenario, _ in BROKEN])
def test_a_protocol_that_is_broken_on_purpose_is_found(scenario: Scenario, why: str) -> None:
    problem = check(scenario, most_states=100_000).problem

    assert problem is not None, "the exploration found nothing"
    assert re.search(why, problem.why), str(problem)
    assert problem.trace

"""Several processes at one store, as a model that is explored: the real `RunStore`, one call of the store at a time.

A process is a function that is given a store. It is run from its start with the answers that it has had so far, and
stopped at the first call that has no answer yet, so a state of the world is what the store holds and what each process
has been told. Any process may be the next whose call is answered; a process may die at any call, an answer may be lost
although the call happened, a call may fail, or happen later, when whoever made it has given up.

    python tests/registry/commit_world.py --large     every scenario, with more of everything
"""

import hashlib
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.append(str(Path(__file__).parents[1] / "queue"))
from checkpoint_builders import RUN, manifest_of, whole
from exploration import Move, Report, explore
from structlog.testing import capture_logs

from stoker.base.errors import InvalidInput, NotFound, Unavailable
from stoker.registry import heads, manifests
from stoker.registry.heads import Head, Keep
from stoker.registry.manifests import Manifest
from stoker.registry.runs import Fenced, Lease, RunStore
from stoker.registry.shards import Damaged, read_pieces
from stoker.registry.stores import Buffer, Changed, Stat
from stoker.testing.stores import MemoryStore

ERRORS = {kind.__name__: kind for kind in (Changed, NotFound, Unavailable, InvalidInput)}
KEEP = Keep(last=1, best=0)
"""The least that there is, so that each commit lets something go."""


@dataclass(frozen=True)
class Call:
    method: str
    key: str
    data: bytes = b""
    if_absent: bool = False
    if_match: str | None = None
    start: int = 0
    length: int | None = None

    @property
    def changes(self) -> bool:
        return self.method in ("put", "delete")

    def __str__(self) -> str:
        return f"{self.method} {self.key.removeprefix('checkpoints/')}"


class Waiting(BaseException):
    """For the answer to a call."""

    def __init__(self, call: Call) -> None:
        self.call = call


class Asking:
    """A store that gives the answers that were given before, and then waits."""

    url = "memory://model"

    def __init__(self, answers: Sequence[Any]) -> None:
        self._answers = iter(answers)

    def _ask(self, call: Call) -> Any:
        answer = next(self._answers, self)
        if answer is self:
            raise Waiting(call)
        if isinstance(answer, str) and answer in ERRORS:
            raise ERRORS[answer](str(call))
        return answer

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        return self._ask(Call("put", key, b"".join(pieces), if_absent, if_match))

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        return self._ask(Call("get", key, start=start, length=length))

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        return self._ask(Call("read", key))

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        return self._ask(Call("stat", key))

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        return iter(self._ask(Call("list", prefix)))

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        for key in keys:
            self._ask(Call("delete", key))

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        return 0


def answer(objects: dict[str, bytes], call: Call) -> Any:
    """What a store that holds these objects answers, after it has done it."""
    store = MemoryStore(objects, now=lambda: 0.0, is_strict=True)
    try:
        match call.method:
            case "put":
                return store.put(call.key, [call.data], if_absent=call.if_absent, if_match=call.if_match)
            case "get":
                return store.get(call.key, start=call.start, length=call.length)
            case "list":
                return tuple(store.list(call.key))
            case "delete":
                return store.delete([call.key])
            case _:
                return getattr(store, call.method)(call.key)
    except tuple(ERRORS.values()) as exc:
        return type(exc).__name__


# --- what processes do ----------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """What a process knows that others may hold it to: steps of which it was told that they are committed."""

    acknowledged: list[int] = field(default_factory=list)
    fenced: str | None = None
    """Who was told that another has taken over."""


Program = Callable[[Any, Notes], None]


def writer(name: str, commits: int, kind: type[RunStore] = RunStore, tries: int = 2) -> Program:
    """A launch: claims, goes on from the newest, collects, commits so often. Tries again what failed for now."""

    def insist(act: Callable[[], Any]) -> Any:
        for attempt in range(tries):
            try:
                return act()
            except Unavailable:
                if attempt == tries - 1:
                    raise
        raise AssertionError

    def run(store: Any, notes: Notes) -> None:
        runs = kind(store, RUN, writer=name, monotonic=lambda: 0.0)
        try:
            lease = insist(runs.claim)
            found, skipped = runs.newest_whole(lambda manifest: use(runs, manifest), head=lease.head)
            if skipped or (found.step if found else None) != newest_of(lease.head):
                raise AssertionError(f"{name} claimed {lease.head.entries} and resumed from {found}, {skipped}")
            runs.collect(lease)
            step, parent = (found.step, found.name) if found else (0, None)
            for _ in range(commits):
                step += 10
                lease = insist(lambda lease=lease, step=step, parent=parent: save(runs, lease, step, parent))
                parent = lease.head.entries[-1].name
                notes.acknowledged.append(step)
        except Fenced:
            notes.fenced = name
        except Unavailable:
            pass  # it gives up; another launch would go on

    return run


def reader(store: Any, notes: Notes) -> None:
    """Anybody who wants the newest checkpoint, while it goes on."""
    runs = RunStore(store, RUN, writer="reader", monotonic=lambda: 0.0)
    with suppress(Unavailable):
        runs.newest_whole(lambda manifest: use(runs, manifest))


def pinner(store: Any, notes: Notes) -> None:
    """A person who pins the newest."""
    runs = RunStore(store, RUN, writer="person", monotonic=lambda: 0.0)
    try:
        found = runs.head()
        if found is not None and found[0].entries:
            runs.pin(found[0].entries[-1].name)
    except (Unavailable, NotFound):
        pass


def save(runs: RunStore, lease: Lease, step: int, parent: str | None) -> Lease:
    name = manifests.name_of(step, lease.epoch)
    shard = runs.write(name, "0", [whole("w", "U8", (4,), f"{step:04d}".encode())], timeout_s=1.0)
    return runs.commit(lease, manifest_of(lease, step, [shard], parent), KEEP)


def use(runs: RunStore, manifest: Manifest) -> None:
    found = read_pieces(runs.store, runs.prefix(manifest.name), manifest.shards, {"w": None})
    if bytes(found["w"][2]) != f"{manifest.step:04d}".encode():
        raise AssertionError("silently wrong")


# --- the world ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Faults:
    """How often each may happen, all processes together."""

    deaths: int = 0
    lost: int = 0
    """Answers of a call that happened."""
    failed: int = 0
    late: int = 0
    """Calls that fail for whoever made them, and happen at any time afterwards, or never."""
    at_head: bool = False
    """Answers are lost and calls come late only where it matters most: at HEAD."""

    def may_hit(self, call: Call) -> bool:
        return call.changes and (not self.at_head or call.key == "HEAD")


@dataclass(frozen=True)
class Scenario:
    name: str
    programs: tuple[Program, ...]
    faults: Faults = Faults()
    begun: int = 0
    """Checkpoints that the run has already."""


class Histories:
    """What processes have been told, as numbers, and where that leaves them."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._numbers: dict[tuple[int, Hashable], int] = {}
        self._answers: list[tuple[Any, ...]] = [()]
        self._found: dict[tuple[int, int], tuple[Call | None, Notes, str | None]] = {}

    def after(self, history: int, told: Any) -> int:
        found = self._numbers.get((history, told))
        if found is None:
            found = self._numbers[history, told] = len(self._answers)
            self._answers.append((*self._answers[history], told))
        return found

    def where(self, process: int, history: int) -> tuple[Call | None, Notes, str | None]:
        """The call that it waits for (None: it has ended), its notes, and what went wrong in it."""
        key = process, history
        if key not in self._found:
            notes, call, why = Notes(), None, None
            try:
                self._programs[process](Asking(self._answers[history]), notes)
            except Waiting as waiting:
                call = waiting.call
            except Exception as exc:
                why = f"process {process} failed: {type(exc).__name__}: {exc}"
            self._found[key] = call, notes, why
        return self._found[key]


@dataclass
class World:
    scenario: Scenario
    histories: Histories
    objects: dict[str, bytes]
    """Shared by copies, and never changed: whoever changes something makes another one."""
    told: list[int]
    dead: list[bool]
    late: tuple[tuple[int, Call], ...]
    left: Faults
    why: str | None = None
    acknowledged: int = 0
    """The newest step of which any process was told that it is committed."""
    has_changed: bool = True
    """Whether the last move changed an object."""
    is_there: frozenset[tuple[str, bytes]] = frozenset()

    @classmethod
    def begin(cls, scenario: Scenario) -> "World":
        count = len(scenario.programs)
        store = MemoryStore(now=lambda: 0.0)
        if scenario.begun:
            writer("before", scenario.begun)(store, Notes())
        histories = Histories(scenario.programs)
        is_there = frozenset(store.objects.items())
        return cls(
            scenario, histories, store.objects, [0] * count, [False] * count, (), scenario.faults, is_there=is_there
        )

    def copy(self) -> "World":
        return World(
            self.scenario,
            self.histories,
            self.objects,
            list(self.told),
            list(self.dead),
            self.late,
            self.left,
            self.why,
            self.acknowledged,
            False,
            self.is_there,
        )

    def key(self) -> Hashable:
        told = tuple(-1 if dead else each for each, dead in zip(self.told, self.dead, strict=True))
        return told, self.is_there, self.late, self.left, self.why, self.acknowledged

    def _call(self, process: int) -> Call | None:
        return None if self.dead[process] else self.histories.where(process, self.told[process])[0]

    def _notes(self, process: int) -> Notes:
        return self.histories.where(process, self.told[process])[1]

    def moves(self) -> Iterator[Move]:
        for process in range(len(self.told)):
            call = self._call(process)
            if call is None:
                continue
            who = f"process {process}"
            yield Move(f"{who}: {call}", "go", (process,))
            if self.left.deaths:
                yield Move(f"{who} dies before: {call}", "die", (process,), is_fault=True)
            if self.left.failed:
                yield Move(f"{who}: {call} fails", "fail", (process,), is_fault=True)
            if self.left.lost and self.left.may_hit(call):
                yield Move(f"{who}: {call}, and the answer is lost", "lose", (process,), is_fault=True)
            if self.left.late and self.left.may_hit(call):
                yield Move(f"{who}: {call} is given up, and not over", "delay", (process,), is_fault=True)
        for place, (process, call) in enumerate(self.late):
            yield Move(f"what process {process} gave up happens: {call}", "arrive", (place,))
            yield Move(f"what process {process} gave up never happens: {call}", "vanish", (place,))

    def _do(self, process: int) -> Any:
        call = self._call(process)
        assert call is not None
        return self._apply(process, call)

    def _apply(self, process: int, call: Call) -> Any:
        before = self.objects
        if not call.changes:
            return answer(before, call)
        self.objects = dict(before)
        found = answer(self.objects, call)
        self.is_there = frozenset(self.objects.items())
        self.has_changed = True
        self.why = self.why or moved_wrongly(process, before, self.objects)
        return found

    def _tell(self, process: int, told: Any) -> None:
        self.told[process] = self.histories.after(self.told[process], told)
        self.acknowledged = max([self.acknowledged, *self._notes(process).acknowledged])

    def go(self, process: int) -> None:
        self._tell(process, self._do(process))

    def die(self, process: int) -> None:
        self.dead[process] = True
        self.left = replace(self.left, deaths=self.left.deaths - 1)

    def fail(self, process: int) -> None:
        self._tell(process, "Unavailable")
        self.left = replace(self.left, failed=self.left.failed - 1)

    def lose(self, process: int) -> None:
        self._do(process)
        self._tell(process, "Unavailable")
        self.left = replace(self.left, lost=self.left.lost - 1)

    def delay(self, process: int) -> None:
        call = self._call(process)
        assert call is not None
        self.late = (*self.late, (process, call))
        self._tell(process, "Unavailable")
        self.left = replace(self.left, late=self.left.late - 1)

    def arrive(self, place: int) -> None:
        process, call = self.late[place]
        self.vanish(place)
        self._apply(process, call)

    def vanish(self, place: int) -> None:
        self.late = self.late[:place] + self.late[place + 1 :]

    @property
    def is_settled(self) -> bool:
        return not self.late and all(self._call(process) is None for process in range(len(self.told)))

    def broken(self) -> str | None:
        for process in range(len(self.told)):
            why = None if self.dead[process] else self.histories.where(process, self.told[process])[2]
            if why is not None:
                return why
        if self.why is not None:
            return self.why
        if self.has_changed:
            why = self._names_what_is_not_whole("HEAD") or self._names_what_is_not_whole("HEAD.copy")
            if why is not None:
                return why
        head = head_of(self.objects.get("HEAD"))
        fenced = {self._notes(process).fenced for process in range(len(self.told))}
        if head is not None and head.writer in fenced:
            return f"{head.writer} was told that another has taken over, and nobody has"
        if self.acknowledged > (newest_of(head) or 0):
            return f"step {self.acknowledged} was committed, and HEAD names {newest_of(head)}"
        return self._unrecoverable(head) if self.is_settled else None

    def _names_what_is_not_whole(self, key: str) -> str | None:
        head = head_of(self.objects.get(key))
        for entry in () if head is None else head.entries:
            data = self.objects.get(f"checkpoints/{entry.name}/manifest.json")
            if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
                return f"{key} names {entry.name}, whose manifest is not there"
            for shard in manifests.from_bytes(data).shards:
                there = self.objects.get(f"checkpoints/{entry.name}/{shard.key}")
                if there is None or hashlib.sha256(there).hexdigest() != shard.chunks[0]:
                    return f"{key} names {entry.name}, whose shard is not there"
        return None

    def _unrecoverable(self, head: Head | None) -> str | None:
        """After everything: the next launch finds the newest, and leaves nothing that nobody needs."""
        store = MemoryStore(dict(self.objects), now=lambda: 0.0)
        runs = RunStore(store, RUN, writer="after", monotonic=lambda: 0.0)
        try:
            lease = runs.claim()
            found, skipped = runs.newest_whole(lambda manifest: use(runs, manifest), head=lease.head)
            runs.collect(lease)
        except Exception as exc:
            return f"the next launch failed: {exc}"
        if skipped or (found.step if found else None) != newest_of(head):
            return f"the next launch goes on from {found}, and HEAD named {newest_of(head)}"
        there = {key.split("/")[1] for key in store.objects if key.startswith("checkpoints/")}
        if there != {entry.name for entry in lease.head.entries}:
            return f"after collecting there is {sorted(there)}, and HEAD names {lease.head.entries}"
        return None


def moved_wrongly(process: int, before: dict[str, bytes], after: dict[str, bytes]) -> str | None:
    """What is wrong with a change that a process made to HEAD or its copy."""
    copies = head_of(before.get("HEAD.copy")), head_of(after.get("HEAD.copy"))
    if copies[0] is not None and (copies[1] is None or copies[1].sequence < copies[0].sequence):
        return f"process {process} made HEAD.copy go back"
    old, new = head_of(before.get("HEAD")), head_of(after.get("HEAD"))
    if old == new:
        return None
    if new is None:
        return f"process {process} removed HEAD"
    if old is None:
        return None
    names = [{entry.name for entry in head.entries} for head in (old, new)]
    if new.sequence != old.sequence + 1 or new.epoch < old.epoch:
        return f"process {process} moved HEAD from {old.epoch}/{old.sequence} to {new.epoch}/{new.sequence}"
    if new.epoch > old.epoch and names[0] != names[1]:
        return f"process {process} changed checkpoints with a claim"
    if new.epoch == old.epoch and new.writer != old.writer:
        return f"process {process} ({new.writer}) moved HEAD in the epoch of {old.writer}"
    if (newest_of(new) or 0) < (newest_of(old) or 0):
        return f"process {process} made HEAD go back from step {newest_of(old)} to {newest_of(new)}"
    fresh = [manifests.parts_of(name) for name in names[1] - names[0]]
    if any(parts is None or parts[1] != new.epoch for parts in fresh):
        return f"process {process} named a checkpoint of a stale epoch: {names[1] - names[0]}"
    return None


def head_of(data: bytes | None) -> Head | None:
    return None if data is None else heads.from_bytes(data)


def newest_of(head: Head | None) -> int | None:
    return head.entries[-1].step if head is not None and head.entries else None


# --- scenarios ------------------------------------------------------------------------------------------------------


def small(kind: type[RunStore] = RunStore) -> list[Scenario]:
    """What `make test` explores."""
    one, two = writer("a", 1, kind), writer("a", 2, kind)
    other = writer("b", 1, kind)
    return [
        Scenario("two writers that may die", (one, other), Faults(deaths=1), 1),
        Scenario("an answer is lost", (two,), Faults(lost=1, failed=1)),
        Scenario("two writers, an answer is lost", (one, writer("b", 0, kind)), Faults(lost=1, at_head=True), 1),
        Scenario("two writers, a call comes late", (one, writer("b", 0, kind)), Faults(late=1, at_head=True)),
        Scenario("a writer, and a person who pins", (two, pinner), Faults(lost=1, at_head=True), 1),
        Scenario("a writer, and a reader", (two, reader), Faults(deaths=1), 1),
    ]


def large() -> list[Scenario]:
    one, other = writer("a", 1), writer("b", 1)
    return [
        *small(),
        Scenario("two writers, an answer is lost at HEAD", (one, other), Faults(lost=1, at_head=True)),
        Scenario("two writers, a late call at HEAD", (one, writer("b", 1, tries=1)), Faults(late=1, at_head=True)),
        Scenario("two writers", (writer("a", 2), writer("b", 2))),
        Scenario("two writers of more that may die", (writer("a", 3), writer("b", 2)), Faults(deaths=2), 1),
        Scenario("a writer, and a person who pins, any answer is lost", (writer("a", 2), pinner), Faults(lost=1), 1),
        Scenario("two writers, any answer is lost", (one, other), Faults(lost=1), 1),
        Scenario("two writers, any call comes late", (one, other), Faults(late=1), 1),
        Scenario("two writers, a death and a lost answer", (one, other), Faults(1, 1, at_head=True), 1),
        Scenario("a writer, a person who pins, a reader", (writer("a", 2), pinner, reader), Faults(), 1),
    ]


@contextmanager
def remembering() -> Iterator[None]:
    """Each process is run from its start for each of its calls: what is pure is computed once."""
    with ExitStack() as stack:
        for module, name in ((heads, "from_bytes"), (heads, "to_bytes"), (manifests, "from_bytes")):
            stack.enter_context(patch.object(module, name, lru_cache(maxsize=100_000)(getattr(module, name))))
        stack.enter_context(capture_logs())  # a warning in each of ten thousand states
        yield


def check(scenario: Scenario, most_states: int | None = None) -> Report:
    with remembering():
        return explore(World.begin(scenario), most_states=most_states)


def main() -> None:
    for scenario in large() if "--large" in sys.argv else small():
        began = time.perf_counter()
        report = check(scenario)
        seconds = time.perf_counter() - began
        print(  # noqa: T201 - the result
            f"{scenario.name}: {report.states} states, {report.transitions} transitions, depth {report.depth}, "
            f"{seconds:.1f} s: {report.problem or 'nothing is wrong'}",
            flush=True,
        )


__all__ = ["Damaged", "Faults", "Scenario", "World", "check", "large", "small", "writer"]

if __name__ == "__main__":
    main()

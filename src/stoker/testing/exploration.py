"""Every state that a model can reach, breadth first, so that what breaks it comes with the shortest way there.

It knows nothing of what is modelled: a model can be copied, says what may happen next, and what is wrong with it.
"""

import gc
from array import array
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple, Protocol, Self


class Move(NamedTuple):
    """Something that may happen: the method `name` of the model, with `args`, on a copy. A fault is something that need
    not happen: the promise that everything ends must hold without counting on it."""

    words: str
    name: str
    args: tuple[Any, ...] = ()
    is_fault: bool = False


class Model(Protocol):
    def copy(self) -> Self: ...

    def key(self) -> Hashable:
        """Equal for states from which the same can happen."""
        ...

    def moves(self) -> Iterable[Move]: ...

    def broken(self) -> str | None:
        """What is wrong in this state; None: nothing."""
        ...

    @property
    def is_settled(self) -> bool:
        """Everything has come to its end."""
        ...


class Problem(NamedTuple):
    """`trace`: the shortest way there, in words."""

    why: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2}. {words}" for number, words in enumerate(self.trace, start=1))
        return f"{self.why}\n{steps or '  (at the start)'}"


class Report(NamedTuple):
    """`settled`: states in which everything has come to its end. `is_complete` False: there are more states."""

    states: int
    transitions: int
    settled: int
    depth: int
    is_complete: bool
    problem: Problem | None


class _Seen:
    """States by the hash of their key (64 bits: of ten million states two share one with a chance of 3 in a million),
    each with the move that led there first."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._parents = array("q")
        self._words: list[str] = []
        self.depths = array("q")

    def number(self, key: Hashable, parent: int, words: str) -> tuple[int, bool]:
        """The number of a state, and whether it is a new one."""
        fresh = len(self._numbers)
        number = self._numbers.setdefault(hash(key), fresh)
        if number == fresh:
            self._parents.append(parent)
            self._words.append(words)
            self.depths.append(self.depths[parent] + 1 if self.depths else 0)
        return number, number == fresh

    def trace(self, number: int) -> tuple[str, ...]:
        words = []
        while number > 0:
            words.append(self._words[number])
            number = self._parents[number]
        return tuple(reversed(words))

    def __len__(self) -> int:
        return len(self._numbers)


def explore(start: Model, *, most_states: int | None = None) -> Report:
    """Stops at the first state that is broken, or from which nothing but faults leads to an end."""
    was_on = gc.isenabled()
    gc.disable()  # states hold no cycles, and looking for some takes a third of the time
    try:
        return _explore(start, most_states)
    finally:
        if was_on:
            gc.enable()


def _explore(start: Model, most_states: int | None) -> Report:
    seen = _Seen()
    seen.number(start.key(), 0, "")
    queue: deque[tuple[int, Model]] = deque([(0, start)])
    before, after, settled, transitions = array("q"), array("q"), bytearray(), 0
    why = start.broken()
    found = 0
    settled.append(start.is_settled)
    while queue and why is None and (most_states is None or len(seen) < most_states):
        number, state = queue.popleft()
        for move in state.moves():
            copied = state.copy()
            getattr(copied, move.name)(*move.args)
            transitions += 1
            found, is_new = seen.number(copied.key(), number, move.words)
            if not move.is_fault and found != number:
                before.append(number)
                after.append(found)
            if is_new:
                settled.append(copied.is_settled)
                why = copied.broken()
                if why is not None:
                    break
                queue.append((found, copied))
    problem = None if why is None else Problem(why, seen.trace(found))
    is_complete = not queue and problem is None
    if is_complete:
        stuck = _first_stuck(settled, before, after)
        if stuck is not None:
            problem = Problem("from here nothing leads to an end", seen.trace(stuck))
    return Report(len(seen), transitions, sum(settled), max(seen.depths), is_complete, problem)


def _first_stuck(settled: bytearray, before: "array[int]", after: "array[int]") -> int | None:
    """The first state from which no settled one can be reached."""
    ends = bytearray(settled)
    changed = True
    while changed:
        changed = False
        # Most moves lead to a state with a higher number, so from behind few rounds are enough.
        for i in range(len(before) - 1, -1, -1):
            if ends[after[i]] and not ends[before[i]]:
                ends[before[i]] = changed = True
    return next((number for number, has_end in enumerate(ends) if not has_end), None)

"""Time: one heap of what happens when. The whole of the simulation's clock.

Equal times have a stated order: the smaller rank first, then what was asked for first.
"""

import heapq
from collections.abc import Callable
from enum import IntEnum

Action = Callable[[], None]


class Rank(IntEnum):
    """What goes first at equal times: what the world does, then who watches it, then who decides."""

    WORLD = 0
    """Machines and processes: booted, ready, gone, interrupted."""
    WATCH = 1
    """Samples for metrics and reports."""
    SCHEDULE = 2
    SCALE = 3
    NODES = 4


class Kernel:
    def __init__(self, begins_at: float) -> None:
        self.now = begins_at
        self._heap: list[tuple[float, int, int, Action]] = []
        self._asked = 0

    def at(self, when: float, rank: Rank, action: Action) -> None:
        """Raises ValueError for a moment that has passed: time does not go back."""
        if when < self.now:
            raise ValueError(f"{when} s has passed; it is {self.now} s")
        self._asked += 1
        heapq.heappush(self._heap, (when, rank, self._asked, action))

    def after(self, delay_s: float, rank: Rank, action: Action) -> None:
        self.at(self.now + delay_s, rank, action)

    @property
    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Do the next thing."""
        self.now, _, _, action = heapq.heappop(self._heap)
        action()

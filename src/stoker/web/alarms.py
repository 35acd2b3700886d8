"""A timer that is set and put off for every request, and rings for hardly any."""

import asyncio
import math
from collections.abc import Callable


def _nobody() -> None:
    pass


class Alarm:
    """Calls `ring` when the time comes that was set last.

    The loop is asked for a timer of its own only when there is none that looks early enough: one that finds nothing due
    looks again later. So setting it and switching it off cost an assignment, where a timer for each request is made,
    sorted in and taken out again.
    """

    __slots__ = ("_at", "_loop", "_ring", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """`at` is the loop's time."""
        self._at = at
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._look)
        elif at < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(at, self._look)

    def off(self) -> None:
        self._at = math.inf

    def close(self) -> None:
        """It rings no more, and neither it nor the loop holds on to whoever it was for."""
        self._at = math.inf
        self._ring = _nobody
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._at == math.inf:
            return
        if self._at <= self._loop.time():
            self._at = math.inf
            self._ring()
        else:
            self._timer = self._loop.call_at(self._at, self._look)

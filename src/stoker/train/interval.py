"""When the next checkpoint is due: every so many steps, every so many seconds, or by Young's rule."""

from stoker.base.clock import Clock
from stoker.spec.run import RunCheckpoints
from stoker.train.planning import interval_s

FIRST_GUESS_S = 1.0
"""What a save costs training until one was seen."""


class Interval:
    """`interruptions_per_hour`: how often a node of this kind is taken away, all nodes of the run together."""

    def __init__(self, wanted: RunCheckpoints, *, interruptions_per_hour: float, clock: Clock, step: int) -> None:
        self._wanted, self._rate, self._clock = wanted, interruptions_per_hour, clock
        self._cost_s = FIRST_GUESS_S
        self._step, self._at = step, clock.monotonic()

    @property
    def seconds(self) -> float | None:
        """None: it goes by steps alone."""
        if self._wanted.every_seconds is not None:
            return self._wanted.every_seconds
        return None if self._wanted.every_steps is not None else interval_s(self._cost_s, self._rate)

    def is_over(self, step: int) -> bool:
        """After step `step`."""
        every = self._wanted.every_steps
        if every is not None and step > self._step and step // every > self._step // every:
            return True
        seconds = self.seconds
        return seconds is not None and self._clock.monotonic() - self._at >= seconds

    def begin(self, step: int) -> None:
        """A save of that step was begun."""
        self._step, self._at = step, self._clock.monotonic()

    def took(self, stall_s: float) -> None:
        """What a save cost training."""
        self._cost_s = stall_s

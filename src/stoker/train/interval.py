"""When the next checkpoint is due: every so many steps, every so many seconds, or by Young's rule."""

from stoker.base.clock import Clock
from stoker.spec.run import RunCheckpoints
from stoker.train.planning import interval_s

FIRST_GUESS_S = 1.0
"""What a save costs training until one was seen."""

LATE_S = 2.0
"""A save that takes less is not late, however short steps are."""


class Interval:
    """`interruptions_per_hour`: how often a node of this kind is taken away, all nodes of the run together."""

    def __init__(self, wanted: RunCheckpoints, *, interruptions_per_hour: float, clock: Clock, step: int) -> None:
        self._wanted, self._rate, self._clock = wanted, interruptions_per_hour, clock
        self._cost_s = FIRST_GUESS_S
        self._step, self._at = step, clock.monotonic()
        self._durable_step, self._durable_at = step, self._at
        self._is_late = False

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

    def durable(self, step: int) -> None:
        """The save of that step is durable."""
        self._durable_step, self._durable_at = step, self._clock.monotonic()
        self._is_late = False

    def late(self, step: int) -> str | None:
        """Once, when nothing has become durable for two intervals: what to say."""
        steps, lasted_s = step - self._durable_step, self._clock.monotonic() - self._durable_at
        if self._is_late or lasted_s < LATE_S:
            return None
        every, seconds = self._wanted.every_steps, self.seconds
        by_steps = every is not None and steps > 2 * every
        if not by_steps and (seconds is None or lasted_s <= 2 * seconds):
            return None
        self._is_late = True
        return f"no checkpoint has become durable for {lasted_s:.0f} s: {steps} steps would be lost now"

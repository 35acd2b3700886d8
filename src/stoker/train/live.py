"""What a run has done and cost up to now, all launches together: for whoever looks on, and for the budget. No torch.

`record` says the same afterwards, from what was written; this one is asked at every step, so it adds up as it goes.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stoker.base.clock import Clock
from stoker.train.accounting import Summary

_RECENT = 20
"""Steps over which speed is measured."""


class Done(Protocol):
    """A step that was done, as `loop.Done`."""

    @property
    def number(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def norm(self) -> float: ...
    @property
    def tokens(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def data_s(self) -> float: ...
    @property
    def stall_s(self) -> float: ...


@dataclass(frozen=True)
class Seen:
    """After a step. `usd` None: no price is known. `goodput` and `lost_work_s` as in `accounting.Summary`, so far."""

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    tokens_per_s: float
    goodput: float
    lost_work_s: float
    checkpoint_age_s: float | None
    """Since the last checkpoint was durable; None: this launch has none, and began without one."""
    usd: float | None
    hours: float
    """Of the run, all launches together."""
    left_s: float
    at: float
    """Seconds since the epoch."""
    validation: float | None = None


class Live:
    """Made when a launch begins, with what came before it: `record.summary` with `now` the start of this process, since
    from then on this launch is what is paid for. `nodes`: those of its launch record."""

    def __init__(
        self,
        earlier: Summary,
        nodes: Sequence[Mapping[str, Any]],
        *,
        steps: int,
        started_at: float,
        from_step: int = 0,
        clock: Clock,
    ) -> None:
        self._earlier, self._steps, self._clock = earlier, steps, clock
        self._began = clock.monotonic() - max(0.0, clock.now() - started_at)
        prices = [each.get("usd_per_hour") for each in nodes]
        known = [float(each) for each in prices if each is not None]
        self.usd_per_hour = sum(known) if known else None
        self._useful_s = earlier.seconds.get("useful", 0.0)
        self._paid_s = sum(earlier.seconds.values())
        self._step = from_step
        self._saved_at = clock.monotonic() if from_step else None
        self._ends: deque[tuple[float, int]] = deque(maxlen=_RECENT + 1)
        self._longest_step_s: deque[float] = deque(maxlen=_RECENT)
        self._validation: float | None = None
        # Of those that the summary does not take for lost yet: this launch does them again.
        again = [seconds for step, seconds in earlier.step_seconds.items() if step > from_step]
        self._lost_s = earlier.lost_work_s + sum(again)
        self._useful_s = max(0.0, self._useful_s - sum(again))

    def stepped(self, done: Done) -> Seen:
        now = self._clock.monotonic()
        self._step = done.number
        self._useful_s += max(0.0, done.seconds - done.data_s - done.stall_s)
        self._ends.append((now, done.tokens))
        self._longest_step_s.append(done.seconds)
        return Seen(
            step=done.number,
            steps=self._steps,
            loss=done.loss,
            rate=done.rate,
            norm=done.norm,
            tokens_per_s=self._speed(done),
            goodput=min(1.0, self._useful_s / max(self.seconds, 1e-9)),
            lost_work_s=self._lost_s,
            checkpoint_age_s=None if self._saved_at is None else now - self._saved_at,
            usd=self.usd,
            hours=self.seconds / 3600.0,
            left_s=self._pace(done) * max(0, self._steps - done.number),
            at=self._clock.now(),
            validation=self._validation,
        )

    def saved(self) -> None:
        """A checkpoint is durable."""
        self._saved_at = self._clock.monotonic()

    def validated(self, loss: float) -> None:
        self._validation = loss

    @property
    def seconds(self) -> float:
        """Of the run, all launches together."""
        return self._paid_s + self._clock.monotonic() - self._began

    @property
    def usd(self) -> float | None:
        before = self._earlier.usd
        if self.usd_per_hour is None:
            return before
        return (before or 0.0) + self.usd_per_hour * (self._clock.monotonic() - self._began) / 3600.0

    @property
    def step_s(self) -> float:
        """The longest of the last steps; 0 before the first."""
        return max(self._longest_step_s, default=0.0)

    def _speed(self, done: Done) -> float:
        if len(self._ends) < 2:
            return done.tokens / max(done.seconds, 1e-9)
        (first, _), (last, _) = self._ends[0], self._ends[-1]
        return sum(tokens for _, tokens in list(self._ends)[1:]) / max(last - first, 1e-9)

    def _pace(self, done: Done) -> float:
        if len(self._ends) < 2:
            return done.seconds
        return (self._ends[-1][0] - self._ends[0][0]) / (len(self._ends) - 1)

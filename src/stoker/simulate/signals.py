"""What autoscalers read of a model: its counts over time, as old and as smoothed as the source has them.

`run` appends a sample whenever the control plane looks, and asks for `value`. Knows nothing of triggers: `reading`
turns them into signals.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

from stoker.policy import cron
from stoker.simulate.scenario import Signal
from stoker.simulate.serving import Counts, Plane

_OF_BUSY = frozenset({"gpu_utilization", "cpu_utilization"})
ALL = frozenset({*_OF_BUSY, "kv_usage"})
A_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
"""When a trace began that does not say."""


class Sample(NamedTuple):
    at: float
    counts: Counts
    ready: int
    """Replicas."""
    busy_s: float
    """Seconds in which replicas computed, all together, since the beginning."""
    kv_usage: float


class History:
    """Samples of one model, by time. Between two the older holds, and before the first there was nothing."""

    def __init__(self, *, began_at: datetime | None = None, keep_s: float = 6 * 3600.0) -> None:
        """`keep_s` has to be as long as the longest window and delay together."""
        self.began_at = began_at or A_MONDAY
        self._keep_s = keep_s
        self._times: list[float] = []
        self._samples: list[Sample] = []

    def append(self, at: float, counts: Counts, *, ready: int = 0, busy_s: float = 0.0, kv_usage: float = 0.0) -> None:
        """Times never fall; a second sample of one moment takes the place of the first."""
        if self._times and at < self._times[-1]:
            raise ValueError(f"a sample of {at} after one of {self._times[-1]}: time does not go back")
        if self._times and at == self._times[-1]:
            self._samples[-1] = Sample(at, counts, ready, busy_s, kv_usage)
            return
        self._times.append(at)
        self._samples.append(Sample(at, counts, ready, busy_s, kv_usage))
        if len(self._times) > 64 and self._times[len(self._times) // 2] < at - self._keep_s:
            self._forget(at - self._keep_s)

    def at(self, moment: float) -> Sample | None:
        """The last sample up to then; None: there is none yet."""
        index = bisect_right(self._times, moment)
        return self._samples[index - 1] if index else None

    def before(self, moment: float) -> Sample | None:
        """The one before `at`."""
        index = bisect_right(self._times, moment)
        return self._samples[index - 2] if index > 1 else None

    def mean(self, read: Callable[[Sample], float], start: float, end: float) -> float:
        """Of what a sample says, over time."""
        first, last = bisect_right(self._times, start), bisect_right(self._times, end)
        total, since = 0.0, start
        held = read(self._samples[first - 1]) if first else 0.0
        for index in range(first, last):
            total += held * (self._times[index] - since)
            since, held = self._times[index], read(self._samples[index])
        return (total + held * (end - since)) / (end - start)

    def _forget(self, before: float) -> None:
        index = max(bisect_right(self._times, before) - 1, 0)  # the one that still holds at that moment stays
        del self._times[:index], self._samples[:index]


def observe(history: History, now: float, plane: Plane, ready: int, kinds: Collection[str] = ALL) -> None:
    """What the model's data plane says at this moment; of what is dear to know only what `kinds` of signals read."""
    busy_s = float(plane.busy_s().sum()) if not _OF_BUSY.isdisjoint(kinds) else 0.0
    kv_usage = float(plane.kv_usage()) if "kv_usage" in kinds else 0.0
    history.append(now, plane.counts(), ready=ready, busy_s=busy_s, kv_usage=kv_usage)


def value(signal: Signal, history: History, now: float) -> int | None:
    """In thousandths, the rest cut off. None: it cannot be read."""
    if signal.kind == "unknown":
        return signal.otherwise
    if signal.kind == "time":
        return _by_time(signal, history, now)
    moment = now // signal.delay_s * signal.delay_s if signal.delay_s > 0 else now
    found = _natural(signal, history, moment)
    ready = _over(signal, history, moment, lambda sample: sample.ready)
    if signal.across == "mean" and signal.kind not in _MEANS:
        found = found / ready if ready else 0.0
    elif signal.across == "sum" and signal.kind in _MEANS:
        found *= ready
    # Binary fractions are a little less than what they mean (0.57 * 1000), and would be cut to one less.
    thousandths = found * 1000 if isinstance(found, int) else round(found * 1000, 6)
    return int(Fraction(thousandths) * signal.factor)


_MEANS = ("gpu_utilization", "cpu_utilization", "kv_usage")
"""Kinds that are a mean over replicas by themselves."""


def _natural(signal: Signal, history: History, moment: float) -> float:
    match signal.kind:
        case "waiting":
            return _over(signal, history, moment, lambda sample: sample.counts.waiting)
        case "pending" | "in_flight":
            return _over(signal, history, moment, lambda sample: sample.counts.pending)
        case "length":
            return _over(signal, history, moment, lambda sample: sample.counts.waiting + sample.counts.pending)
        case "running":
            return _over(signal, history, moment, lambda sample: sample.counts.running)
        case "engine_waiting":
            return _over(signal, history, moment, lambda sample: sample.counts.engine_waiting)
        case "kv_usage":
            return _over(signal, history, moment, lambda sample: sample.kv_usage)
        case "requests_per_s":
            return _rate(signal, history, moment, lambda sample: sample.counts.served)
        case "tokens_per_s":
            return _rate(signal, history, moment, lambda sample: sample.counts.tokens)
        case "gpu_utilization" | "cpu_utilization":
            return _utilization(signal, history, moment)
    raise ValueError(f"{signal.kind} is no count of a model")


def _over(signal: Signal, history: History, moment: float, read: Callable[[Sample], float]) -> float:
    """At the moment, or the mean of the window up to it."""
    if signal.window_s > 0:
        return history.mean(read, moment - signal.window_s, moment)
    sample = history.at(moment)
    return read(sample) if sample is not None else 0.0


def _began(signal: Signal, history: History, moment: float) -> float | None:
    """Since when a growing number is compared: the window's start, or the sample before. None: there is none yet."""
    if signal.window_s > 0:
        return moment - signal.window_s
    before = history.before(moment)
    return None if before is None else before.at


def _rate(signal: Signal, history: History, moment: float, read: Callable[[Sample], float]) -> float:
    start, last = _began(signal, history, moment), history.at(moment)
    if start is None or last is None:
        return 0.0
    first = history.at(start)
    end = moment if signal.window_s > 0 else last.at
    return (read(last) - (read(first) if first is not None else 0.0)) / (end - start)


def _utilization(signal: Signal, history: History, moment: float) -> float:
    """Per cent of the time of the ready replicas in which they computed."""
    start, last = _began(signal, history, moment), history.at(moment)
    if start is None or last is None:
        return 0.0
    end = moment if signal.window_s > 0 else last.at
    there_s = history.mean(lambda sample: sample.ready, start, end) * (end - start)
    first = history.at(start)
    busy_s = last.busy_s - (first.busy_s if first is not None else 0.0)
    return min(100.0 * busy_s / there_s, 100.0) if there_s > 0 else 0.0


def zone_of(name: str) -> tzinfo:
    """Raises ValueError for one that is not known here. UTC needs no database of zones."""
    if name in ("UTC", "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{name or '(none)'} is no time zone that is known here") from error


def _by_time(signal: Signal, history: History, now: float) -> int | None:
    """KEDA's cron trigger: its replicas from a start to the next end, nothing else (kedacore/keda,
    pkg/scalers/cron_scaler.go; what it reports outside, 1, is the HPA's least anyway)."""
    if signal.cron is None:
        return None
    start, end, zone, replicas = signal.cron
    moment = history.began_at + timedelta(seconds=now)
    wall = moment.astimezone(zone_of(zone)).replace(tzinfo=UTC)
    is_on = cron.next_after(end, wall) <= cron.next_after(start, wall)
    return replicas * 1000 if is_on else 0

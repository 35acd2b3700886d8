"""The platform's numbers in CloudWatch: tokens, requests, list-price dollars and queues, put once a minute.

Counts are made of usage records as they become new in the ledger (`Settler.counted`), which happens in one gateway for
each record, so what all gateways put sums up. Gauges of the queue are what each gateway sees, all the same: ask for
their maximum. Names and dimensions stand once, in `aws/cloudwatch_names.py`. Nobody waits for any
of this. `docs/telemetry/cloudwatch.md` has the picture.
"""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stoker.aws import cloudwatch_names as names
from stoker.aws.cloudwatch import MOST_VALUES, Counted, Datum, Metrics, Statistics
from stoker.base import logs
from stoker.base.clock import Clock
from stoker.meter import UsageRecord
from stoker.queue import Depth

_log = logs.get(__name__)

MINUTE_S = 60
# After the end of a minute, so that its last requests are in the ledger. What comes later is put as a part of its own.
AFTER_S = 3.0
# CloudWatch takes what is up to two weeks old, and two hours ahead.
OLDEST_S = 13 * 86_400
NEWEST_S = 3600
# Series and minutes that are counted at once, as after a long time without the ledger.
MOST_WAITING = 20_000
CLOSE_S = 2.0

Dimensions = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Sum:
    """Of samples that are 0 or more."""

    count: int = 0
    sum: float = 0
    least: float = math.inf
    most: float = 0

    def add(self, amount: float) -> None:
        self.count += 1
        self.sum += amount
        if amount < self.least:
            self.least = amount
        if amount > self.most:
            self.most = amount

    @property
    def statistics(self) -> Statistics:
        return Statistics(self.count, self.sum, self.least, self.most)


@dataclass(slots=True)
class Tally:
    """What the requests of one model, or of one tenant, came to in one minute."""

    requests: int = 0
    errors: int = 0
    prompt: Sum = field(default_factory=Sum)
    cached: Sum = field(default_factory=Sum)
    completion: Sum = field(default_factory=Sum)
    nano_usd: Sum = field(default_factory=Sum)
    first_token_s: dict[float, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, record: UsageRecord) -> None:
        self.requests += 1
        self.errors += record.status in ("failed", "lost")
        self.prompt.add(record.prompt_tokens)
        self.cached.add(record.cached_tokens)
        self.completion.add(record.completion_tokens)
        self.nano_usd.add(record.nano_usd)
        if record.first_token_at is not None:
            self.first_token_s[two_digits(max(0.0, record.first_token_at - record.started_at))] += 1

    def data(self, at: float, dimensions: Mapping[str, str]) -> Iterator[Datum]:
        """Each request counts as 1, and as 0 or 1 errors, so that the average of errors is the part that failed."""
        ones = Statistics(self.requests, float(self.requests), 1.0, 1.0)
        failed = Statistics(
            self.requests, float(self.errors), float(self.errors == self.requests), float(self.errors > 0)
        )
        nano = self.nano_usd
        usd = Statistics(nano.count, nano.sum / 1e9, nano.least / 1e9, nano.most / 1e9)
        for name, value in (
            (names.REQUESTS, ones),
            (names.ERRORS, failed),
            (names.PROMPT, self.prompt.statistics),
            (names.CACHED, self.cached.statistics),
            (names.COMPLETION, self.completion.statistics),
        ):
            yield Datum(name, value, "Count", at, dimensions, names.TOKENS)
        yield Datum(names.LIST_PRICE, usd, "None", at, dimensions, names.COST)
        seen = sorted(self.first_token_s.items())
        for begin in range(0, len(seen), MOST_VALUES):
            part = Counted(dict(seen[begin : begin + MOST_VALUES]))
            yield Datum(names.FIRST_TOKEN, part, "Seconds", at, dimensions, names.TOKENS)


def two_digits(seconds: float) -> float:
    """Percentiles are then right within 5 per cent, and few values differ."""
    return float(f"{seconds:.1e}")


class Figures:
    """What was counted and not put yet. `models` and `tenants` are the only ones that get series of their own: each
    costs money, so what other names there are is counted as `(other)` or, of tenants, with the models alone."""

    def __init__(self, cluster: str, models: Collection[str], tenants: Collection[str]) -> None:
        own = (names.CLUSTER, cluster)
        self._of_model: dict[str, Dimensions] = {each: (own, (names.MODEL, each)) for each in models}
        self._of_others: Dimensions = (own, (names.MODEL, "(other)"))
        self._of_tenant: dict[str, Dimensions] = {each: (own, (names.TENANT, each)) for each in tenants}
        self._tallies: dict[tuple[int, Dimensions], Tally] = {}
        self.dropped = 0
        """Records that are in no metric: too old for CloudWatch, or of too many minutes at once."""

    def count(self, records: Sequence[UsageRecord], now: float) -> None:
        for record in records:
            if record.kind == "step":  # of an agent's run, which is no request
                continue
            minute = int(record.ended_at // MINUTE_S)
            is_taken = now - OLDEST_S <= record.ended_at <= now + NEWEST_S
            tally = self._tally(minute, self._of_model.get(record.model, self._of_others)) if is_taken else None
            if tally is None:
                self.dropped += 1
                continue
            tally.add(record)
            of_tenant = self._of_tenant.get(record.tenant)
            if of_tenant is not None and (tally := self._tally(minute, of_tenant)) is not None:
                tally.add(record)

    def _tally(self, minute: int, dimensions: Dimensions) -> Tally | None:
        found = self._tallies.get((minute, dimensions))
        if found is None and len(self._tallies) < MOST_WAITING:
            found = self._tallies[minute, dimensions] = Tally()
        return found

    def take(self, before: float) -> list[Datum]:
        """What was counted of minutes that were over then, and is counted no more."""
        over = [each for each in self._tallies if (each[0] + 1) * MINUTE_S <= before]
        found = [(minute, dict(dimensions), self._tallies.pop((minute, dimensions))) for minute, dimensions in over]
        return [
            datum for minute, dimensions, tally in found for datum in tally.data(float(minute * MINUTE_S), dimensions)
        ]


def queues(
    cluster: str, depths: Mapping[str, tuple[Depth, int]], in_flight: Mapping[str, int], at: float
) -> list[Datum]:
    """Depths are the same in every gateway; in flight is what this one has."""
    found = []
    for model, (depth, _) in depths.items():
        dimensions = {names.CLUSTER: cluster, names.MODEL: model}
        for name, amount in (
            (names.WAITING, depth.lag),
            (names.RUNNING, depth.pending),
            (names.IN_FLIGHT, in_flight.get(model, 0)),
        ):
            found.append(Datum(name, float(amount), "Count", at, dimensions, names.QUEUE))
    return found


def machines(cluster: str, usd_per_hour: Mapping[tuple[str, str], float], at: float) -> list[Datum]:
    """The guide's GPUInstanceCost: dollars per hour of the machines of a type and capacity (`spot`, `on-demand`), of
    all of them together."""
    return [
        Datum(
            names.INSTANCE_COST,
            usd,
            "None",
            at,
            {names.CLUSTER: cluster, names.INSTANCE_TYPE: type_name, names.CAPACITY_TYPE: capacity},
            names.COST,
        )
        for (type_name, capacity), usd in usd_per_hour.items()
    ]


class CloudWatch:
    """What a gateway puts. `look` says how deep the queues are and what is in flight; it raises nothing."""

    def __init__(
        self,
        figures: Figures,
        metrics: Metrics,
        clock: Clock,
        *,
        cluster: str,
        look: Callable[[], Awaitable[tuple[Mapping[str, tuple[Depth, int]], Mapping[str, int]]]],
    ) -> None:
        self._figures, self._metrics, self._clock = figures, metrics, clock
        self._cluster, self._look = cluster, look
        self.usd_per_hour: Callable[[], Mapping[tuple[str, str], float]] | None = None
        """What machines cost now, by type and capacity; None: nobody knows. Each gateway says the same."""
        self._said_dropped = 0

    def count(self, records: Sequence[UsageRecord]) -> None:
        self._figures.count(records, self._clock.now())

    async def put_forever(self) -> None:
        """Until it is cancelled; then `close`."""
        while True:
            now = self._clock.now()
            await self._clock.sleep(MINUTE_S - now % MINUTE_S + AFTER_S)
            await self.put()

    async def put(self) -> None:
        now = self._clock.now()
        depths, in_flight = await self._look()
        dropped = self._figures.dropped + self._metrics.dropped
        lost = Datum(
            names.DROPPED,
            float(dropped - self._said_dropped),
            "Count",
            now,
            {names.CLUSTER: self._cluster},
            names.TOKENS,
        )
        self._said_dropped = dropped
        costs = {} if self.usd_per_hour is None else self.usd_per_hour()
        self._metrics.put(
            *self._figures.take(now - AFTER_S + 1.0),
            *queues(self._cluster, depths, in_flight, now),
            *machines(self._cluster, costs, now),
            lost,
        )

    def close(self) -> None:
        """What is counted is put once more, for some seconds at most."""
        self._metrics.put(*self._figures.take(math.inf))
        self._metrics.close(CLOSE_S)

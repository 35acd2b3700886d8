"""What machines cost an hour now, as metrics. Each gateway says the same, as of the queue: take the highest, not the
sum."""

import asyncio
from collections.abc import Callable

from stoker.base.clock import Clock
from stoker.gateway import looking
from stoker.meter.lives import Lives
from stoker.meter.rates import FRESH_S, Rates, rates
from stoker.telemetry.metrics import Metrics

LOOK_EVERY_S = 30.0


class Gauges:
    def __init__(self, metrics: Metrics) -> None:
        self._of_pools = metrics.gauge(
            "stoker_machine_usd_per_hour", "Dollars an hour of the machines that are there.", ["nodepool", "capacity"]
        )
        self._of_models = metrics.gauge(
            "stoker_model_usd_per_hour",
            "Dollars an hour of the parts of machines that replicas of a model have; (idle): that nobody has.",
            ["model"],
        )
        self._shown = Rates()

    def by_type(self) -> dict[tuple[str, str], float]:
        """Dollars an hour by type and capacity, as they were shown last."""
        return {key: nano / 1e9 for key, nano in self._shown.by_type.items()}

    def show(self, seen: Rates | None) -> None:
        """None: nobody knows. What is not there any more has no sample: nobody may take an old number for one of
        now."""
        found = self._shown = seen or Rates()
        self._of_pools.clear()
        self._of_models.clear()
        for (pool, capacity), nano in found.by_pool.items():
            self._of_pools.labels(pool, capacity).set(nano / 1e9)
        for model, share in found.by_model.items():
            self._of_models.labels(model).set(share / 1e9)


async def look_forever(lives: Lives, tell: Callable[[Rates | None], None], clock: Clock) -> None:
    """`tell` gets each look; None while the ledger cannot be read."""

    async def look() -> Rates:
        return await asyncio.to_thread(_look, lives, clock.now())

    await looking.look_forever("cost of machines", look, tell, clock, every_s=LOOK_EVERY_S)


def _look(lives: Lives, now: float) -> Rates:
    since = now - FRESH_S
    return rates(
        lives.machines(since=since, until=now),
        lives.stays(since=since, until=now),
        lives.prices(until=now, latest=True),
        now=now,
    )

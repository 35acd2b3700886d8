"""How long replicas took to start, as metrics: what `stoker starts` tells of the last day. Each gateway says the same:
take the highest, not the sum."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from stoker.base.clock import Clock
from stoker.gateway import looking
from stoker.meter import starts
from stoker.meter.lives import Lives
from stoker.telemetry.metrics import Metrics

LOOK_EVERY_S = 300.0
OF_THE_LAST_S = 86_400.0


class Gauges:
    def __init__(self, metrics: Metrics) -> None:
        self._starts = metrics.gauge("stoker_starts", "Replicas that began to start in the last day.", ["model"])
        self._seconds = metrics.gauge(
            "stoker_start_seconds", "Median of what a phase of these starts took.", ["model", "phase"]
        )

    def show(self, found: Mapping[str, Any] | None) -> None:
        """As `starts.report` has it. None: nobody knows, and there is no sample."""
        self._starts.clear()
        self._seconds.clear()
        for model in [] if found is None else found["models"]:
            self._starts.labels(model["model"]).set(model["starts"])
            for phase in model["phases"]:
                if phase["median_s"] is not None:
                    self._seconds.labels(model["model"], phase["phase"]).set(phase["median_s"])


async def look_forever(lives: Lives, tell: Callable[[Mapping[str, Any] | None], None], clock: Clock) -> None:
    """`tell` gets each look; None while the ledger cannot be read."""

    async def look() -> Mapping[str, Any]:
        now = clock.now()
        return await asyncio.to_thread(starts.report, lives, since=now - OF_THE_LAST_S, until=now, most=0)

    await looking.look_forever("starts", look, tell, clock, every_s=LOOK_EVERY_S)

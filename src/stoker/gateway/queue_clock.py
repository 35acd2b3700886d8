"""The queue's clock (`Queue.reclaim`) for models of which no replica is up.

Workers keep it while there are any. A model at zero has none, and then nobody would see that a retry is due, or that
the lease of the last worker is over, until something else woke the model: what KEDA wakes it for is what waits in the
stream. One gateway at a time does it, once a second.
"""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import Protocol

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.base.ids import ModelName
from stoker.queue import Queue

_log = logs.get(__name__)

NAME = "queue-clock"
TICK_S = 1.0
# Another gateway takes over this long after the one that did it was last heard of.
LEASE_S = 3.0
RESIGN_S = 0.5  # of the time that a gateway has to stop


class Live(Protocol):
    """Who is up, as far as this gateway knows."""

    def models_served(self) -> Collection[str]: ...


class QueueClock:
    """`holder` names this gateway among those that could do it."""

    def __init__(self, queue: Queue, live: Live, models: Sequence[ModelName], clock: Clock, *, holder: str) -> None:
        self._queue = queue
        self._live = live
        self._models = models
        self._clock = clock
        self._holder = holder

    async def tick_forever(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self._clock.sleep(TICK_S)
                await self.tick()
        finally:
            with contextlib.suppress(StokerError, TimeoutError):  # else its lease runs out by itself
                async with asyncio.timeout(RESIGN_S):
                    await self._queue.resign(NAME, self._holder)

    async def tick(self) -> None:
        up = self._live.models_served()
        at_zero = [model for model in self._models if model not in up]
        try:
            if not at_zero or not await self._queue.lead(NAME, self._holder, ttl_s=LEASE_S):
                return
            for model in at_zero:
                if moved := await self._queue.reclaim(model):
                    _log.info("tasks reclaimed, for no replica is up", model=model, count=moved)
        except StokerError as error:
            _log.warning("the queue's clock stands still for models at zero", error=error.in_log)

"""Waits for the first task without taking any: for whoever starts workers where there are none."""

from collections.abc import Sequence
from typing import Any

from stoker.base.ids import ModelName
from stoker.queue import keys
from stoker.queue.connection import Connection


class TaskAlarm:
    """On the Redis at `url`. Connects when first used. Raises InvalidInput for a bad URL."""

    def __init__(self, url: str) -> None:
        self._redis = Connection(url)

    async def waits(self, models: Sequence[ModelName], *, within_s: float) -> Sequence[ModelName]:
        """Those of `models` for which a task waits or runs, as soon as there is one; none after `within_s`. Nothing
        that workers see is changed. Raises QueueUnavailable."""
        streams: Any = {keys.tasks(model): "0" for model in models}
        # Redis takes 0 as "for ever".
        reading = self._redis.blocking.xread(streams, count=1, block=max(1, int(within_s * 1000)))
        found = await self._redis.ask_blocking("wait for a task", reading, within_s)
        names = {keys.tasks(model).encode(): model for model in models}
        return [names[stream] for stream, _ in found or ()]

    async def aclose(self) -> None:
        await self._redis.aclose()

"""The load of the models of one machine, read where KEDA would read it: Redis and the gateway's metrics."""

import asyncio
import http.client
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from stoker.base.errors import StokerError
from stoker.base.ids import ModelName
from stoker.base.logs import Logger
from stoker.policy import keda
from stoker.policy.scaled import PENDING, RUNNING, WAITING
from stoker.queue import Depth, RedisQueue, TaskAlarm
from stoker.telemetry import metrics

IN_FLIGHT = "stoker_requests_in_flight"
# As KEDA: a metric that takes longer is one that cannot be read.
WITHIN_S = 3.0


class PlatformLoad:
    """`autoscaler.Load` of a platform with one gateway, at `url`."""

    def __init__(self, redis_url: str, url: str, triggers: Mapping[str, Sequence[keda.Trigger]], log: Logger) -> None:
        self._queue = RedisQueue(redis_url)
        self._alarm = TaskAlarm(redis_url)
        self._url, self._triggers, self._log = url, triggers, log

    async def read(self, models: Sequence[str]) -> Mapping[str, keda.Values]:
        depths, in_flight = await asyncio.gather(self._depths(models), self._in_flight(models))
        return {model: self._values(model, depths.get(model), in_flight) for model in models}

    async def wake(self, models: Sequence[str]) -> None:
        for model in models:
            await self._queue.reclaim(ModelName(model))

    async def waits(self, models: Sequence[str], *, within_s: float) -> Sequence[str]:
        return await self._alarm.waits([ModelName(model) for model in models], within_s=within_s)

    async def aclose(self) -> None:
        await self._queue.aclose()
        await self._alarm.aclose()

    def _values(self, model: str, depth: Depth | None, in_flight: Mapping[str, float] | None) -> keda.Values:
        read = {
            WAITING: None if depth is None else depth.lag,
            PENDING: None if depth is None else depth.pending,
            RUNNING: None if depth is None or in_flight is None else depth.pending + int(in_flight.get(model, 0)),
        }
        found = {trigger.name: read[trigger.name] for trigger in self._triggers[model]}
        return {name: None if value is None else value * 1000 for name, value in found.items()}

    async def _depths(self, models: Sequence[str]) -> dict[str, Depth]:
        try:
            async with asyncio.timeout(WITHIN_S):
                found = await asyncio.gather(*(self._queue.depth(ModelName(model)) for model in models))
        except (StokerError, TimeoutError) as error:
            self._log.warning("the queue cannot be read", error=str(error))
            return {}
        return dict(zip(models, found, strict=True))

    async def _in_flight(self, models: Sequence[str]) -> Mapping[str, float] | None:
        if not any(trigger.name == RUNNING for model in models for trigger in self._triggers[model]):
            return {}
        try:
            text = await asyncio.to_thread(exposition, self._url)
            return metrics.read_by(text, "model", IN_FLIGHT)[IN_FLIGHT]
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._log.warning("the gateway's metrics cannot be read", error=str(error))
            return None


def exposition(url: str) -> str:
    """What the gateway at `url` counts. The standard library's client, as in `up.is_ready`. Raises OSError and
    HTTPException; ValueError for an answer that is none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WITHIN_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"the gateway's metrics answered with status {answer.status}")
        return answer.read().decode()
    finally:
        connection.close()

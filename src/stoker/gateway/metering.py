"""Where the gateway's usage records go: to the stream in Redis, and while Redis is away into memory, to be sent later.

A record may be sent twice; the ledger takes it once, by its id.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import QueueUnavailable
from stoker.gateway.measures import Measures
from stoker.meter import UsageRecord
from stoker.queue import Queue

_log = logs.get(__name__)
RETRY_S = 0.5


class Meter:
    def __init__(self, queue: Queue, measures: Measures, clock: Clock) -> None:
        self._queue = queue
        self._measures = measures
        self._clock = clock
        self._unsent: deque[UsageRecord] = deque()
        self._sending = asyncio.Lock()

    @property
    def unsent(self) -> Sequence[UsageRecord]:
        """What waits for Redis. Only this process knows of it."""
        return tuple(self._unsent)

    async def append(self, record: UsageRecord) -> None:
        """When it returns, the record is in Redis, or waits here for Redis to come back."""
        self._measures.ended(record)
        try:
            await self._queue.append_usage(record)
        except QueueUnavailable as error:
            self._unsent.append(record)
            _log.warning("usage waits for Redis", error=error.message, waiting=len(self._unsent))

    async def flush(self) -> None:
        """Send what waits. Raises QueueUnavailable, and then some still do."""
        # One at a time: two that send the same record would each take one off, and the second one is another.
        async with self._sending:
            while self._unsent:
                await self._queue.append_usage(self._unsent[0])
                self._unsent.popleft()

    async def flush_forever(self) -> None:
        while True:
            await self._clock.sleep(RETRY_S)
            try:
                await self.flush()
            except QueueUnavailable as error:
                _log.warning("usage waits for Redis", error=error.message, waiting=len(self._unsent))

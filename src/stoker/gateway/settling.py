"""Usage records from the stream in Redis to the ledger.

Read, store, commit, then acknowledge: a crash between the last two makes a record come again, and the ledger's
primary key takes it once.
"""

import asyncio

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.meter.ledger import Ledger
from stoker.queue import Queue

_log = logs.get(__name__)
BATCH = 500
WAIT_S = 2.0
# After the database or Redis said no.
PAUSE_S = 1.0


class Settler:
    """Moves records, one batch at a time. `consumer` names this process among the stream's readers."""

    def __init__(self, queue: Queue, ledger: Ledger, consumer: str, clock: Clock) -> None:
        self._queue = queue
        self._ledger = ledger
        self._consumer = consumer
        self._clock = clock
        self._moving = asyncio.Lock()

    async def settle(self, *, wait_s: float = 0.0) -> int:
        """Move what is there, or what comes within `wait_s`; how many records. Nothing is lost when it raises
        QueueUnavailable or Unavailable (the ledger)."""
        entries = await self._queue.read_usage(self._consumer, count=BATCH, wait_s=wait_s)
        async with self._moving:
            if entries:
                await asyncio.to_thread(self._ledger.append, [record for _, record in entries])
                await self._queue.ack_usage([entry_id for entry_id, _ in entries])
        return len(entries)

    async def settle_all(self) -> None:
        """Until nothing is left, so that a report made now is complete."""
        while await self.settle():
            pass

    async def settle_forever(self) -> None:
        while True:
            try:
                await self.settle(wait_s=WAIT_S)
            except StokerError as error:
                _log.warning("usage waits for the ledger", error=error.message)
                await self._clock.sleep(PAUSE_S)

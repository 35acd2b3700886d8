"""Usage records from the stream in Redis to the ledger.

Read, store, commit, then acknowledge: a crash between the last two makes a record come again, and the ledger's
primary key takes it once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.meter.ledger import Ledger
from stoker.meter.usage import UsageRecord
from stoker.queue import Queue

_log = logs.get(__name__)
BATCH = 500
# Between two looks at an empty stream; reports look for themselves, so nobody waits for this.
LOOK_EVERY_S = 0.25
# After the database or Redis said no.
PAUSE_S = 1.0


class Settler:
    """Moves records, one batch at a time. `consumer` names this process among the stream's readers."""

    def __init__(self, queue: Queue, ledger: Ledger, consumer: str, clock: Clock) -> None:
        self._queue = queue
        self._ledger = ledger
        self._consumer = consumer
        self._clock = clock
        self.counted: Callable[[Sequence[UsageRecord]], None] | None = None
        """Told of records that are new in the ledger: each is new to one gateway, however often it is delivered."""
        self.noticed: Callable[[Sequence[UsageRecord]], Awaitable[None]] | None = None
        """Told of records before they are acknowledged, so again after a crash. When it raises, they come again."""
        self._moving = asyncio.Lock()
        # Records may have been read and not acknowledged: by a gateway that crashed, or here, before something failed.
        self._has_left_over = True

    async def settle(self) -> int:
        """Move a batch of what is there; how many records. Nothing is lost when it raises QueueUnavailable or
        Unavailable (the ledger)."""
        # Reading is inside the lock: nobody who finds the stream empty may overtake a batch that another one has read.
        async with self._moving:
            # At once instead of after the usual time, since twice does no harm.
            after_s = 0.0 if self._has_left_over else None
            self._has_left_over = True
            entries = await self._queue.read_usage(self._consumer, count=BATCH, redeliver_after_s=after_s)
            if entries:
                await self.store([record for _, record in entries])
                if self.noticed is not None:
                    await self.noticed([record for _, record in entries])
                await self._queue.ack_usage([entry_id for entry_id, _ in entries])
            self._has_left_over = after_s == 0.0 and bool(entries)
        return len(entries)

    async def store(self, records: Sequence[UsageRecord]) -> None:
        """Into the ledger. Raises Unavailable."""
        new = await asyncio.to_thread(self._ledger.append, records)
        if self.counted is not None:
            self.counted([record for name, record in {each.id: each for each in records}.items() if name in new])

    async def settle_all(self) -> None:
        """Until nothing is left, so that a sum made now is complete: also of what another process has read, which may
        not be stored yet. Both store it then, and the ledger takes one."""
        self._has_left_over = True
        await self._settle_new()

    async def _settle_new(self) -> None:
        while await self.settle():
            pass

    async def settle_forever(self) -> None:
        while True:
            try:
                await self._settle_new()
            except StokerError as error:
                _log.warning("usage waits for the ledger", error=error.in_log)
                await self._clock.sleep(PAUSE_S)
            await self._clock.sleep(LOOK_EVERY_S)

"""Usage records on their way to the ledger, in memory: the part of `memory_queue` that is about no task."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from stoker.base.clock import Clock
from stoker.meter.usage import UsageRecord


@dataclass(slots=True)
class _Entry:
    """`read_at` is None until somebody read it."""

    record: UsageRecord
    read_at: float | None = None


class MemoryUsage:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._numbers = itertools.count(1)
        self._news: set[asyncio.Event] = set()

    def add(self, record: UsageRecord) -> None:
        self._entries[f"{next(self._numbers)}-0"] = _Entry(record)
        for rung in self._news:
            rung.set()

    async def read(self, count: int, wait_s: float, again_after_s: float) -> Sequence[tuple[str, UsageRecord]]:
        """As `Queue.read_usage`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        rung = asyncio.Event()
        self._news.add(rung)
        try:
            while True:
                rung.clear()
                found = self._take(count, again_after_s)
                left = until - loop.time()
                if found or left <= 0:
                    return found
                await rung_within(rung, left)
        finally:
            self._news.remove(rung)

    def ack(self, entry_ids: Sequence[str]) -> None:
        for entry_id in entry_ids:
            self._entries.pop(entry_id, None)

    def _take(self, count: int, again_after_s: float) -> Sequence[tuple[str, UsageRecord]]:
        now = self._clock.now()
        left_over = [
            i
            for i, entry in self._entries.items()
            if entry.read_at is not None and entry.read_at + again_after_s <= now
        ]
        fresh = [i for i, entry in self._entries.items() if entry.read_at is None]
        taken = (left_over or fresh)[:count]
        for entry_id in taken:
            self._entries[entry_id].read_at = now
        return [(entry_id, self._entries[entry_id].record) for entry_id in taken]


async def rung_within(rung: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await rung.wait()
    except TimeoutError:
        pass  # the caller looks again either way

"""Parts of `memory_queue`: usage records on their way to the ledger, and what a task leaves when nobody says it."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stoker.base.clock import Clock
from stoker.meter.usage import UsageRecord
from stoker.queue import codec
from stoker.queue.doorbells import rung_within
from stoker.queue.tasks import State, Task, usage_kind


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


def empty_usage(task: Task, state: State, now: float, why: str | None) -> UsageRecord:
    """For a task that ends without a record from its worker: each leaves exactly one."""
    running = state != State.DEAD and task.state == State.RUNNING
    return UsageRecord(
        id=task.usage_id,
        kind=usage_kind(task.model),
        status="failed" if state == State.DEAD else "done" if state == State.DONE else "cancelled",
        tenant=task.tenant,
        key_id=task.key_id,
        team=task.team,
        model=task.model,
        prompt_tokens=0,
        completion_tokens=0,
        nano_usd=0,
        started_at=task.submitted_at,
        ended_at=now,
        session=task.session,
        run=task.run,
        agent=task.agent,
        attempts=len(task.attempts) + running,
        reason=why,
    )


def with_small_result(task: Task, most_bytes: int) -> Task:
    is_small = (
        task.result is None or len(codec.encode_json(task.result, what="result", max_bytes=1 << 40)) <= most_bytes
    )
    return replace(task, body={}, result=task.result if is_small else None)

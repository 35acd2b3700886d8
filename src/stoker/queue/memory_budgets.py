"""Budgets in memory: the twin of `redis_budgets`, held to the same contract suite."""

from collections.abc import Sequence

from stoker.base.clock import Clock, SystemClock
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Ask, Part
from stoker.queue.budgets import (
    CounterState,
    Gone,
    InFlightPart,
    Leased,
    NotBegun,
    NotOpen,
    Opening,
    Renewed,
    Settlement,
    Short,
    Standing,
)
from stoker.queue.memory_queue import MemoryQueue


class MemoryBudgets:
    """`budgets.BudgetStore` on the books of a queue in memory: what is settled appears in that queue's usage."""

    def __init__(self, queue: MemoryQueue, *, clock: Clock | None = None) -> None:
        self._queue = queue
        self._books = queue.books
        self._clock = clock or SystemClock()

    async def establish(self, *, wait_s: float) -> None:
        self._books.establish(self._clock.now(), wait_s)

    async def enter(
        self,
        owner: str,
        *,
        ttl_s: float,
        watermark: int = 1,
        holding: Sequence[Part] = (),
        settled: Sequence[int] = (),
    ) -> NotBegun | Gone | None:
        return self._books.enter(self._clock.now(), owner, ttl_s, watermark, holding, settled)

    async def renew(self, owner: str, *, ttl_s: float, watermark: int, give_back: Sequence[Part] = ()) -> Renewed:
        return self._books.renew(self._clock.now(), owner, ttl_s, watermark, give_back)

    async def leave(self, owner: str) -> bool:
        return self._books.leave(owner, self._clock.now())

    async def lease(self, owner: str, asks: Sequence[Ask]) -> Leased | Short | NotBegun | NotOpen | Gone:
        return self._books.lease(self._clock.now(), owner, asks)

    async def open(self, counter: str) -> Opening | None:
        return self._books.open(self._clock.now(), counter)

    async def begin(
        self, counter: str, spent: int, *, expires_at: float | None, since: Opening | None = None
    ) -> int | None:
        return self._books.begin(self._clock.now(), counter, spent, expires_at, since)

    async def settle(self, owner: str, items: Sequence[Settlement]) -> list[bool] | Gone:
        return self._books.settle(self._clock.now(), owner, items, self._append) if items else []

    async def state(self, counters: Sequence[str]) -> list[CounterState | None]:
        return self._books.state(self._clock.now(), counters)

    async def standings(self, scopes: Sequence[str]) -> list[Standing]:
        return self._books.standings(self._clock.now(), scopes)

    async def dead_owners(self) -> list[str]:
        return self._books.dead_owners(self._clock.now())

    async def take_over(self, owner: str, by: str, *, ttl_s: float, is_proved_dead: bool = False) -> list[Part] | None:
        return self._books.take_over(self._clock.now(), owner, by, ttl_s, is_proved_dead=is_proved_dead)

    async def forfeit(
        self, owner: str, by: str, open: Sequence[InFlightPart] | None, *, usage: Sequence[str] = ()
    ) -> bool:
        return self._books.forfeit(self._clock.now(), owner, by, open, usage, self._append)

    async def aclose(self) -> None:
        pass  # nothing to give back

    def _append(self, record: str) -> None:
        self._queue.add_usage(UsageRecord.from_json(record))

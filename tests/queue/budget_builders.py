"""Both stores of budgets with what a test needs around them, and asks and settlements with good defaults."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from queue_builders import a_record, all_usage
from redis import Redis

from stoker.policy.budgets import Ask, Part, Spent
from stoker.queue import BudgetStore, CounterState, MemoryBudgets, MemoryQueue, Queue, RedisBudgets, RedisQueue
from stoker.queue.budgets import Hold, Leased, Opening, Settlement
from stoker.testing import ManualClock

# Redis forgets by its own clock, so tests of budgets live in a time that it has not reached.
START = datetime(2100, 3, 1, 12, tzinfo=UTC).timestamp()

TOKENS = "key:key_1:tokens:total"
DOLLARS = "tenant:acme:nano_usd:total"
REQUESTS = "key:key_1:requests:total"
SLOTS = "key:key_1:concurrent:total"
SESSION = "session:acme/s1:tokens:total"
DAY = "key:key_1:tokens:day:2100-03-01"
SCOPES = ("key:key_1", "tenant:acme", "session:acme/s1")  # of all these
TTL_S = 60.0


@dataclass
class World:
    """One store of budgets and the queue that shares its books. `raw` is the Redis behind them (None: memory)."""

    store: BudgetStore
    queue: Queue
    raw: Redis | None
    openings: dict[str, Opening | None] = field(default_factory=dict)
    """What was last answered to who opened a counter."""

    async def open(self, *owners: str, spent: int = 0, limits: Sequence[str] = (TOKENS, DOLLARS)) -> None:
        """Books that are open, counters that are begun, owners that live."""
        await self.store.establish(wait_s=0)
        for counter in limits:
            await self.store.begin(counter, spent, expires_at=None)
        for owner in owners:
            assert await self.store.enter(owner, ttl_s=TTL_S) is None

    async def lease(self, owner: str, *asks: Ask) -> tuple[int, ...]:
        answer = await self.store.lease(owner, asks)
        assert isinstance(answer, Leased), answer
        return answer.granted

    async def sums(self, counter: str = TOKENS) -> tuple[int, int, int]:
        """Spent, leased and held."""
        [state] = await self.store.state([counter])
        assert state is not None
        return state[:3]

    async def usage_ids(self) -> list[str]:
        return [record.id for record in await all_usage(self.queue)]

    def lose_everything(self) -> None:
        """What a Redis that comes back without its data knows."""
        if self.raw is not None:
            self.raw.flushall()
            return
        assert isinstance(self.queue, MemoryQueue)
        books = self.queue.books
        for each in (books.counters, books.opened, books.newest, books.appended, books.owners, books.wanted):
            each.clear()
        books.opens_at = None

    def forgotten_at(self, counter: str, now: float) -> float | None:
        """When the counter will be forgotten, seconds since the epoch; None: never."""
        if self.raw is not None:
            at = self.raw.pexpiretime(f"stoker:budget:{counter}")
            assert isinstance(at, int)
            assert at != -2, f"{counter} is not known"
            return None if at == -1 else at / 1000
        assert isinstance(self.queue, MemoryQueue)
        return self.queue.books.counters[counter].expires_at


def make_redis(url: str, raw: Redis, clock: ManualClock) -> World:
    return World(RedisBudgets(url, clock=clock), RedisQueue(url, clock=clock), raw)


def make_memory(clock: ManualClock) -> World:
    queue = MemoryQueue(clock=clock)
    return World(MemoryBudgets(queue, clock=clock), queue, None)


def ask(
    counter: str = TOKENS,
    need: int = 0,
    want: int | None = None,
    *,
    limit: int = 100,
    expires_at: float | None = None,
    is_new: bool = False,
) -> Ask:
    return Ask(counter, limit, need, need if want is None else want, expires_at, is_new)


def settlement(
    number: int, *spent: tuple[str, int, int], usage: str | None = None, scopes: Sequence[str] = ()
) -> Settlement:
    """The record of `usage` says 10 tokens and 10 nano-dollars."""
    record = None if usage is None else a_record(usage).to_json()
    return Settlement(number, record, [Spent(*each) for each in spent], scopes)


def hold(number: int, *parts: tuple[str, int], owner: str = "gw_a") -> Hold:
    return Hold(owner, number, tuple(Part(*part) for part in parts))


def known(spent: int, leased: int, held: int = 0, limit: int | None = 100) -> CounterState:
    return CounterState(spent, leased, held, limit)

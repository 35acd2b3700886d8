"""Calls of an owner that arrive late or twice, and a Redis that has forgotten it: what the exploration of the model
found, as stories on the real scripts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis
from test_budget_property import Wire

from stoker.base.errors import QueueUnavailable
from stoker.policy.budgets import Ask, Part, Spent
from stoker.queue import MemoryBudgets, MemoryQueue, RedisBudgets
from stoker.queue.budgets import BudgetStore, CounterState, Leased, Settlement
from stoker.testing import ManualClock

pytestmark = pytest.mark.redis

KEY = "key:x:tokens:total"
LIMIT = 10


@pytest.fixture
async def store(redis_url: str, clock: ManualClock) -> AsyncIterator[RedisBudgets]:
    store = RedisBudgets(redis_url, clock=clock)
    store._redis = Wire(store._redis)  # type: ignore[assignment]
    await set_up(store)
    yield store
    await store.aclose()


async def set_up(store: BudgetStore, *, spent: int = 0) -> None:
    await store.establish(wait_s=0)
    await store.begin(KEY, spent, expires_at=None)


def wire_of(store: RedisBudgets) -> Any:
    return store._redis


def ask(amount: int) -> list[Ask]:
    return [Ask(KEY, LIMIT, amount, amount)]


async def renew(store: BudgetStore, *give_back: Part) -> None:
    await store.renew("gw", ttl_s=60, watermark=1, give_back=give_back)


async def sums(store: BudgetStore) -> tuple[int, int]:
    [state] = await store.state([KEY])
    assert isinstance(state, CounterState)
    return state.spent, state.leased


async def test_a_renewal_that_arrives_after_it_was_made_again_gives_nothing_back(store: RedisBudgets) -> None:
    await store.enter("gw", ttl_s=60)
    await store.lease("gw", ask(6))
    wire_of(store).fate = "arrives late"
    with pytest.raises(QueueUnavailable):
        await renew(store, Part(KEY, 4))
    await renew(store)
    await renew(store)  # Redis forgets the numbers of calls that were answered
    assert await sums(store) == (0, 2)

    await wire_of(store).arrive(0)

    assert await sums(store) == (0, 2)
    assert await store.lease("gw", ask(1)) == Leased((1,))


async def test_what_was_given_back_is_not_taken_again_from_what_is_stated(store: RedisBudgets, raw: Redis) -> None:
    await store.enter("gw", ttl_s=60)
    await store.lease("gw", ask(6))
    wire_of(store).fate = "is lost"
    with pytest.raises(QueueUnavailable):
        await renew(store, Part(KEY, 4))
    raw.flushall()
    await set_up(store)

    await store.enter("gw", ttl_s=60, holding=[Part(KEY, 2)])
    await renew(store)

    assert await sums(store) == (0, 2)


async def test_what_is_given_back_after_it_was_stated_is_free(store: RedisBudgets, raw: Redis) -> None:
    await store.enter("gw", ttl_s=60)
    await store.lease("gw", ask(6))
    raw.flushall()
    await set_up(store)

    await store.enter("gw", ttl_s=60, holding=[Part(KEY, 6)])
    await renew(store, Part(KEY, 4))

    assert await sums(store) == (0, 2)


async def test_a_lease_that_arrives_in_a_new_redis_is_not_the_answer_to_another(
    store: RedisBudgets, raw: Redis
) -> None:
    """Its number is never used again, and since it was given up the next renewal takes it back."""
    await store.enter("gw", ttl_s=60)
    await store.lease("gw", ask(1))
    wire_of(store).fate = "arrives late"
    with pytest.raises(QueueUnavailable):
        await store.lease("gw", ask(5))
    raw.flushall()
    await renew(store)  # hears that it is not known
    await set_up(store)
    await store.enter("gw", ttl_s=60, holding=[Part(KEY, 1)])
    await wire_of(store).arrive(0)
    assert await sums(store) == (0, 6)

    assert [await store.lease("gw", ask(1)) for _ in range(3)] == [Leased((1,))] * 3
    assert await sums(store) == (0, 9)
    await renew(store)

    assert await sums(store) == (0, 4)


@pytest.fixture(params=["redis", "memory"])
async def either(request: pytest.FixtureRequest, redis_url: str, clock: ManualClock) -> AsyncIterator[BudgetStore]:
    made: BudgetStore = (
        RedisBudgets(redis_url, clock=clock)
        if request.param == "redis"
        else MemoryBudgets(MemoryQueue(clock=clock), clock=clock)
    )
    yield made
    await made.aclose()


async def test_a_settlement_that_the_ledger_has_counts_once_in_a_new_redis(either: BudgetStore) -> None:
    """Redis had done it and lost everything before it could say so; the counter begins with what the ledger has."""
    await set_up(either, spent=3)

    await either.enter("gw", ttl_s=60, watermark=1, holding=[Part(KEY, 2)], settled=[2])
    done = await either.settle("gw", [Settlement(1, None, [Spent(KEY, 2, 1)]), Settlement(2, None, [Spent(KEY, 4, 3)])])

    assert done == [True, False]
    assert await sums(either) == (4, 1)

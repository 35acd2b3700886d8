"""Both queues for the contract suite: the one on a real Redis (started once, emptied for each test) and its twin."""

from collections.abc import AsyncIterator, Iterator

import pytest
from budget_builders import World, make_memory, make_redis
from redis import Redis

from stoker.queue import MemoryQueue, MemoryRegistry, Queue, RedisQueue, RedisRegistry, Registry
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    with Redis.from_url(redis_server.url, protocol=2) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def raw(redis_url: str) -> Iterator[Redis]:
    """A plain client, to see what KEDA and a person with redis-cli see."""
    with Redis.from_url(redis_url, protocol=2, decode_responses=True) as client:
        yield client


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def redis_queue(redis_url: str, clock: ManualClock) -> AsyncIterator[RedisQueue]:
    queue = RedisQueue(redis_url, clock=clock)
    yield queue
    await queue.aclose()


BOTH = [pytest.param("redis", marks=pytest.mark.redis), "memory"]


@pytest.fixture(params=BOTH)
async def queue(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Queue]:
    made: Queue = (
        RedisQueue(request.getfixturevalue("redis_url"), clock=clock)
        if request.param == "redis"
        else MemoryQueue(clock=clock)
    )
    yield made
    await made.aclose()


@pytest.fixture(params=BOTH)
async def registry(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Registry]:
    made: Registry = (
        RedisRegistry(request.getfixturevalue("redis_url"), clock=clock)
        if request.param == "redis"
        else MemoryRegistry(clock=clock)
    )
    yield made
    await made.aclose()


@pytest.fixture(params=BOTH)
async def world(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[World]:
    """Budgets and the queue on the same books. Its tests need a `clock` at `START` or later."""
    if request.param == "redis":
        made = make_redis(request.getfixturevalue("redis_url"), request.getfixturevalue("raw"), clock)
    else:
        made = make_memory(clock)
    yield made
    await made.store.aclose()
    await made.queue.aclose()

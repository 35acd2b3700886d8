"""Who waits for the first task takes none."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from queue_builders import MODEL, a_task
from redis import Redis

from stoker.base.errors import QueueUnavailable
from stoker.base.ids import ModelName
from stoker.queue import Depth, RedisQueue, TaskAlarm

pytestmark = pytest.mark.redis

OTHER = ModelName("code")


@pytest.fixture
async def alarm(redis_url: str) -> AsyncIterator[TaskAlarm]:
    made = TaskAlarm(redis_url)
    yield made
    await made.aclose()


async def test_it_rings_with_the_first_task_and_says_for_which_model(alarm: TaskAlarm, redis_queue: RedisQueue) -> None:
    waiting = asyncio.create_task(alarm.waits([OTHER, MODEL], within_s=20.0))
    await asyncio.sleep(0)
    await redis_queue.submit(a_task())
    assert await waiting == [MODEL]


async def test_what_waits_already_rings_at_once_and_is_still_there(alarm: TaskAlarm, redis_queue: RedisQueue) -> None:
    await redis_queue.submit(a_task())
    assert await alarm.waits([MODEL], within_s=20.0) == [MODEL]
    assert await redis_queue.depth(MODEL) == Depth(1, 0, 0, 0)
    assert len(await redis_queue.claim(MODEL, "w1")) == 1


async def test_nothing_rings_where_nothing_waits(alarm: TaskAlarm, redis_queue: RedisQueue) -> None:
    """Neither a stream that never was, nor one from which all was taken and done."""
    await redis_queue.submit(a_task())
    [claim] = await redis_queue.claim(MODEL, "w1")
    await redis_queue.complete(claim, {})
    assert await alarm.waits([MODEL, OTHER], within_s=0.001) == []


async def test_a_redis_that_is_away_is_told() -> None:
    alarm = TaskAlarm("redis://127.0.0.1:1")
    with pytest.raises(QueueUnavailable):
        await alarm.waits([MODEL], within_s=1.0)
    await alarm.aclose()


async def test_a_lag_that_redis_cannot_say_is_none_as_to_keda(redis_queue: RedisQueue, raw: Redis) -> None:
    """Somebody deleted an entry by hand that no worker was given."""
    for _ in range(3):
        await redis_queue.submit(a_task())
    tickets = raw.xrange("stoker:tasks:general")
    raw.xdel("stoker:tasks:general", tickets[1][0])
    assert raw.xinfo_groups("stoker:tasks:general")[0]["lag"] is None
    assert await redis_queue.depth(MODEL) == Depth(0, 0, 0, 0)

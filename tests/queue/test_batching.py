"""Calls that go to Redis together are still each their own."""

import asyncio

import pytest
from queue_builders import MODEL, a_task
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

from stoker.base.errors import QueueUnavailable
from stoker.queue import RedisQueue
from stoker.queue.batching import Batches, sha_of

pytestmark = pytest.mark.redis


async def test_calls_made_together_get_their_own_answers_in_order_and_few_writes(redis_url: str, raw: Redis) -> None:
    client = AsyncRedis.from_url(redis_url, protocol=2)
    batches = Batches(client)
    answers = await asyncio.gather(*(batches.call("INCR", "stoker:n") for _ in range(1_000)))
    assert answers == list(range(1, 1_001))
    assert len(raw.client_list()) == 2  # one connection of ours, and `raw` itself
    await batches.aclose()
    await client.aclose()


async def test_an_error_reaches_only_its_own_caller(redis_url: str) -> None:
    client = AsyncRedis.from_url(redis_url, protocol=2)
    batches = Batches(client)
    await batches.call("SET", "stoker:text", "x")
    good, bad, after = await asyncio.gather(
        batches.call("GET", "stoker:text"),
        batches.call("INCR", "stoker:text"),
        batches.call("STRLEN", "stoker:text"),
        return_exceptions=True,
    )
    assert (good, after) == (b"x", 1)
    assert isinstance(bad, ResponseError)
    await batches.aclose()
    await client.aclose()


async def test_what_cannot_be_written_fails_alone(redis_url: str) -> None:
    client = AsyncRedis.from_url(redis_url)
    batches = Batches(client)
    said = await asyncio.gather(
        batches.call("SET", "a", "1"),
        batches.call("SET", "b", "\ud800"),
        batches.call("GET", "a"),
        return_exceptions=True,
    )
    assert [type(each) for each in said] == [bool, UnicodeEncodeError, bytes]
    await batches.aclose()
    await client.aclose()


async def test_a_caller_that_goes_away_does_not_disturb_the_others(redis_url: str) -> None:
    client = AsyncRedis.from_url(redis_url, protocol=2)
    batches = Batches(client)
    calls = [asyncio.create_task(batches.call("ECHO", str(n))) for n in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers.pop(3), asyncio.CancelledError)
    assert answers == [str(n).encode() for n in range(10) if n != 3]
    await batches.aclose()
    await client.aclose()


async def test_a_redis_that_forgot_the_scripts_is_taught_again(redis_queue: RedisQueue, raw: Redis) -> None:
    await redis_queue.submit(a_task())
    raw.script_flush()
    await asyncio.gather(*(redis_queue.submit(a_task()) for _ in range(20)))
    assert (await redis_queue.depth(MODEL)).lag == 21


async def test_calls_on_their_way_when_the_queue_is_closed_end_with_an_error(redis_queue: RedisQueue) -> None:
    calls = [asyncio.create_task(redis_queue.submit(a_task())) for _ in range(600)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await redis_queue.aclose()
    ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
    assert {type(end) for end in ends} == {QueueUnavailable}


def test_a_script_is_named_as_redis_names_it(raw: Redis) -> None:
    assert raw.script_load("return 1") == sha_of("return 1")

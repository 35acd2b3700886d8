"""What replicas are scaled on, in /metrics: the same numbers that KEDA reads from Redis."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_parts import HELLO, Stack, a_stack
from redis import Redis

from stoker.base.errors import QueueUnavailable
from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.queue import NewTask, RedisBudgets, RedisQueue, TokenBound
from stoker.spec import loads
from stoker.telemetry.metrics import read, read_by
from stoker.testing.redis import RedisServer

CHAT = "/v1/chat/completions"
QUEUED = ("stoker_queue_lag", "stoker_queue_pending", "stoker_queue_delayed", "stoker_queue_waiting_tokens")
GENERAL = ModelName("general")


async def load_of(stack: Stack, model: str = "general") -> list[float | None]:
    """Lag, pending, delayed, tokens, in flight; None for what has no sample."""
    text = (await (await stack.http(key=None)).request("GET", "/metrics")).body.decode()
    names = (*QUEUED, "stoker_requests_in_flight")
    found = read_by(text, "model", *names)
    return [found[name].get(model) for name in names]


def a_task() -> NewTask:
    return NewTask(
        model=GENERAL,
        tenant=TenantName("acme"),
        key_id=KeyId("key_1"),
        endpoint=CHAT,
        body={"messages": HELLO},
        bound=TokenBound(7, 100),
    )


async def test_requests_that_replicas_run_are_in_flight_until_they_end(stack: Stack) -> None:
    engine = await stack.engine()
    assert await load_of(stack) == [0, 0, 0, 0, 0]
    hold = engine.hold_at(1)
    http = await stack.http()
    asking = asyncio.create_task(http.request("POST", CHAT, body={"model": "general", "messages": HELLO}))
    await hold.reached()
    assert await load_of(stack) == [0, 0, 0, 0, 1]
    assert await load_of(stack, "code") == [0, 0, 0, 0, 0]

    await stack.registry.withdraw("general-0")  # it left, and still runs what it has
    await stack.gateway.fleet.refresh()
    assert await load_of(stack) == [0, 0, 0, 0, 1]
    hold.open.set()
    assert (await asking).status == 200
    assert await load_of(stack) == [0, 0, 0, 0, 0]


async def test_what_is_set_aside_is_the_most_that_running_requests_may_take(stack: Stack) -> None:
    """Nothing before and after."""

    async def set_aside() -> tuple[float, bool]:
        text = (await (await stack.http(key=None)).request("GET", "/metrics")).body.decode()
        found = read(text, "stoker_reserved_tokens", "stoker_reserved_usd")
        return found["stoker_reserved_tokens"], found["stoker_reserved_usd"] > 0

    engine = await stack.engine()
    assert await set_aside() == (0, False)
    hold = engine.hold_at(1)
    http = await stack.http()
    body = {"model": "general", "messages": HELLO, "max_tokens": 50}
    asking = asyncio.create_task(http.request("POST", CHAT, body=body))
    await hold.reached()
    tokens, is_paid = await set_aside()
    assert tokens > 50
    assert is_paid
    hold.open.set()
    assert (await asking).status == 200
    assert await set_aside() == (0, False)
    assert (await http.request("POST", "/v1/tasks", body=body)).status == 202  # the task holds it now
    assert await set_aside() == (0, False)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.redis
async def test_the_numbers_of_the_queue_are_redis_own(tmp_path: Path, redis_server: RedisServer) -> None:
    """XINFO GROUPS, as KEDA's redis-streams scaler asks, at each step of three tasks."""
    queue, budgets = RedisQueue(redis_server.url), RedisBudgets(redis_server.url)
    with Redis.from_url(redis_server.url, protocol=2, decode_responses=True) as raw:

        async def seen() -> tuple[list[float | None], list[int]]:
            groups = {group["name"]: group for group in raw.xinfo_groups("stoker:tasks:general")}
            return (await load_of(stack))[:4], [groups["workers"]["lag"], groups["workers"]["pending"]]

        async with a_stack(tmp_path, queue=queue, budgets=budgets) as stack:
            for _ in range(3):
                await queue.submit(a_task())
            assert await seen() == ([3, 0, 0, 321], [3, 0])
            first, second = await queue.claim(GENERAL, "w1", count=2)
            assert await seen() == ([1, 2, 0, 107], [1, 2])
            await queue.complete(first, {})
            await queue.fail(second, "no", retry_in_s=60.0)
            assert await seen() == ([1, 0, 1, 107], [1, 0])
    await queue.aclose()
    await budgets.aclose()


async def test_tasks_that_were_given_up_are_counted(stack: Stack) -> None:
    async def dead() -> float | None:
        text = (await (await stack.http(key=None)).request("GET", "/metrics")).body.decode()
        return read_by(text, "model", "stoker_queue_dead")["stoker_queue_dead"].get("general")

    await stack.queue.submit(a_task())
    assert await dead() == 0
    (claimed,) = await stack.queue.claim(GENERAL, "w1", count=1)
    await stack.queue.fail(claimed, "no", retry_in_s=None)
    assert await dead() == 1


async def test_while_redis_is_away_there_is_no_number_and_not_an_old_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stack.queue.submit(a_task())
    assert await load_of(stack) == [1, 0, 0, 107, 0]

    async def away(model: ModelName) -> object:
        raise QueueUnavailable("Redis is away")

    monkeypatch.setattr(stack.queue, "depth", away)
    assert await load_of(stack) == [None, None, None, None, 0]

    async def silent(model: ModelName) -> object:
        return await asyncio.Event().wait()

    monkeypatch.setattr(stack.queue, "depth", silent)
    monkeypatch.setattr("stoker.gateway.app.DEPTHS_WITHIN_S", 0.01)
    assert await load_of(stack) == [None, None, None, None, 0]


async def test_a_platform_is_ready_with_models_at_zero(tmp_path: Path) -> None:
    platform = loads("llm: {models: {general: {replicas: {min: 0, max: 2}}, code: {}}}")
    async with a_stack(tmp_path, platform=platform) as stack:
        http = await stack.http(key=None)
        assert (await http.request("GET", "/ready")).json() == {"ready": False, "up": [], "missing": ["code"]}
        await stack.engine("code")
        answer = await http.request("GET", "/ready")
        assert (answer.status, answer.json()) == (200, {"ready": True, "up": ["code"], "missing": []})

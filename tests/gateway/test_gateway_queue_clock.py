"""Who keeps the queue's clock of a model that nobody serves: one gateway at a time."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest
from gateway_parts import HELLO, Stack, a_stack, until

from stoker.base.errors import QueueUnavailable
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.gateway import queue_clock
from stoker.gateway.queue_clock import LEASE_S, QueueClock
from stoker.queue import MemoryBudgets, MemoryQueue, NewTask, State, Task
from stoker.testing import ManualClock

GENERAL, CODE = ModelName("general"), ModelName("code")


def a_task(model: ModelName) -> NewTask:
    return NewTask(
        model=model,
        tenant=TenantName("acme"),
        key_id=KeyId("key_1"),
        endpoint="/v1/chat/completions",
        body={"messages": HELLO},
    )


class Counted(MemoryQueue):
    """`ticks`: the models that somebody kept the clock of, in order."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__(clock=clock)
        self.ticks: list[str] = []
        self.is_away = False

    async def reclaim(self, model: ModelName) -> int:
        if self.is_away:
            raise QueueUnavailable("Redis is away")
        self.ticks.append(model)
        return await super().reclaim(model)


class Up:
    def __init__(self, *models: str) -> None:
        self.models = models

    def models_served(self) -> Collection[str]:
        return self.models


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def a_clock(queue: Counted, clock: ManualClock, holder: str, *up: str) -> QueueClock:
    return QueueClock(queue, Up(*up), [GENERAL, CODE], clock, holder=holder)


async def test_what_the_last_worker_lost_and_what_is_due_waits_again(clock: ManualClock) -> None:
    queue = Counted(clock)
    lost, failed = [await queue.submit(a_task(GENERAL)) for _ in range(2)]
    first, second = await queue.claim(GENERAL, "gone", count=2, lease_s=10)
    assert await queue.fail(second, "boom", retry_in_s=10)
    keeper = a_clock(queue, clock, "gw_a", "code")
    await keeper.tick()
    assert ((await queue.get(lost.id)).state, (await queue.get(failed.id)).state) == (State.RUNNING, State.RETRYING)
    await clock.advance(10)
    await keeper.tick()
    assert [(await queue.get(task.id)).state for task in (lost, failed)] == [State.QUEUED, State.QUEUED]
    assert queue.ticks == ["general", "general"]  # who serves keeps its own
    assert first.task.id == lost.id


async def test_one_gateway_does_it_and_another_one_when_that_is_gone(clock: ManualClock) -> None:
    queue = Counted(clock)
    one, two = (a_clock(queue, clock, holder, "code") for holder in ("gw_a", "gw_b"))
    for _ in range(3):
        await one.tick()
        await two.tick()
        await clock.advance(1)
    assert queue.ticks == ["general"] * 3
    await clock.advance(LEASE_S)
    await two.tick()
    await one.tick()
    assert queue.ticks == ["general"] * 4


async def test_a_gateway_that_leaves_makes_room_at_once(clock: ManualClock) -> None:
    queue = Counted(clock)
    keeping = asyncio.create_task(a_clock(queue, clock, "gw_a", "code").tick_forever())
    await asyncio.sleep(0)
    await clock.advance(1)
    assert queue.ticks == ["general"]
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await a_clock(queue, clock, "gw_b", "code").tick()
    assert queue.ticks == ["general"] * 2


async def test_where_all_models_are_served_nobody_is_asked_for(clock: ManualClock) -> None:
    queue = Counted(clock)
    await a_clock(queue, clock, "gw_a", "general", "code").tick()
    assert await queue.lead(queue_clock.NAME, "somebody", ttl_s=1)
    assert queue.ticks == []


async def test_a_redis_that_is_away_is_told_of_and_asked_again(clock: ManualClock) -> None:
    queue = Counted(clock)
    keeper = a_clock(queue, clock, "gw_a")
    queue.is_away = True
    await keeper.tick()
    queue.is_away = False
    await keeper.tick()
    assert queue.ticks == ["general", "code"]


async def test_a_gateway_wakes_what_was_lost_with_the_last_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_clock, "TICK_S", 0.02)
    queue = Counted()
    async with (
        a_stack(tmp_path, queue=queue) as stack,
        a_stack(tmp_path, queue=queue, budgets=MemoryBudgets(queue)),
    ):
        await stack.engine("code")
        task = await queue.submit(a_task(GENERAL))
        await queue.claim(GENERAL, "gone", lease_s=0)
        waiting = await woken(stack, task.id)
        assert [attempt.worker for attempt in waiting.attempts] == ["gone"]
        async with asyncio.timeout(20):
            while "code" in [(await ticked(queue)) for _ in range(6)]:  # until both have seen that it is served
                pass


async def ticked(queue: Counted) -> str:
    """The next model whose clock was kept."""
    seen = len(queue.ticks)
    await until(lambda: len(queue.ticks) > seen)
    return queue.ticks[seen]


async def woken(stack: Stack, task_id: TaskId) -> Task:
    async with asyncio.timeout(20):
        while (task := await stack.queue.get(task_id)).state is not State.QUEUED:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
    return task

"""The worker's day: announcing, claiming, reclaiming, leaving."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs
from worker_parts import GENERAL, Bench, state_of, until

from stoker.base.errors import QueueUnavailable, Unreachable
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.queue import Claim, MemoryQueue, MemoryRegistry, Replica, State
from stoker.testing.engine import EchoEngine
from stoker.web.client import Stream
from stoker.worker import loop
from stoker.worker.loop import room


@pytest.mark.parametrize(
    ("capacity", "own", "engine_busy", "free"),
    [
        (4, 0, 0, 4),
        (4, 1, 1, 3),
        (4, 1, 3, 1),  # others use the engine, too
        (4, 3, 1, 1),  # ours have not all arrived there yet
        (4, 2, None, 2),  # an engine that says nothing of itself
        (4, 4, 4, 0),
        (4, 4, 9, 0),
        (1, 0, 7, 0),
    ],
)
def test_room(capacity: int, own: int, engine_busy: int | None, free: int) -> None:
    assert room(capacity=capacity, own=own, engine_busy=engine_busy) == free


async def test_tasks_are_claimed_up_to_the_capacity_and_all_are_done(bench: Bench) -> None:
    holds = [bench.engine.hold_at(0) for _ in range(2)]
    tasks = [await bench.submit(f"task {number}") for number in range(3)]
    bench.start(capacity=2)
    for hold in holds:
        await hold.reached()
    assert state_of(bench, tasks[2]) is State.QUEUED
    for hold in holds:
        hold.open.set()
    for number, task_id in enumerate(tasks):
        result = (await bench.end_of(task_id)).result
        assert result is not None
        assert result["choices"][0]["message"]["content"] == f"task {number}"


async def test_requests_that_wait_inside_the_engine_take_room(bench: Bench) -> None:
    bench.engine.waiting = 2
    task_id = await bench.submit()
    bench.start(capacity=2)
    await until(lambda: bench.engine.looks["/metrics"] >= 3)
    assert state_of(bench, task_id) is State.QUEUED
    bench.engine.waiting = 1
    assert (await bench.end_of(task_id)).state is State.DONE


async def test_an_engine_without_metrics_gets_as_many_as_the_worker_counts(bench: Bench) -> None:
    bench.engine.has_metrics = False
    task_id = await bench.submit()
    bench.start(capacity=1)
    assert (await bench.end_of(task_id)).state is State.DONE


async def test_the_engine_is_announced_when_it_is_up_and_withdrawn_when_it_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "ANNOUNCE_EVERY_S", 0.01)
    monkeypatch.setattr(loop, "PROBE_EVERY_S", 0.01)
    bench.engine.healthy = False
    task_id = await bench.submit()
    bench.start(capacity=3)
    await until(lambda: bench.engine.looks["/health"] >= 5)
    assert not bench.ready.is_set()
    assert await bench.registry.live() == []
    assert state_of(bench, task_id) is State.QUEUED  # nothing is claimed for an engine that is not there

    bench.engine.healthy = True
    assert (await bench.end_of(task_id)).state is State.DONE
    async with asyncio.timeout(20):
        await bench.ready.wait()
    [replica] = await bench.registry.live(GENERAL)
    assert (replica.id, replica.url, replica.capacity) == ("w1", bench.engine.url, 3)

    bench.engine.healthy = False
    await until(lambda: not bench.registry._found)
    second = await bench.submit()
    looks = bench.engine.looks["/health"]
    await until(lambda: bench.engine.looks["/health"] >= looks + 5)
    assert state_of(bench, second) is State.QUEUED
    bench.engine.healthy = True
    assert (await bench.end_of(second)).state is State.DONE


async def test_after_an_attempt_that_could_not_connect_nothing_is_claimed_until_a_probe_says_that_it_is_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "ANNOUNCE_EVERY_S", 0.25)
    monkeypatch.setattr(loop, "PROBE_EVERY_S", 0.001)
    seen: list[str] = []

    class Restarting(EngineClient):
        def stream(
            self, endpoint: str, body: dict[str, Any], *, request_id: str | None = None, trace: Any = None
        ) -> AbstractAsyncContextManager[Stream]:
            seen.append("asked")
            if seen.count("asked") <= 3:
                raise Unreachable("cannot reach it: All connection attempts failed")
            return super().stream(endpoint, body, request_id=request_id, trace=trace)

        async def is_healthy(self) -> bool:
            is_up = await super().is_healthy()
            seen.append("probed")
            return is_up

    await bench.client.close()
    bench.client = Restarting(bench.engine.url, model="general")
    task_id = await bench.submit(max_attempts=1)
    bench.start()
    task = await bench.end_of(task_id)
    assert (task.state, task.attempts) == (State.DONE, ())
    assert seen.count("asked") == 4
    assert ("asked", "asked") not in pairwise(seen)


async def test_an_engine_that_stays_silent_is_told_of_once_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "ANNOUNCE_EVERY_S", 0.01)
    monkeypatch.setattr(loop, "PROBE_EVERY_S", 0.001)
    monkeypatch.setattr(loop, "SILENCE_S", 0.01)

    def told() -> list[str]:
        return [event["url"] for event in events if event["event"].startswith("the engine does not answer")]

    bench.engine.healthy = False
    with capture_logs() as events:
        bench.start()
        await until(told)
        looks = bench.engine.looks["/health"]
        await until(lambda: bench.engine.looks["/health"] >= looks + 20)
        assert told() == [bench.engine.url]
        bench.engine.healthy = True
        await bench.ready.wait()
        bench.engine.healthy = False
        await until(lambda: len(told()) == 2)


async def test_a_worker_is_ready_also_when_redis_was_away_at_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "PAUSE_S", 0.01)

    class AwayOnce(MemoryRegistry):
        calls = 0

        async def announce(self, replica: Replica, *, ttl_s: float) -> None:
            self.calls += 1
            if self.calls == 1:
                raise QueueUnavailable("cannot announce: Redis said nothing")
            await super().announce(replica, ttl_s=ttl_s)

    bench.start(registry=AwayOnce())
    async with asyncio.timeout(20):
        await bench.ready.wait()


async def test_tasks_of_a_worker_that_vanished_are_taken_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RECLAIM_EVERY_S", 0.01)
    task_id = await bench.submit()
    [_] = await bench.queue.claim(GENERAL, "gone", lease_s=0.01)
    bench.start()
    task = await bench.end_of(task_id)
    assert (task.state, task.worker) == (State.DONE, "w1")
    assert [attempt.reason for attempt in task.attempts] == [
        "lease expired: worker gone did not renew it, so it is taken for dead"
    ]


async def test_a_stop_lets_running_tasks_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "ANNOUNCE_EVERY_S", 0.01)
    hold = bench.engine.hold_at(1)
    task_id = await bench.submit()
    working = bench.start(grace_s=20.0)
    await hold.reached()
    bench.stop.set()
    await until(lambda: not bench.registry._found)  # out of the gateway's sight first
    looks = bench.engine.looks["/health"]
    await until(lambda: bench.engine.looks["/health"] >= looks + 5)
    assert await bench.registry.live() == []  # and not announced again
    late = await bench.submit()
    hold.open.set()
    await working
    assert state_of(bench, task_id) is State.DONE
    assert state_of(bench, late) in (State.QUEUED, State.DONE)  # taken before the last claim was over, or not
    assert await bench.registry.live() == []


async def test_a_worker_that_is_not_needed_any_more_finishes_what_it_has_however_long_that_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own task, and what the gateway has sent to its engine; neither is handed back, and nothing new is taken."""
    monkeypatch.setattr(loop, "RETIRE_LEAST_S", 0.0)
    own, foreign = bench.engine.hold_at(1), bench.engine.hold_at(1)
    retire = asyncio.Event()
    task_id = await bench.submit()
    working = asyncio.create_task(bench.worker(grace_s=0.0).run(bench.stop, retire))
    await own.reached()
    direct = asyncio.create_task(
        bench.client.complete("/v1/chat/completions", {"messages": [{"role": "user", "content": "one two"}]})
    )
    await foreign.reached()
    retire.set()
    await until(lambda: not bench.registry._found)  # out of the gateway's sight first
    looks = bench.engine.looks["/metrics"]
    own.open.set()
    await bench.end_of(task_id)
    await until(lambda: bench.engine.looks["/metrics"] >= looks + 5)
    assert not working.done()  # the engine still runs what is not the worker's
    late = await bench.submit()
    foreign.open.set()
    await working
    assert (await direct).status == 200
    assert state_of(bench, task_id) is State.DONE
    assert state_of(bench, late) is State.QUEUED


async def test_a_stop_does_not_wait_for_a_worker_that_finishes(bench: Bench) -> None:
    hold, retire = bench.engine.hold_at(1), asyncio.Event()
    task_id = await bench.submit()
    working = asyncio.create_task(bench.worker(grace_s=0.05).run(bench.stop, retire))
    request = await hold.reached()
    retire.set()
    await until(lambda: not bench.registry._found)
    bench.stop.set()
    await working
    assert await request.end() == "cancelled"
    assert state_of(bench, task_id) is State.QUEUED


async def test_a_stop_hands_back_what_does_not_end_in_time(bench: Bench) -> None:
    hold = bench.engine.hold_at(1)
    task_id = await bench.submit()
    working = bench.start(grace_s=0.05)
    request = await hold.reached()
    bench.stop.set()
    await working
    assert await request.end() == "cancelled"
    assert state_of(bench, task_id) is State.QUEUED
    assert await bench.records() == []


async def test_a_claim_that_is_under_way_during_a_stop_is_not_lost(engine: EchoEngine) -> None:
    claiming, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryQueue):
        async def claim(self, model: ModelName, worker: str, **options: Any) -> Sequence[Claim]:
            claims = await super().claim(model, worker, **options)
            claiming.set()
            await go_on.wait()  # Redis has given the task away; the answer is on its way
            return claims

    bench = Bench(engine, Slow())
    task_id = await bench.submit()
    working = bench.start(grace_s=20.0)
    async with asyncio.timeout(20):
        await claiming.wait()
    bench.stop.set()
    await until(lambda: not bench.registry._found)
    go_on.set()
    await working
    assert state_of(bench, task_id) is State.DONE
    await bench.close()


async def test_an_announcement_that_is_under_way_during_a_stop_does_not_outlive_it(bench: Bench) -> None:
    announcing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryRegistry):
        async def announce(self, replica: Replica, *, ttl_s: float) -> None:
            announcing.set()
            await go_on.wait()
            await super().announce(replica, ttl_s=ttl_s)

    registry = Slow()
    working = bench.start(registry=registry)
    async with asyncio.timeout(20):
        await announcing.wait()
    bench.stop.set()
    await until(lambda: bench.is_stopping)
    go_on.set()
    await working
    assert await registry.live() == []


async def test_a_clock_that_breaks_ends_the_worker_with_its_error_after_handing_back(engine: EchoEngine) -> None:
    class Broken(MemoryQueue):
        async def reclaim(self, model: ModelName) -> int:
            await held.wait()
            raise ZeroDivisionError

    held = asyncio.Event()
    bench = Bench(engine, Broken())
    hold = engine.hold_at(1)
    task_id = await bench.submit()
    working = bench.start(grace_s=0.01)
    await hold.reached()
    held.set()
    with pytest.raises(ZeroDivisionError):
        await working
    assert state_of(bench, task_id) is State.QUEUED
    await bench.close()

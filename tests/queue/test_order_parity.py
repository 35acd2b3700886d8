"""The order in Lua and the one in `policy/fairness.py` are the same: any steps on both queues take the same tasks,
leave the same counters and say the same places; and KEDA's lag is the number of tasks that wait after each of them.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from effort import examples
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from queue_builders import MODEL, a_task, usage_of
from redis import Redis

from stoker.base.errors import Refused
from stoker.base.ids import TaskId, TenantName
from stoker.policy.fairness import PRIORITIES
from stoker.queue import Claim, MemoryQueue, Queue, QueueSettings, RedisQueue, State, TokenBound
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer

T = TypeVar("T")
Step = tuple[Any, ...]

WEIGHTS = {"a": 1, "b": 3, "ümlaut": 7, "z": 1000}
SETTINGS = QueueSettings(max_waiting_of_tenant=12, max_waiting_of_model=25)

STEPS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.sampled_from(sorted(WEIGHTS)),
        st.sampled_from(PRIORITIES),
        st.sampled_from([None, 0, 1, 10, 999, 2**31 - 1]),
        st.sampled_from([None, 3.0]),
    ),
    st.tuples(st.just("claim"), st.integers(1, 4), st.sampled_from([1.0, 100.0])),
    st.tuples(
        st.just("end"),
        st.integers(0, 9),
        st.sampled_from(["complete", "fail", "fail for good", "release"]),
        st.sampled_from([None, 0, 7, 2**31 - 4]),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("reclaim"), st.sampled_from([0.0, 0.5, 1.5])),
    st.tuples(st.just("replay"), st.integers(0, 9), st.sampled_from([None, 5])),
)


class Pair:
    """Both queues, and what is told to one is told to the other."""

    def __init__(self, url: str) -> None:
        self.raw = Redis.from_url(url, protocol=2, decode_responses=True)
        self.raw.flushall()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.memory = MemoryQueue(clock=self.clock, settings=SETTINGS)
        self.redis = RedisQueue(url, clock=self.clock, settings=SETTINGS)
        self.queues: tuple[Queue, Queue] = (self.redis, self.memory)
        self.ids: list[TaskId] = []
        self.claims: list[tuple[Claim, Claim]] = []

    def close(self) -> None:
        self.run(self.redis.aclose())
        self.loop.close()
        self.raw.close()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    def both(self, name: str, *args: Any, **options: Any) -> Any:
        redis, memory = [self.run(getattr(queue, name)(*args, **options)) for queue in self.queues]
        assert redis == memory
        return redis

    # --- steps --------------------------------------------------------------------------------------------------------

    def submit(self, tenant: str, priority: Any, tokens: int | None, timeout_s: float | None) -> None:
        task_id = TaskId(f"task_{len(self.ids)}")
        bound = None if tokens is None else TokenBound(tokens, 0, 0)
        new = a_task(
            tenant=TenantName(tenant), priority=priority, weight=WEIGHTS[tenant], bound=bound, timeout_s=timeout_s
        )
        said = []
        for queue in self.queues:
            try:
                self.run(queue.submit(new, task_id=task_id))
            except Refused as full:
                said.append((full.message, full.retry_after_s))
        if said:
            event("queue_full")
            assert said == [said[0]] * 2
        else:
            self.ids.append(task_id)

    def claim(self, count: int, lease_s: float) -> None:
        redis, memory = [self.run(queue.claim(MODEL, "w1", count=count, lease_s=lease_s)) for queue in self.queues]
        assert [claim.task.id for claim in redis] == [claim.task.id for claim in memory]
        self.claims += zip(redis, memory, strict=True)

    def end(self, which: int, how: str, used: int | None) -> None:
        if not self.claims:
            return
        pair = self.claims.pop(which % len(self.claims))
        for queue, claim in zip(self.queues, pair, strict=True):
            usage = None if used is None else replace(usage_of(claim), completion_tokens=used)
            if how == "complete":
                self.run(queue.complete(claim, {}, usage=usage))
            elif how == "release":
                self.run(queue.release(claim, usage=usage))
            else:
                self.run(queue.fail(claim, "boom", retry_in_s=1.0 if how == "fail" else None, usage=usage))

    def cancel(self, which: int) -> None:
        if self.ids:
            self.both("cancel", self.ids[which % len(self.ids)])

    def reclaim(self, after_s: float) -> None:
        self.run(self.clock.advance(after_s))
        self.both("reclaim", MODEL)

    def replay(self, which: int, tokens: int | None) -> None:
        dead = self.both("dead", MODEL)
        if dead:
            bound = None if tokens is None else TokenBound(0, tokens)
            self.both("retry", dead[which % len(dead)].id, bound=bound)

    # --- what must hold -----------------------------------------------------------------------------------------------

    def compare(self) -> None:
        order = self.memory._models[MODEL].waiting
        for priority in PRIORITIES:
            lane = self.raw.zrange(f"stoker:waiting:{MODEL}:{priority}", 0, -1, withscores=True)
            assert dict(lane) == dict(order.counters(priority))
            for tenant, _ in lane:
                waiting = self.raw.zcard(f"stoker:waiting:{MODEL}:{priority}:{tenant}")
                assert waiting == len(order._lanes[priority].waiting[tenant])
        depth = self.both("depth", MODEL)
        assert depth.lag == len(order)
        kept = {key.rpartition(":")[2] for key in self.raw.keys(f"stoker:waiting:{MODEL}:*")}
        assert kept <= {*PRIORITIES, "served", *(tenant for one in PRIORITIES for tenant in order.counters(one))}

    def compare_places(self) -> None:
        for task_id in self.ids:
            place = self.both("place", task_id)
            assert (place is not None) == (self.both("get", task_id).state == State.QUEUED)


@pytest.mark.redis
@settings(
    max_examples=examples(70),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(STEPS, min_size=20, max_size=80))
@example([("submit", "a", "normal", 10, None)] * 14 + [("submit", "b", "batch", 1, None)] * 14 + [("claim", 4, 1.0)])
def test_lua_and_python_take_the_same_tasks(redis_server: RedisServer, steps: list[Step]) -> None:
    pair = Pair(redis_server.url)
    try:
        for name, *args in steps:
            getattr(pair, name)(*args)
            pair.compare()
        pair.compare_places()
        while pair.claims or pair.memory._models[MODEL].waiting:  # to the end, in the same order
            pair.claim(4, 100.0)
            while pair.claims:
                pair.end(0, "complete", 3)
            pair.compare()
    finally:
        pair.close()

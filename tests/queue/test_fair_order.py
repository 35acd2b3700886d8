"""In which order waiting tasks are taken, on both queues, and what KEDA sees of it on Redis."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from budget_builders import START, TTL_S, World, hold
from queue_builders import MODEL, a_task, claim_one, usage_of
from redis import Redis

from stoker.base.errors import InvalidInput, Refused
from stoker.base.ids import ModelName, TaskId, TenantName
from stoker.policy.budgets import Ask
from stoker.queue import Depth, MemoryQueue, NewTask, Place, Queue, QueueSettings, RedisQueue, State, TokenBound
from stoker.testing import ManualClock

TASKS = "stoker:tasks:general"
WAITING = "stoker:waiting:general"


def of(tenant: str, tokens: int = 10, **changes: Any) -> NewTask:
    return a_task(tenant=TenantName(tenant), bound=TokenBound(tokens, 0, 0), **changes)


async def submit(queue: Queue, *names: str, **changes: Any) -> None:
    """Tasks called by their tenant's letter and a number: a1, a2, b1."""
    for name in names:
        await queue.submit(of(name[0], **changes), task_id=TaskId(name))


async def taken(queue: Queue, count: int = 100) -> list[str]:
    return [claim.task.id for claim in await queue.claim(MODEL, "w1", count=count)]


# --- tenants ----------------------------------------------------------------------------------------------------------


async def test_a_flood_does_not_keep_others_waiting(queue: Queue) -> None:
    await submit(queue, "a1", "a2", "a3", "a4", "a5", "b1", "b2")
    assert await taken(queue, 1) == ["a1"]
    assert await taken(queue, 3) == ["b1", "a2", "b2"]
    assert await taken(queue) == ["a3", "a4", "a5"]


async def test_weights_say_whose_turn_it_is(queue: Queue) -> None:
    await submit(queue, *[f"a{n}" for n in range(6)], weight=3)
    await submit(queue, "b0", "b1")
    assert await taken(queue) == ["a0", "b0", "a1", "a2", "a3", "b1", "a4", "a5"]


async def test_what_a_task_used_counts_once_it_has_ended(queue: Queue) -> None:
    await submit(queue, "a1", "a2", "a3", "b1", "b2", tokens=100)
    first, second = await queue.claim(MODEL, "w1", count=2)
    assert [first.task.id, second.task.id] == ["a1", "b1"]
    await queue.complete(first, {}, usage=usage_of(first, 7))  # 10 tokens in all
    assert await taken(queue, 2) == ["a2", "b2"]


@pytest.mark.parametrize(
    ("ending", "b_is_next"),
    [("complete", False), ("fail", False), ("release", False), ("lease expires", True)],
)
async def test_an_attempt_counts_as_it_ended(queue: Queue, clock: ManualClock, ending: str, b_is_next: bool) -> None:
    """Of one whose worker vanished nobody knows what it used: it counts as it was let in."""
    await submit(queue, "a1", "a2", tokens=100)
    await submit(queue, "b1", "b2", tokens=50)
    claim, *_ = await queue.claim(MODEL, "w1", count=2, lease_s=5)
    assert claim.task.id == "a1"
    if ending == "complete":
        await queue.complete(claim, {})
    elif ending == "fail":
        await queue.fail(claim, "boom", retry_in_s=None, usage=usage_of(claim, 7))
    elif ending == "release":
        await queue.release(claim)
    else:
        await clock.advance(5)
        await queue.reclaim(MODEL)
    assert (await taken(queue, 1) == ["b2"]) is b_is_next


async def test_a_task_of_no_stated_size_counts_as_one_token(queue: Queue) -> None:
    for name in ("a1", "a2"):
        await queue.submit(a_task(tenant=TenantName("a"), bound=None), task_id=TaskId(name))
    await submit(queue, "b1", "b2", tokens=3)
    await queue.submit(a_task(tenant=TenantName("a"), bound=None), task_id=TaskId("a3"))
    assert await taken(queue) == ["a1", "b1", "a2", "a3", "b2"]


async def test_coming_back_is_no_credit_and_no_debt_is_left_behind(queue: Queue) -> None:
    await submit(queue, "a1", "a2", "a3")
    await submit(queue, "c1", tokens=40)
    assert await taken(queue, 3) == ["a1", "c1", "a2"]
    await submit(queue, "b1", "b2", "b3", "b4", "c2")  # a has had 20, c 40; b was never here
    assert await taken(queue) == ["a3", "b1", "b2", "b3", "c2", "b4"]


async def test_a_task_that_goes_back_waits_behind_those_of_its_tenant(queue: Queue) -> None:
    await submit(queue, "a1", "a2")
    await queue.release(await claim_one(queue))
    assert await taken(queue) == ["a2", "a1"]


async def test_a_replay_keeps_its_priority_and_counts_as_it_was_let_in_anew(queue: Queue) -> None:
    await submit(queue, "b1", priority="batch", tokens=1)
    await queue.fail(await claim_one(queue), "boom", retry_in_s=None)
    await queue.retry(TaskId("b1"), bound=TokenBound(1, 40))
    await submit(queue, "a1")
    await submit(queue, "b2", "b3", "c1", "c2", "c3", "c4", priority="batch")
    assert await taken(queue) == ["a1", "b1", "c1", "c2", "c3", "c4", "b2", "b3"]


# --- priorities -------------------------------------------------------------------------------------------------------


async def test_interactive_before_normal_before_batch_whoever_asks(queue: Queue) -> None:
    await submit(queue, "a1", "b1", priority="batch")
    await submit(queue, "a2")
    await submit(queue, "a3", "b3", priority="interactive")
    assert (await queue.get(TaskId("a3"))).priority == "interactive"
    assert await taken(queue) == ["a3", "b3", "a2", "a1", "b1"]


async def test_batch_is_passed_over_nine_times_in_a_row_and_no_more(queue: Queue) -> None:
    await submit(queue, "z1", "z2", priority="batch")
    await submit(queue, *[f"a{n:02d}" for n in range(20)], priority="interactive")
    order = await taken(queue)
    assert [order.index("z1"), order.index("z2")] == [9, 19]


@pytest.mark.parametrize("wrong", [{"priority": "urgent"}, {"weight": 0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        a_task(**wrong)
    assert refused.value.param == next(iter(wrong))


# --- where it is ------------------------------------------------------------------------------------------------------


async def test_a_waiting_task_has_a_place_and_later_an_estimate(queue: Queue, clock: ManualClock) -> None:
    await submit(queue, "a1", "a2", "a3", "a4", "b1")
    assert await queue.place(TaskId("b1")) == Place(ahead=1, wait_s=None)
    assert await queue.place(TaskId("a3")) == Place(ahead=3, wait_s=None)
    first = await claim_one(queue)
    await clock.advance(4)
    await queue.complete(first, {})
    assert await queue.place(TaskId("a1")) is None
    await queue.claim(MODEL, "w1", count=2)  # a2 and b1, by now; two run
    assert await queue.place(TaskId("a4")) == Place(ahead=1, wait_s=4.0)
    assert await queue.place(TaskId("b1")) is None


async def test_higher_priorities_come_before_it(queue: Queue) -> None:
    await submit(queue, "a1", "a2")
    await submit(queue, "b1", "b2", "b3", priority="interactive")
    assert await queue.place(TaskId("a2")) == Place(ahead=4, wait_s=None)
    await queue.cancel(TaskId("b2"))
    assert await queue.place(TaskId("a2")) == Place(ahead=3, wait_s=None)


# --- no more may wait -------------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), "memory"])
async def small(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Queue]:
    """Three of a tenant and five of all may wait."""
    settings = QueueSettings(max_waiting_of_tenant=3, max_waiting_of_model=5)
    made: Queue = (
        RedisQueue(request.getfixturevalue("redis_url"), clock=clock, settings=settings)
        if request.param == "redis"
        else MemoryQueue(clock=clock, settings=settings)
    )
    yield made
    await made.aclose()


async def test_one_more_than_may_wait_is_refused(small: Queue, clock: ManualClock) -> None:
    await submit(small, "a1", "a2")
    await submit(small, "a3", priority="batch")  # all that waits counts, whatever its priority
    with pytest.raises(Refused) as refused:
        await submit(small, "a4")
    assert refused.value.message == "3 requests and tasks of tenant a wait for general, and no more may"
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (429, "queue_full", 1.0)
    assert refused.value.more == {"position": 3, "estimated_wait_s": None}  # nothing has ended by which to judge
    await submit(small, "b1", "b2")
    with pytest.raises(Refused, match="5 requests and tasks wait for general, and no more may"):
        await submit(small, "c1")
    assert await small.depth(MODEL) == Depth(5, 0, 0, 0)
    assert (await small.submit(of("a"), task_id=TaskId("a1"))).state == State.QUEUED  # it is there already
    await small.submit(of("a", model=ModelName("code")))

    claim = await claim_one(small)  # what runs does not wait
    await submit(small, "c1")
    await clock.advance(6)
    await small.complete(claim, {})
    with pytest.raises(Refused) as refused:
        await submit(small, "c2")
    # Three tenants have a turn, of 6 s, and none runs: one after the other.
    assert refused.value.retry_after_s == 18.0


async def test_who_is_refused_still_has_the_reservation(world: World) -> None:
    counter = "key:key_1:tokens:total"
    await world.store.establish(wait_s=0)
    await world.store.begin(counter, 0, expires_at=None)
    await world.store.enter("gw_a", ttl_s=TTL_S)
    await world.store.lease("gw_a", [Ask(counter, 100, 40, 40)])
    world.queue.settings = QueueSettings(max_waiting_of_tenant=1)  # type: ignore[attr-defined]
    await world.queue.submit(of("a"))
    with pytest.raises(Refused):
        await world.queue.submit(of("a"), task_id=TaskId("full"), hold=hold(1, (counter, 40)))
    [state] = await world.store.state([counter])
    assert state is not None
    assert (state.leased, state.held) == (40, 0)
    await world.queue.claim(MODEL, "w1")
    await world.queue.submit(of("a"), task_id=TaskId("full"), hold=hold(1, (counter, 40)))
    [state] = await world.store.state([counter])
    assert state is not None
    assert (state.leased, state.held) == (0, 40)


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> ManualClock:
    return ManualClock(START)


# --- listing ----------------------------------------------------------------------------------------------------------


async def test_those_that_wait_are_listed_newest_first_whoever_owns_them(queue: Queue, clock: ManualClock) -> None:
    for name, priority in (("a1", "batch"), ("b1", "interactive"), ("a2", "normal"), ("c1", "batch")):
        await submit(queue, name, priority=priority)
        await clock.advance(1)
    found = await queue.list(model=MODEL, state=State.QUEUED)
    assert [task.id for task in found] == ["c1", "a2", "b1", "a1"]
    assert [task.id for task in await queue.list(model=MODEL, state=State.QUEUED, limit=2)] == ["c1", "a2"]


# --- what lies in Redis -----------------------------------------------------------------------------------------------


def group(raw: Redis) -> tuple[int, int]:
    """Lag and pending, as KEDA reads them."""
    [found] = raw.xinfo_groups(TASKS)
    return found["lag"], found["pending"]


def of_order(raw: Redis) -> dict[str, Any]:
    """The keys of the order but for its numbers, and what is in them."""
    found: dict[str, Any] = {}
    for key in raw.keys(f"{WAITING}:*"):
        name = key.removeprefix(f"{WAITING}:")
        found[name] = raw.get(key) if raw.type(key) == "string" else raw.zrange(key, 0, -1)
    return found


@pytest.mark.redis
async def test_lag_is_exact_after_every_kind_of_step(redis_queue: RedisQueue, raw: Redis, clock: ManualClock) -> None:
    await submit(redis_queue, "a1", "a2", "a3", "a4")
    await submit(redis_queue, "b1", "b2", priority="batch")
    await submit(redis_queue, "c1", priority="interactive")
    assert group(raw) == (7, 0)
    first, second = await redis_queue.claim(MODEL, "w1", count=2, lease_s=5)
    assert [first.task.id, second.task.id] == ["c1", "a1"]
    assert group(raw) == (5, 2)
    await redis_queue.cancel(TaskId("a2"))  # the next of its tenant, whose ticket is anybody's
    assert group(raw) == (4, 2)
    await redis_queue.cancel(TaskId("b2"))  # the last of all
    assert group(raw) == (3, 2)
    await redis_queue.complete(second, {})  # not the one that was delivered first
    assert group(raw) == (3, 1)
    third = await claim_one(redis_queue)
    await redis_queue.fail(third, "boom", retry_in_s=2)
    assert group(raw) == (2, 1)
    fourth = await claim_one(redis_queue)
    await redis_queue.release(fourth)
    assert group(raw) == (2, 1)
    await clock.advance(2)
    await redis_queue.reclaim(MODEL)  # the retry is due
    assert group(raw) == (3, 1)
    await clock.advance(3)
    await redis_queue.reclaim(MODEL)  # the lease of c1 is over
    assert group(raw) == (4, 0)
    assert await taken(redis_queue) == ["c1", "a4", "a3", "b1"]
    assert group(raw) == (0, 4)
    assert raw.xinfo_stream(TASKS)["length"] == 4


@pytest.mark.redis
async def test_what_is_past_its_deadline_takes_its_ticket_along(
    redis_queue: RedisQueue, raw: Redis, clock: ManualClock
) -> None:
    await submit(redis_queue, "a1", timeout_s=5)
    await submit(redis_queue, "a2", "b1")
    await clock.advance(5)
    assert await taken(redis_queue, 1) == ["a2"]
    assert group(raw) == (1, 1)
    assert (await redis_queue.get(TaskId("a1"))).state == State.DEAD


@pytest.mark.redis
async def test_a_ticket_without_a_task_is_spent_and_gone(redis_queue: RedisQueue, raw: Redis) -> None:
    await submit(redis_queue, "a1")
    raw.xadd(TASKS, {"ticket": "1"})
    assert group(raw) == (2, 0)
    assert await taken(redis_queue) == ["a1"]
    assert group(raw) == (0, 1)
    assert raw.xlen(TASKS) == 1


@pytest.mark.redis
async def test_nothing_is_kept_of_a_tenant_that_does_not_wait_but_its_counter_for_an_hour(
    redis_queue: RedisQueue, raw: Redis
) -> None:
    await submit(redis_queue, "a1", "a2", "b1", priority="batch")
    assert of_order(raw) == {"batch": ["a", "b"], "batch:a": ["a1", "a2"], "batch:b": ["b1"]}
    await taken(redis_queue, 2)
    assert of_order(raw) == {"batch": ["a"], "batch:a": ["a2"], "batch:b:served": "10000"}
    assert 3_590_000 < raw.pttl(f"{WAITING}:batch:b:served") <= 3_600_000
    await redis_queue.cancel(TaskId("a2"))
    assert of_order(raw) == {"batch:a:served": "10000", "batch:b:served": "10000"}
    kept = raw.hgetall(WAITING)
    assert kept.pop("read") == raw.xinfo_groups(TASKS)[0]["last-delivered-id"]
    assert kept == {"seq": "3", "count:batch": "0", "floor:batch": "10000", "tokens": "0"}


@pytest.mark.redis
async def test_what_was_deleted_by_hand_stops_nobody_else(redis_queue: RedisQueue, raw: Redis) -> None:
    await submit(redis_queue, "a1", "b1")
    raw.delete(f"{WAITING}:normal:a")
    assert await taken(redis_queue) == ["b1"]
    assert group(raw) == (0, 1)
    await redis_queue.reclaim(MODEL)
    assert group(raw) == (0, 1)


# --- tasks of the version before --------------------------------------------------------------------------------------


async def left_by_the_version_before(queue: RedisQueue, raw: Redis, names: Sequence[str]) -> None:
    """Tasks as it wrote them: the entry names its task, the task its entry, and the head says no priority."""
    for name in names:
        await submit(queue, name)
        head = str(raw.hget(f"stoker:task:{name}", "head"))
        raw.hset(f"stoker:task:{name}", "head", head.replace(',"priority":"normal","weight":1', ""))
    raw.delete(TASKS, *raw.keys(f"{WAITING}*"))
    raw.xgroup_create(TASKS, "workers", id="0", mkstream=True, entries_read=0)
    for name in names:
        raw.hset(f"stoker:task:{name}", "entry", raw.xadd(TASKS, {"id": name}))


@pytest.mark.redis
async def test_what_waited_before_is_taken_first_and_ends_as_any(redis_queue: RedisQueue, raw: Redis) -> None:
    await left_by_the_version_before(redis_queue, raw, ["o1", "o2", "o3"])
    await submit(redis_queue, "a1", priority="interactive")
    assert group(raw) == (4, 0)
    await redis_queue.cancel(TaskId("o2"))
    await redis_queue.cancel(TaskId("o2"))
    assert group(raw) == (3, 0)
    first, second, third = await redis_queue.claim(MODEL, "w1", count=9)
    assert [first.task.id, second.task.id, third.task.id] == ["o1", "o3", "a1"]
    assert first.task.priority == "normal"
    await redis_queue.complete(second, {}, usage=usage_of(second))
    await redis_queue.fail(first, "boom", retry_in_s=0, usage=usage_of(first))
    assert group(raw) == (1, 1)
    assert await taken(redis_queue) == ["o1"]


def drop_as_the_version_before(raw: Redis, worker: str) -> None:
    """A worker of it reads a ticket, finds no task, and drops it: what its Lua did."""
    [[_, [[entry, _]]]] = raw.xreadgroup("workers", worker, {TASKS: ">"}, count=1)
    raw.xack(TASKS, "workers", entry)
    raw.xdel(TASKS, entry)
    stream = raw.xinfo_stream(TASKS)
    last, added = stream["last-generated-id"], stream["entries-added"]
    raw.execute_command("XSETID", TASKS, last, "ENTRIESADDED", added, "MAXDELETEDID", "0-1")


@pytest.mark.redis
async def test_a_worker_of_the_version_before_that_still_runs_loses_nothing(
    redis_queue: RedisQueue, raw: Redis
) -> None:
    await submit(redis_queue, "a1", "a2", "b1")
    drop_as_the_version_before(raw, "old")
    drop_as_the_version_before(raw, "old")
    assert await taken(redis_queue, 1) == ["a1"]
    assert await taken(redis_queue) == []
    assert group(raw) == (0, 1)
    await redis_queue.reclaim(MODEL)
    assert group(raw) == (2, 1)
    assert await taken(redis_queue) == ["b1", "a2"]
    assert group(raw) == (0, 3)


# --- how much waits ---------------------------------------------------------------------------------------------------


async def test_the_oldest_task_is_that_which_was_submitted_first_of_those_that_wait(queue: Queue) -> None:
    assert await queue.oldest(MODEL) is None
    for number, tenant in enumerate(("a", "a", "b"), 1):
        await queue.submit(of(tenant, 10), task_id=TaskId(f"{tenant}{number}"))
    at = {task.id: task.submitted_at for task in await queue.list(model=MODEL)}
    assert await queue.oldest(MODEL) == pytest.approx(at["a1"], abs=0.001)
    await queue.cancel(TaskId("a1"))
    assert await queue.oldest(MODEL) == pytest.approx(min(at["a2"], at["b3"]), abs=0.001)
    await queue.claim(MODEL, "w1", count=2)
    assert await queue.oldest(MODEL) is None


async def test_the_tokens_that_wait_are_those_of_the_tasks_that_wait(queue: Queue) -> None:
    """By their bounds: 10, 20 and 1 for a task that nobody bounded; what runs, is delayed or has ended is not in it."""
    assert await queue.waiting_tokens(MODEL) == 0
    await queue.submit(of("a", 10), task_id=TaskId("a1"))
    await queue.submit(of("b", 20), task_id=TaskId("b1"))
    await queue.submit(a_task(), task_id=TaskId("free"))
    assert await queue.waiting_tokens(MODEL) == 31
    await queue.cancel(TaskId("free"))
    assert await queue.waiting_tokens(MODEL) == 30
    claim = await claim_one(queue)
    assert await queue.waiting_tokens(MODEL) == 30 - sum(claim.task.bound or (0, 0))
    await queue.release(claim)
    assert await queue.waiting_tokens(MODEL) == 30
    for one in await queue.claim(MODEL, "w1", count=2):
        await queue.fail(one, "no", retry_in_s=60.0)
    assert await queue.waiting_tokens(MODEL) == 0


async def test_a_replay_waits_with_its_own_bound(queue: Queue) -> None:
    await queue.submit(of("a", 10), task_id=TaskId("a1"))
    await queue.fail(await claim_one(queue), "no", retry_in_s=None)
    await queue.retry(TaskId("a1"), bound=TokenBound(40, 5))
    assert await queue.waiting_tokens(MODEL) == 45


@pytest.mark.redis
async def test_tasks_of_a_version_that_did_not_count_tokens_do_not_make_them_negative(
    redis_queue: RedisQueue, raw: Redis
) -> None:
    await redis_queue.submit(of("a", 10))
    raw.hdel(WAITING, "tokens")
    await claim_one(redis_queue)
    assert await redis_queue.waiting_tokens(MODEL) == 0
    await redis_queue.submit(of("a", 10))
    assert await redis_queue.waiting_tokens(MODEL) == 10

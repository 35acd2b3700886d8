"""Whatever is called in whatever order, sense or nonsense, both stores of budgets answer the same and know the same."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from budget_builders import DAY, DOLLARS, SCOPES, SESSION, SLOTS, START, TOKENS, TTL_S, World, make_memory, make_redis
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from queue_builders import MODEL, a_record, a_task, all_usage
from redis import Redis

from stoker.base.errors import Conflict
from stoker.base.ids import TaskId
from stoker.policy.budgets import Ask, Part, Spent
from stoker.queue import InFlightPart, MemoryQueue, Task
from stoker.queue.budgets import Hold, Settlement
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer

OWNERS = ["gw_a", "gw_b", "gw_c"]
COUNTERS = [TOKENS, DOLLARS, SLOTS, DAY, SESSION]
LATER = START + 86_400.0
Step = Callable[[World], Awaitable[Any]]

owner = st.sampled_from(OWNERS)
counter = st.sampled_from(COUNTERS)
amount = st.integers(0, 30)
number = st.integers(1, 6)
seconds = st.sampled_from([0.0, 1.0, 5.0, 60.0])
expiry = st.sampled_from([None, LATER, LATER + 600])


def each_once(entries: Any) -> Any:
    """Lists in which no two entries are of one counter."""
    return st.lists(entries, max_size=3, unique_by=lambda entry: entry[0])


parts = each_once(st.builds(Part, counter, amount))
in_flight = st.lists(st.builds(InFlightPart, number, parts), max_size=3, unique_by=lambda each: each.number)


@st.composite
def an_ask(draw: st.DrawFn) -> Ask:
    need = draw(amount)
    return Ask(draw(counter), draw(st.integers(0, 60)), need, need + draw(amount), draw(expiry), draw(st.booleans()))


@st.composite
def a_settlement(draw: st.DrawFn) -> Settlement:
    usage = a_record(f"req_{draw(number)}").to_json() if draw(st.booleans()) else None
    spent = draw(each_once(st.builds(Spent, counter, amount, amount)))
    return Settlement(draw(number), usage, spent, draw(st.lists(st.sampled_from(SCOPES), unique=True)))


async def open_counter(world: World, counter: str) -> Any:
    world.openings[counter] = await world.store.open(counter)
    return world.openings[counter]


async def begin_opened(world: World, counter: str, spent: int, expires_at: float | None) -> Any:
    since = world.openings.get(counter)
    return await world.store.begin(counter, spent, expires_at=expires_at, since=since)


async def end_a_task(world: World) -> int:
    """Of the first that waits, with 10 tokens."""
    claims = await world.queue.claim(MODEL, "w1")
    for claim in claims:
        await world.queue.complete(claim, {}, usage=a_record(claim.task.usage_id))
    return len(claims)


async def submit(world: World, hold: Hold | None, task_id: str) -> str:
    try:
        return (await world.queue.submit(a_task(session="s1"), task_id=TaskId(task_id), hold=hold)).id
    except Conflict as void:
        return str(void)


async def lease_and_submit(world: World, hold: Hold, ahead: int) -> tuple[Any, str]:
    """As a gateway does that leases more than it needs."""
    asks = [Ask(counter, 60, amount, amount + ahead) for counter, amount in hold.parts]
    return await world.store.lease(hold.owner, asks), await submit(world, hold, f"task_{hold.number}")


async def renew_all(world: World) -> list[tuple[str, ...]]:
    """Each owner gives back all that it has of what others want."""
    wanted = [(await world.store.renew(name, ttl_s=TTL_S, watermark=1)).wanted for name in OWNERS]
    for name, counters in zip(OWNERS, wanted, strict=True):
        back = [Part(counter, 1000) for counter in counters]
        await world.store.renew(name, ttl_s=TTL_S, watermark=1, give_back=back)
    return wanted


async def fail(world: World, retry_in_s: float, used: int, is_released: bool) -> list[Task]:
    """A worker takes the oldest task, which fails or is handed back."""
    claims = await world.queue.claim(MODEL, "w1")
    for claim in claims:
        usage = a_record(claim.task.usage_id, used)
        if is_released:
            await world.queue.release(claim, usage=usage)
        else:
            await world.queue.fail(claim, "boom", retry_in_s=retry_in_s, usage=usage)
    return [await world.queue.get(claim.task.id) for claim in claims]


async def vanish(world: World) -> list[Task]:
    """A worker takes the oldest task and is not heard of again."""
    claims = await world.queue.claim(MODEL, "w1", lease_s=0)
    await world.queue.reclaim(MODEL)
    return [await world.queue.get(claim.task.id) for claim in claims]


def steps() -> st.SearchStrategy[tuple[str, Step]]:
    """One call of each kind, with its name."""

    def call(name: str, *args: Any, **options: Any) -> st.SearchStrategy[tuple[str, Step]]:
        def made(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[str, Step]:
            return f"{name}{args}{options}", lambda world: getattr(world.store, name)(*args, **options)

        return st.builds(made, st.tuples(*args), st.fixed_dictionaries(options))

    asks = each_once(an_ask())
    holds = st.builds(Hold, owner, number, parts)
    return st.one_of(
        call("enter", owner, ttl_s=seconds, watermark=number, holding=parts),
        call("renew", owner, ttl_s=seconds, watermark=number, give_back=parts),
        call("lease", owner, asks),
        call("lease", owner, asks),
        call("lease", owner, asks),
        call("begin", counter, amount, expires_at=expiry),
        st.builds(lambda c: (f"open {c}", lambda world: open_counter(world, c)), counter),
        st.builds(lambda *a: (f"begin {a}", lambda world: begin_opened(world, *a)), counter, amount, expiry),
        st.just(("append", lambda world: world.queue.append_usage(a_record("req_9")))),
        st.just(("end a task", end_a_task)),
        call("settle", owner, st.lists(a_settlement(), max_size=3)),
        call("settle", owner, st.lists(a_settlement(), max_size=3)),
        call("take_over", owner, owner, ttl_s=seconds, is_proved_dead=st.booleans()),
        call("take_over", owner, owner, ttl_s=st.just(60.0), is_proved_dead=st.just(True)),
        call("forfeit", owner, owner, st.none() | in_flight, usage=st.just([a_record("lost").to_json()])),
        call("leave", owner),
        call("establish", wait_s=seconds),
        st.builds(
            lambda h, t: (f"submit {t} {h}", lambda world: submit(world, h, t)),
            st.none() | holds,
            st.sampled_from("xyz"),
        ),
    )


def steps_of_tasks() -> st.SearchStrategy[tuple[str, Step]]:
    """What tasks go through while gateways lease ahead and give back."""

    def made(name: str, step: Callable[..., Awaitable[Any]], *args: Any) -> st.SearchStrategy[tuple[str, Step]]:
        return st.tuples(*args).map(lambda drawn: (f"{name} {drawn}", lambda world: step(world, *drawn)))

    holds = st.builds(Hold, owner, st.integers(10, 99), parts)
    return st.one_of(
        made("lease and submit", lease_and_submit, holds, st.integers(0, 200)),
        made("fail", fail, st.sampled_from([0.0, 2.0]), amount, st.booleans()),
        made("vanish", vanish),
        made("reclaim", lambda world: world.queue.reclaim(MODEL)),
        made("renew", renew_all),
    )


def in_any_order(answer: Any) -> Any:
    """What an owner holds comes in any order."""
    return sorted(answer) if isinstance(answer, list) and all(isinstance(each, Part) for each in answer) else answer


def slices_in(raw: Redis) -> dict[str, dict[str, int]]:
    found = {name: raw.hgetall(f"stoker:owner:{name}:slices") for name in OWNERS}
    return {name: {c: int(n) for c, n in slices.items()} for name, slices in found.items() if slices}  # type: ignore[union-attr]


EXAMPLES = settings(
    max_examples=examples(50),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.redis
@EXAMPLES
@given(st.lists(steps() | st.sampled_from([1.0, 4.0, 5.0, 30.0, "loss"]), min_size=10, max_size=60), st.booleans())
def test_both_stores_answer_the_same_and_know_the_same(
    redis_server: RedisServer, todo: list[Any], is_open: bool
) -> None:
    with Redis.from_url(redis_server.url, protocol=2, decode_responses=True) as raw:
        raw.flushall()
        asyncio.run(go_through(redis_server.url, raw, todo, is_open))


@pytest.mark.redis
@EXAMPLES
@given(st.lists(steps_of_tasks() | st.just(1.0), min_size=20, max_size=60))
def test_both_queues_do_the_same_with_what_tasks_hold(redis_server: RedisServer, todo: list[Any]) -> None:
    with Redis.from_url(redis_server.url, protocol=2, decode_responses=True) as raw:
        raw.flushall()
        asyncio.run(go_through(redis_server.url, raw, todo, True))


async def go_through(url: str, raw: Redis, todo: list[Any], is_open: bool) -> None:
    clock = ManualClock(START)
    redis, memory = make_redis(url, raw, clock), make_memory(clock)
    for world in (redis, memory):
        if is_open:
            await world.open(*OWNERS, limits=COUNTERS)
    try:
        for each in todo:
            if isinstance(each, float):
                await clock.advance(each)
            elif each == "loss":
                assert await all_usage(redis.queue) == await all_usage(memory.queue)
                lose(redis, memory)
            else:
                name, step = each
                answers = [in_any_order(await step(world)) for world in (redis, memory)]
                assert answers[0] == answers[1], name
            assert await redis.store.state(COUNTERS) == await memory.store.state(COUNTERS)
            assert await redis.store.dead_owners() == await memory.store.dead_owners()
            await check_slices(raw, memory)
        assert await all_usage(redis.queue) == await all_usage(memory.queue)
    finally:
        for world in (redis, memory):
            await world.store.aclose()
            await world.queue.aclose()


def lose(*worlds: World) -> None:
    """Budgets are lost and nothing else, so that both still know the same tasks and usage."""
    for world in worlds:
        if world.raw is None:
            world.lose_everything()
        elif keys := [key for key in world.raw.keys("stoker:*") if key.startswith(("stoker:budget", "stoker:owner"))]:  # type: ignore[union-attr]
            world.raw.delete(*keys)


async def check_slices(raw: Redis, memory: World) -> None:
    """Both know the same slices and counters of scopes, and what is leased of a counter that is known is their sum."""
    slices, found = slices_in(raw), {scope: raw.hgetall(f"stoker:budgets:of:{scope}") for scope in SCOPES}
    assert isinstance(memory.queue, MemoryQueue)
    books = memory.queue.books
    assert {scope: books.newest.get(scope, {}) for scope in SCOPES} == found
    assert slices == {name: dict(found.slices) for name, found in books.owners.items() if found.slices}
    for name, state in zip(COUNTERS, await memory.store.state(COUNTERS), strict=True):
        leased = sum(held.get(name, 0) for held in slices.values())
        assert state is None or state.leased == leased

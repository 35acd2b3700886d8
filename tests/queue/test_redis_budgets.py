"""What only the budgets on Redis have to show: calls whose answer was lost, and what stays in Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from budget_builders import DAY, DOLLARS, START, TOKENS, TTL_S, World, ask, hold, make_redis, settlement
from queue_builders import a_task, claim_one, usage_of
from redis import Redis

from stoker.base.errors import QueueUnavailable
from stoker.policy.budgets import Ask, Part
from stoker.queue import Gone, Leased, NotBegun, RedisBudgets, Renewed
from stoker.queue.budgets import OPENING_MS, REMEMBERED_MS, UNTOUCHED_MS
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer

pytestmark = pytest.mark.redis

SOON_S = 5.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def world(redis_url: str, raw: Redis, clock: ManualClock) -> AsyncIterator[World]:
    made = make_redis(redis_url, raw, clock)
    await made.open("gw_a", "gw_b")
    yield made
    await made.store.aclose()
    await made.queue.aclose()


class Line:
    """Between the store and Redis: loses the answer of the next call that is named, or the call itself."""

    def __init__(self, world: World) -> None:
        assert isinstance(world.store, RedisBudgets)
        self._redis = world.store._redis
        self._run = self._redis.run
        self._redis.run = self  # type: ignore[assignment,method-assign]
        self.losing: dict[str, str] = {}  # script -> "answer" or "call"
        self.held: dict[str, asyncio.Event] = {}  # script -> until when the next call waits here
        self.slow: dict[str, asyncio.Event] = {}  # script -> until when the answer of the next call waits here
        self.kept: list[tuple[Any, ...]] = []  # calls that were lost, to be delivered late

    async def __call__(self, script: str, *args: Any) -> Any:
        lost = self.losing.pop(script, "")
        if script in self.held:
            await self.held.pop(script).wait()
        if lost == "call":
            self.kept.append((script, *args))
            raise QueueUnavailable("the call was lost")
        answer = await self._run(script, *args)
        if script in self.slow:
            await self.slow.pop(script).wait()
        if lost == "answer":
            self.kept.append((script, *args))
            raise QueueUnavailable("its answer was lost")
        return answer

    async def deliver(self) -> list[Any]:
        """What was lost arrives at Redis after all (or, as a duplicate, again)."""
        kept, self.kept = self.kept, []
        return [await self._run(*each) for each in kept]


@pytest.fixture
def line(world: World) -> Line:
    return Line(world)


async def renew(world: World, *give_back: tuple[str, int]) -> Renewed:
    parts = [Part(*each) for each in give_back]
    return await world.store.renew("gw_a", ttl_s=TTL_S, watermark=1, give_back=parts)


async def lose_a_lease(world: World, line: Line, what: str, *asks: Ask) -> None:
    line.losing["budget_lease"] = what
    with pytest.raises(QueueUnavailable):
        await world.store.lease("gw_a", asks)


# --- leases whose answer was lost -----------------------------------------------------------------------------------


async def test_a_lease_whose_answer_was_lost_is_taken_back_by_the_next_renewal(world: World, line: Line) -> None:
    await world.lease("gw_a", ask(need=5))
    await lose_a_lease(world, line, "answer", ask(need=30), ask(DOLLARS, need=7))
    assert (await world.sums(), await world.sums(DOLLARS)) == ((0, 35, 0), (0, 7, 0))
    assert await renew(world) == Renewed("alive", ())
    assert (await world.sums(), await world.sums(DOLLARS)) == ((0, 5, 0), (0, 0, 0))
    await renew(world)
    await line.deliver()
    assert await world.sums() == (0, 5, 0)


async def test_a_lease_that_arrives_after_it_was_given_up_is_void(world: World, line: Line) -> None:
    await lose_a_lease(world, line, "call", ask(need=30))
    await renew(world)
    late = list(line.kept)
    assert await line.deliver() == [[b"void"]]
    await renew(world)
    await renew(world)  # by now Redis has forgotten that very call
    assert world.raw is not None
    assert world.raw.hgetall("stoker:owner:gw_a:answers") == {}
    line.kept = late
    assert await line.deliver() == [[b"void"]]
    assert await world.sums() == (0, 0, 0)


@pytest.mark.parametrize("where", ["on its way there", "on its way back"])
async def test_a_lease_that_is_cancelled_is_taken_back(world: World, line: Line, where: str) -> None:
    waits = line.held if where == "on its way there" else line.slow
    waits["budget_lease"] = asyncio.Event()
    asking = asyncio.create_task(world.store.lease("gw_a", [ask(need=30)]))
    await asyncio.wait({asking}, timeout=0.05)
    assert (await world.sums())[1] == (0 if where == "on its way there" else 30)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await renew(world)
    assert await world.sums() == (0, 0, 0)
    assert await world.lease("gw_a", ask(need=100)) == (100,)


async def test_the_same_call_delivered_twice_is_answered_as_the_first_time(world: World, line: Line) -> None:
    line.losing["budget_lease"] = "answer"
    with pytest.raises(QueueUnavailable):
        await world.store.lease("gw_a", [ask(need=30, want=60), ask(DOLLARS, need=2)])
    assert await line.deliver() == [[b"leased", 47, 2]]
    assert await world.sums() == (0, 47, 0)


@pytest.mark.parametrize(
    "name", ['key:a"b:tokens:total', "key:a\\:tokens:total", 'key:"],["x:tokens:total', "key:ü:t:total"]
)
async def test_a_lost_lease_is_taken_back_whatever_its_counter_is_called(world: World, line: Line, name: str) -> None:
    await world.store.begin(name, 0, expires_at=None)
    await lose_a_lease(world, line, "answer", ask(name, need=30))
    await renew(world)
    assert await world.sums(name) == (0, 0, 0)


async def test_a_lease_on_its_way_is_not_given_up_by_a_renewal(world: World, line: Line) -> None:
    line.held["budget_lease"] = on_its_way = asyncio.Event()
    asking = asyncio.create_task(world.store.lease("gw_a", [ask(need=30)]))
    await asyncio.wait({asking}, timeout=0.01)
    await renew(world)
    await world.lease("gw_a", ask(need=1))
    await renew(world)
    on_its_way.set()
    assert await asyncio.wait_for(asking, SOON_S) == Leased((30,))
    await renew(world)
    assert await world.sums() == (0, 31, 0)


# --- what is given back, once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["answer", "call"])
async def test_what_was_given_back_in_a_renewal_without_an_answer_is_free_once(
    world: World, line: Line, lost: str
) -> None:
    await world.lease("gw_a", ask(need=50))
    line.losing["budget_renew"] = lost
    with pytest.raises(QueueUnavailable):
        await renew(world, (TOKENS, 20))
    assert await world.sums() == (0, 50 if lost == "call" else 30, 0)
    late = list(line.kept)
    await renew(world, (TOKENS, 5))
    assert await world.sums() == (0, 25, 0)
    for _ in range(3):
        await renew(world)
        line.kept = list(late)
        await line.deliver()
    assert await world.sums() == (0, 25, 0)


async def test_what_was_given_back_twice_in_the_same_words_is_two(world: World) -> None:
    await world.lease("gw_a", ask(need=50))
    await renew(world, (TOKENS, 20))
    await renew(world, (TOKENS, 20))
    assert await world.sums() == (0, 10, 0)


# --- what was on its way when Redis lost its data -------------------------------------------------------------------


async def state_again(world: World, *holding: tuple[str, int]) -> None:
    """As the gateway does when it hears that it is unknown."""
    parts = [Part(*each) for each in holding]
    for counter in (TOKENS, DOLLARS):
        await world.store.begin(counter, 0, expires_at=None)
    assert await world.store.enter("gw_a", ttl_s=TTL_S, holding=parts) is None
    await world.store.establish(wait_s=0)


async def test_what_was_given_back_before_the_loss_is_not_taken_from_what_is_stated_after_it(
    world: World, line: Line
) -> None:
    await world.lease("gw_a", ask(need=50))
    line.losing["budget_renew"] = "answer"
    with pytest.raises(QueueUnavailable):
        await renew(world, (TOKENS, 20))
    world.lose_everything()
    await state_again(world, (TOKENS, 30))
    await renew(world)
    assert await world.sums() == (0, 30, 0)


async def test_what_is_given_back_while_redis_has_forgotten_the_owner_was_stated_without_it(world: World) -> None:
    await world.lease("gw_a", ask(need=50))
    world.lose_everything()
    assert await renew(world, (TOKENS, 20)) == Renewed("unknown", ())
    await state_again(world, (TOKENS, 30))
    await renew(world)
    assert await world.sums() == (0, 30, 0)
    await renew(world, (TOKENS, 10))
    assert await world.sums() == (0, 20, 0)


async def test_a_statement_whose_answer_was_lost_and_is_made_again_counts_once(world: World, line: Line) -> None:
    await world.lease("gw_a", ask(need=50))
    world.lose_everything()
    await world.store.begin(TOKENS, 0, expires_at=None)
    line.losing["budget_enter"] = "answer"
    with pytest.raises(QueueUnavailable):
        await world.store.enter("gw_a", ttl_s=TTL_S, holding=[Part(TOKENS, 50)])
    await renew(world, (TOKENS, 20))
    assert await world.store.enter("gw_a", ttl_s=TTL_S, holding=[Part(TOKENS, 30)]) is None
    await renew(world)
    assert await world.sums() == (0, 30, 0)


async def test_a_lost_lease_from_before_the_loss_is_void_and_one_that_waits_is_made_anew(
    world: World, line: Line
) -> None:
    line.held["budget_lease"] = on_its_way = asyncio.Event()
    waiting = asyncio.create_task(world.store.lease("gw_a", [ask(need=10)]))
    await asyncio.wait({waiting}, timeout=0.01)
    await lose_a_lease(world, line, "call", ask(need=30))
    await renew(world)  # it is given up, and Redis knows
    world.lose_everything()
    await state_again(world)
    await renew(world)  # the other one is still on its way
    assert await line.deliver() == [[b"void"]]
    on_its_way.set()
    assert await asyncio.wait_for(waiting, SOON_S) == Leased((10,))
    await renew(world)
    assert await world.sums() == (0, 10, 0)


async def test_calls_are_not_taken_for_those_of_before_the_loss(world: World) -> None:
    """Numbers that began anew would meet the answers that Redis still remembers."""
    for n in range(1, 6):
        await world.lease("gw_a", ask(need=n))
    world.lose_everything()
    assert await renew(world) == Renewed("unknown", ())
    assert await world.store.enter("gw_a", ttl_s=TTL_S, holding=[Part(TOKENS, 15)]) == NotBegun((TOKENS,))
    await state_again(world, (TOKENS, 15))
    for _ in range(8):
        assert await world.lease("gw_a", ask(need=2)) == (2,)
    assert await world.sums() == (0, 31, 0)


# --- what stays in Redis --------------------------------------------------------------------------------------------


def owner_keys(raw: Redis, owner: str) -> dict[str, int]:
    """What Redis keeps of an owner, with the rest of its time in ms."""
    keys = raw.keys(f"stoker:owner:{owner}*")
    assert isinstance(keys, list)
    return {key.removeprefix(f"stoker:owner:{owner}"): int(raw.pttl(key)) for key in keys}  # type: ignore[arg-type]


async def test_of_an_owner_that_left_only_what_it_has_settled_is_known_for_a_day(world: World, raw: Redis) -> None:
    await world.lease("gw_a", ask(need=50))
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 20, 10))])
    assert owner_keys(raw, "gw_a") == {"": -1, ":slices": -1, ":settled": -1, ":answers": -1}
    await world.store.leave("gw_a")
    kept = owner_keys(raw, "gw_a")
    assert set(kept) == {"", ":settled"}
    assert all(REMEMBERED_MS - 10_000 < left <= REMEMBERED_MS for left in kept.values())
    assert raw.zrange("stoker:owners", 0, -1) == ["gw_b"]


async def test_what_is_settled_late_is_not_known_for_ever_either(world: World, raw: Redis) -> None:
    await world.store.leave("gw_a")
    assert owner_keys(raw, "gw_a").keys() == {""}
    await world.store.settle("gw_a", [settlement(7, (TOKENS, 20, 10))])
    kept = owner_keys(raw, "gw_a")
    assert set(kept) == {"", ":settled"}
    assert all(REMEMBERED_MS - 10_000 < left <= REMEMBERED_MS for left in kept.values())


async def test_what_was_written_off_is_remembered_for_a_day(world: World, raw: Redis) -> None:
    await world.lease("gw_a", ask(need=50))
    await world.store.take_over("gw_a", "gw_b", ttl_s=10, is_proved_dead=True)
    await world.store.forfeit("gw_a", "gw_b", None)
    await world.store.settle("gw_a", [settlement(7, (TOKENS, 20, 10))])
    kept = owner_keys(raw, "gw_a")
    assert set(kept) == {"", ":settled"}
    assert all(0 < left <= REMEMBERED_MS for left in kept.values())


async def test_a_living_owner_keeps_nothing_of_what_is_over(world: World, raw: Redis) -> None:
    for n in range(1, 21):
        await world.lease("gw_a", ask(need=1))
        await world.store.settle("gw_a", [settlement(n, (TOKENS, 1, 1))])
    await world.store.renew("gw_a", ttl_s=TTL_S, watermark=19)
    assert raw.zrange("stoker:owner:gw_a:settled", 0, -1) == ["19", "20"]
    assert set(owner_keys(raw, "gw_a")) == {"", ":settled"}


SCOPE = "stoker:budgets:of:key:key_1"
DAY_S = 86_400.0


async def test_of_a_scope_one_field_is_kept_for_each_unit_and_window(world: World, raw: Redis) -> None:
    minutes = [f"key:key_1:tokens:minute:2100-03-01T12{n:02}" for n in range(20)]
    await world.lease("gw_a", *(ask(each, need=1, expires_at=START + 600, is_new=True) for each in minutes))
    await world.lease("gw_a", ask("key:key_1:concurrent:total", need=1, is_new=True))
    await world.store.open(DAY)
    assert raw.hgetall(SCOPE) == {
        "tokens:total": "",
        "tokens:minute": "2100-03-01T1219",
        "tokens:day": "2100-03-01",
    }
    assert raw.pttl(SCOPE) == -1


async def test_a_counter_that_is_gone_leaves_its_scope_with_the_next_settlement(world: World, raw: Redis) -> None:
    await world.store.begin(DAY, 0, expires_at=START + 600)
    raw.delete(f"stoker:budget:{DAY}")
    await world.store.settle("gw_a", [settlement(1, usage="req_1", scopes=["key:key_1"])])
    assert raw.hgetall(SCOPE) == {"tokens:total": ""}


async def test_the_counters_of_a_session_are_forgotten_with_the_last_of_them(
    world: World, raw: Redis, clock: ManualClock
) -> None:
    session, month_s = "session:acme/s1", UNTOUCHED_MS / 1000

    def kept_s() -> float:
        at = raw.pexpiretime(f"stoker:budgets:of:{session}")
        assert isinstance(at, int)
        return at / 1000 - clock.now()

    await world.store.begin(f"{session}:tokens:total", 0, expires_at=None)
    assert kept_s() == month_s + DAY_S
    await clock.advance(DAY_S)
    await world.store.settle("gw_a", [settlement(1, usage="req_1", scopes=[session])])
    assert kept_s() == month_s  # not sooner than its counters
    await clock.advance(1)
    await world.store.settle("gw_a", [settlement(2, usage="req_2", scopes=[session])])
    assert kept_s() == month_s + DAY_S
    await world.store.begin(f"{session}:tokens:month:2100-03", 0, expires_at=clock.now() + month_s + 2 * DAY_S)
    assert kept_s() == month_s + 3 * DAY_S
    await world.store.begin(f"{session}:tokens:day:2100-03-01", 0, expires_at=clock.now() + 600)
    assert kept_s() == month_s + 3 * DAY_S


async def test_a_counter_that_was_opened_and_never_begun_is_forgotten(world: World, raw: Redis) -> None:
    session = "session:acme/s1:tokens:total"
    await world.store.open(session)
    await world.store.settle("gw_a", [settlement(1, usage="req_1", scopes=["session:acme/s1"])])
    assert raw.hgetall(f"stoker:budget:{session}") == {"opened_at": str(int(START * 1000)), "late": "10"}
    assert raw.pexpiretime(f"stoker:budget:{session}") == START * 1000 + OPENING_MS


async def test_a_task_of_before_there_were_scopes_is_spent_of_what_it_holds_and_nothing_else(
    world: World, raw: Redis
) -> None:
    await world.lease("gw_a", ask(need=40))
    task = await world.queue.submit(a_task(), hold=hold(1, (TOKENS, 40)))
    assert raw.hget(f"stoker:task:{task.id}", "scopes") == "key:key_1 tenant:acme"
    raw.hdel(f"stoker:task:{task.id}", "scopes")
    claim = await claim_one(world.queue)
    await world.queue.complete(claim, {}, usage=usage_of(claim))
    assert (await world.sums(), await world.sums(DOLLARS)) == ((10, 0, 0), (0, 0, 0))


async def test_the_books_outlive_a_killed_server_and_go_by_its_time(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        store = RedisBudgets(server.url)  # no clock is handed in
        await store.establish(wait_s=0)
        await store.begin(TOKENS, 3, expires_at=None)
        await store.begin(DAY, 3, expires_at=0)
        await store.enter("gw_a", ttl_s=3600)
        await store.enter("gw_c", ttl_s=0)
        assert await store.lease("gw_a", [ask(need=50)]) == Leased((50,))
        server.kill()
        server.start()
        assert await store.settle("gw_a", [settlement(1, (TOKENS, 20, 9))]) == [True]
        assert [state and state[:3] for state in await store.state([TOKENS, DAY])] == [(12, 41, 0), (3, 0, 0)]
        assert await store.dead_owners() == ["gw_c"]
        with Redis.from_url(server.url, protocol=2) as raw:
            left_ms = raw.pttl(f"stoker:budget:{DAY}")
            assert isinstance(left_ms, int)
            assert 30_000 < left_ms <= 60_000
        await store.aclose()


async def test_a_redis_that_is_gone_is_one_error_of_ours(tmp_path: Path) -> None:
    store = RedisBudgets(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(QueueUnavailable, match="cannot budget lease: Redis said ConnectionError"):
        await store.lease("gw_a", [ask(need=1)])
    with pytest.raises(QueueUnavailable, match="cannot budget settle"):
        await store.settle("gw_a", [settlement(1, (TOKENS, 1, 1))])
    await store.aclose()


async def test_one_object_serves_owners_that_come_and_go(world: World) -> None:
    """Nothing is kept of those that are gone."""
    assert isinstance(world.store, RedisBudgets)
    for n in range(5):
        await world.store.enter(f"gw_{n}", ttl_s=TTL_S)
        await world.store.lease(f"gw_{n}", [ask(need=1)])
        await world.store.leave(f"gw_{n}")
        assert await world.store.enter(f"gw_{n}", ttl_s=TTL_S) == Gone("gone")
    assert set(world.store._calls) == {"gw_a", "gw_b"}

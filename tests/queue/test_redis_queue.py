"""What only the queue on Redis has to show: what KEDA and redis-cli see, and what happens when Redis is not well."""

import asyncio
import traceback
from pathlib import Path
from typing import Any

import pytest
from queue_builders import MODEL, a_record, a_task, all_usage, claim_one, until, usage_of
from redis import Redis

from stoker.base.errors import InvalidInput, QueueUnavailable
from stoker.base.ids import TaskId
from stoker.policy.budgets import Ask, Part
from stoker.queue import Depth, QueueSettings, RedisBudgets, RedisQueue, State, TokenBound
from stoker.queue.budgets import Hold
from stoker.queue.connection import Connection
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer

pytestmark = pytest.mark.redis

TASKS = "stoker:tasks:general"
SOON_S = 5.0


def group(raw: Redis) -> dict[str, Any]:
    [found] = raw.xinfo_groups(TASKS)
    return {name: found[name] for name in ("name", "lag", "pending")}


# --- what others see ------------------------------------------------------------------------------------------------


async def test_the_group_is_there_before_the_first_task(redis_queue: RedisQueue, raw: Redis) -> None:
    await redis_queue.claim(MODEL, "w1")
    assert group(raw) == {"name": "workers", "lag": 0, "pending": 0}


async def test_lag_counts_what_waits_when_tasks_end_out_of_order(redis_queue: RedisQueue, raw: Redis) -> None:
    """An XDEL behind or at the group's position makes Redis answer a lag of nil, and KEDA then does not scale."""
    ids = [(await redis_queue.submit(a_task())).id for _ in range(6)]
    a, b, c = await redis_queue.claim(MODEL, "w1", count=3)
    assert group(raw) == {"name": "workers", "lag": 3, "pending": 3}
    await redis_queue.complete(c, {})
    assert group(raw) == {"name": "workers", "lag": 3, "pending": 2}
    await redis_queue.cancel(ids[4])  # not delivered yet, in the middle of what waits
    assert group(raw) == {"name": "workers", "lag": 2, "pending": 2}
    await redis_queue.fail(b, "boom", retry_in_s=0)  # a new entry
    assert group(raw) == {"name": "workers", "lag": 3, "pending": 1}
    await redis_queue.complete(a, {})
    await redis_queue.cancel(ids[3])  # the first of what waits
    assert group(raw) == {"name": "workers", "lag": 2, "pending": 0}
    assert [claim.task.id for claim in await redis_queue.claim(MODEL, "w1", count=9)] == [ids[5], ids[1]]
    assert group(raw) == {"name": "workers", "lag": 0, "pending": 2}


async def test_lag_stays_exact_after_the_server_came_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        queue = RedisQueue(server.url)
        ids = [(await queue.submit(a_task())).id for _ in range(4)]
        first, second = await queue.claim(MODEL, "w1", count=2)
        await queue.complete(second, {})
        await queue.cancel(ids[2])
        server.kill()
        server.start()
        with Redis.from_url(server.url, protocol=2, decode_responses=True) as raw:
            assert group(raw) == {"name": "workers", "lag": 1, "pending": 1}
        assert await queue.complete(first, {"late": "and still its own"})
        await queue.aclose()


async def test_nothing_of_a_done_task_stays_but_its_hash_and_that_for_its_time(redis_url: str, raw: Redis) -> None:
    queue = RedisQueue(redis_url, settings=QueueSettings(result_ttl_s=100))
    await queue.submit(a_task(stream=True), task_id=TaskId("task_1"))
    claim = await claim_one(queue)
    await queue.publish(claim, [b"x"], first=0)
    await queue.complete(claim, {})
    await queue.aclose()
    assert raw.xlen(TASKS) == 0
    assert set(raw.keys("stoker:task*")) == {TASKS, "stoker:task:task_1"}
    assert 99_000 < raw.pttl("stoker:task:task_1") <= 100_000
    assert 99_000 < raw.pttl("stoker:chunks:task_1") <= 100_000
    assert raw.exists("stoker:leases:general", "stoker:delayed:general", "stoker:dead:general") == 0


async def test_what_a_task_has_said_stays_for_an_hour_after_its_end(redis_url: str, raw: Redis) -> None:
    queue = RedisQueue(redis_url)
    await queue.submit(a_task(stream=True), task_id=TaskId("task_1"))
    claim = await claim_one(queue)
    await queue.publish(claim, [b"x"], first=0)
    assert raw.pttl("stoker:chunks:task_1") > 3_600_000  # as long as it runs
    await queue.complete(claim, {})
    await queue.aclose()
    assert 3_590_000 < raw.pttl("stoker:chunks:task_1") <= 3_600_000
    assert raw.pttl("stoker:task:task_1") > 3_600_000


async def test_dead_letters_stay_and_say_why(redis_queue: RedisQueue, raw: Redis) -> None:
    await redis_queue.submit(a_task(), task_id=TaskId("task_1"))
    await redis_queue.fail(await claim_one(redis_queue), "engine said 404", retry_in_s=None)
    [(_, letter)] = raw.xrange("stoker:dead:general")
    assert letter == {"id": "task_1", "reason": "engine said 404"}
    assert raw.pttl("stoker:task:task_1") == -1
    await redis_queue.retry(TaskId("task_1"))
    assert raw.xlen("stoker:dead:general") == 0


async def test_leases_go_by_the_time_of_redis_when_no_clock_is_given(redis_url: str) -> None:
    queue = RedisQueue(redis_url)
    await queue.submit(a_task())
    held = await claim_one(queue, lease_s=60)
    assert await queue.reclaim(MODEL) == 0
    assert 59 < held.lease_expires_at - held.task.submitted_at <= 61
    await queue.extend(held, lease_s=0)
    assert await queue.reclaim(MODEL) == 1
    await queue.aclose()


async def test_an_entry_without_its_task_is_dropped(redis_queue: RedisQueue, raw: Redis) -> None:
    await redis_queue.submit(a_task(), task_id=TaskId("task_lost"))
    await redis_queue.submit(a_task(), task_id=TaskId("task_here"))
    raw.delete("stoker:task:task_lost")
    assert [claim.task.id for claim in await redis_queue.claim(MODEL, "w1", count=1)] == ["task_here"]
    assert await redis_queue.depth(MODEL) == Depth(lag=0, pending=1, delayed=0, dead=0)


async def test_a_usage_record_that_cannot_be_read_does_not_stop_the_others(redis_queue: RedisQueue, raw: Redis) -> None:
    raw.xadd("stoker:usage", {"r": "{not json"})
    raw.xadd("stoker:usage", {"r": '{"unknown": 1}'})
    await redis_queue.append_usage(a_record("req_1"))
    assert [record.id for _, record in await redis_queue.read_usage("ledger")] == ["req_1"]
    assert raw.xlen("stoker:usage") == 1


async def test_a_task_from_before_bounds_had_money_counts_as_what_was_reserved(
    redis_queue: RedisQueue, redis_url: str, raw: Redis, clock: ManualClock
) -> None:
    budgets = RedisBudgets(redis_url, clock=clock)
    counter = "key:key_1:tokens:total"
    await budgets.establish(wait_s=0)
    await budgets.begin(counter, 0, expires_at=None)
    await budgets.enter("gw_a", ttl_s=60)
    await budgets.lease("gw_a", [Ask(counter, 100, 40, 40)])
    hold = Hold("gw_a", 1, [Part(counter, 40)])
    task = await redis_queue.submit(a_task(bound=TokenBound(28, 12, 9), max_attempts=1), hold=hold)
    head = str(raw.hget(f"stoker:task:{task.id}", "head"))
    raw.hset(f"stoker:task:{task.id}", "head", head.replace('"bound":[28,12,9]', '"bound":[28,12]'))
    claim = await claim_one(redis_queue, lease_s=0)
    assert claim.task.bound == TokenBound(28, 12)
    await redis_queue.reclaim(MODEL)
    [record] = await all_usage(redis_queue)
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (0, 40, 0)
    await budgets.aclose()


# --- waking and telling ---------------------------------------------------------------------------------------------


async def test_all_waiters_of_a_process_share_one_connection(redis_queue: RedisQueue, raw: Redis) -> None:
    submitted = await redis_queue.submit(a_task())
    waiting = [asyncio.create_task(redis_queue.wait(submitted.id, timeout_s=30)) for _ in range(40)]
    await asyncio.wait(waiting, timeout=0.1)
    assert len(raw.client_list(_type="pubsub")) == 1
    await redis_queue.cancel(submitted.id)
    await asyncio.wait_for(asyncio.gather(*waiting), SOON_S)


async def test_a_waiter_whose_connection_is_cut_still_has_the_end(redis_queue: RedisQueue, raw: Redis) -> None:
    await redis_queue.submit(a_task(stream=True))
    claim = await claim_one(redis_queue)
    waiting = asyncio.create_task(redis_queue.wait(claim.task.id, timeout_s=30))
    reading = asyncio.create_task(anext(aiter(redis_queue.chunks(claim.task.id))))
    await asyncio.wait({waiting, reading}, timeout=0.1)
    assert raw.client_kill_filter(_type="pubsub") == 1
    await redis_queue.publish(claim, [b"x"], first=0)
    await redis_queue.complete(claim, {})
    assert (await asyncio.wait_for(reading, SOON_S)).data == b"x"
    assert (await asyncio.wait_for(waiting, SOON_S)).state == State.DONE


async def test_a_ring_that_a_dying_worker_swallowed_is_rung_again(redis_queue: RedisQueue, raw: Redis) -> None:
    dying = asyncio.create_task(asyncio.to_thread(raw.blpop, ["stoker:bell:general"], SOON_S))
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    waiting = asyncio.create_task(redis_queue.claim(MODEL, "w1", wait_s=30))
    await until(lambda: raw.info("clients")["blocked_clients"] == 2)
    await redis_queue.submit(a_task())
    assert await asyncio.wait_for(dying, SOON_S) is not None
    assert (await asyncio.wait({waiting}, timeout=0.05))[1]
    await redis_queue.reclaim(MODEL)
    assert len(await asyncio.wait_for(waiting, SOON_S)) == 1


async def test_a_claim_that_is_given_up_takes_nothing_with_it(redis_queue: RedisQueue, raw: Redis) -> None:
    waiting = asyncio.create_task(redis_queue.claim(MODEL, "w1", wait_s=30))
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    submitted = await redis_queue.submit(a_task())
    assert (await claim_one(redis_queue, "w2")).task.id == submitted.id


async def test_a_task_that_nobody_can_read_is_dead_and_ends_no_worker(redis_queue: RedisQueue, raw: Redis) -> None:
    """Somebody wrote into its hash: it would end each worker that takes it, and all that run there."""
    broken, sound = [await redis_queue.submit(a_task()) for _ in range(2)]
    raw.hset(f"stoker:task:{broken.id}", "body", "{no json")
    assert [claim.task.id for claim in await redis_queue.claim(MODEL, "w1", count=2)] == [sound.id]
    [letter] = await redis_queue.dead(MODEL)
    assert letter.error is not None
    assert (letter.id, letter.error["code"]) == (broken.id, "task_unreadable")
    assert await redis_queue.depth(MODEL) == Depth(lag=0, pending=1, delayed=0, dead=1)
    [record] = await all_usage(redis_queue)
    assert (record.id, record.status) == (broken.id, "failed")


# --- when Redis is not well -----------------------------------------------------------------------------------------


async def test_tasks_and_waiters_outlive_a_killed_server(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        queue, clock = RedisQueue(server.url), ManualClock()
        await queue.submit(a_task(), task_id=TaskId("task_1"))
        claim = await claim_one(queue, lease_s=600)
        waiting = asyncio.create_task(queue.wait(claim.task.id, timeout_s=60))
        await asyncio.wait({waiting}, timeout=0.1)
        server.kill()
        server.start()
        assert await queue.complete(claim, {"ok": clock.now()}, usage=usage_of(claim))
        assert (await asyncio.wait_for(waiting, SOON_S)).state == State.DONE
        assert [record for _, record in await queue.read_usage("ledger")] == [usage_of(claim)]
        await queue.aclose()


async def test_a_server_that_is_gone_is_one_error_of_ours(tmp_path: Path) -> None:
    queue = RedisQueue(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(QueueUnavailable, match="cannot submit: Redis said ConnectionError"):
        await queue.submit(a_task())
    with pytest.raises(QueueUnavailable, match="cannot listen for the end of tasks"):
        await queue.wait(TaskId("task_1"), timeout_s=1)
    await queue.aclose()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("maxmemory", "1", "OOM|OutOfMemory"), ("min-replicas-to-write", "1", "NOREPLICAS|NoReplicas")],
)
async def test_a_full_or_read_only_redis_refuses_before_anything_changed(
    tmp_path: Path, setting: str, value: str, said: str
) -> None:
    with RedisServer(tmp_path / "redis") as server, Redis.from_url(server.url, protocol=2) as raw:
        queue = RedisQueue(server.url)
        raw.config_set(setting, value)
        with pytest.raises(QueueUnavailable, match=said):
            await queue.submit(a_task(), task_id=TaskId("task_1"))
        raw.config_set(setting, "0")
        assert raw.dbsize() == 0
        await queue.submit(a_task(), task_id=TaskId("task_1"))
        assert len(await queue.claim(MODEL, "w1", count=2)) == 1
        await queue.aclose()


@pytest.mark.parametrize("ask", ["ask", "ask_blocking"])
async def test_who_is_cancelled_as_the_answer_comes_is_cancelled_all_the_same(redis_url: str, ask: str) -> None:
    """As redis-py does it on Python 3.11; a gateway that stops waits for its readers to end."""
    connection = Connection(redis_url)
    waits = asyncio.Event()

    async def stubborn() -> str:
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "the answer"
        raise AssertionError

    options = {"wait_s": 60.0} if ask == "ask_blocking" else {}
    asking = asyncio.create_task(getattr(connection, ask)("read usage", stubborn(), **options))
    await waits.wait()
    asking.cancel()
    await asyncio.wait({asking}, timeout=10)
    assert asking.cancelled()
    await connection.aclose()


def test_a_url_that_is_none_says_what_would_be_right() -> None:
    with pytest.raises(InvalidInput, match=r"redis\.url is not a URL of Redis") as refused:
        RedisQueue("http://localhost:6379")
    assert refused.value.param == "redis.url"


@pytest.mark.parametrize("url", ["redis://:hunter2/x@host:1/0", "redis://:x?hunter2@host/0", "redis://u:hunter2#@host"])
def test_a_password_that_ends_before_the_host_is_unsaid(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"redis\.url is not a URL of Redis") as refused:
        RedisQueue(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))
    assert "%XX" in str(refused.value.hint)


async def test_usage_is_read_again_after_redis_has_lost_everything(redis_url: str) -> None:
    queue = RedisQueue(redis_url)
    assert await queue.read_usage("gateway") == []
    with Redis.from_url(redis_url, protocol=2) as raw:
        raw.flushall()
    assert await queue.read_usage("gateway") == []
    await queue.append_usage(a_record("req_1"))
    assert [record.id for _, record in await queue.read_usage("gateway")] == ["req_1"]
    await queue.aclose()

"""When Redis is full, slow, read-only, started anew, failed over, or cut off in the middle of its answer: what each
step of the queue does then, and that all goes on by itself afterwards. docs/queue.md says what a person sees of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from budget_builders import TOKENS, ask, settlement
from queue_builders import MODEL, a_task, all_usage, claim_one, usage_of
from redis import Redis

from stoker.base.errors import NotFound, QueueUnavailable
from stoker.base.ids import ModelName, TaskId
from stoker.queue import Claim, Depth, Leased, LeaseState, RedisBudgets, RedisQueue, State, Task
from stoker.queue.batching import Script
from stoker.queue.connection import source, step_source
from stoker.testing.proxy import Proxy
from stoker.testing.redis import RedisServer

pytestmark = pytest.mark.redis


@dataclass
class Scene:
    """A queue with tasks in each state that a step may find, and the proxy between it and its Redis."""

    queue: RedisQueue
    budgets: RedisBudgets
    proxy: Proxy
    server: RedisServer
    claims: dict[str, Claim] = field(default_factory=dict)

    async def prepare(self) -> None:
        for step in ("extend", "publish", "complete", "fail", "release", "cancel"):
            await self.queue.submit(a_task(), task_id=TaskId(f"task_{step}"))
            self.claims[step] = await claim_one(self.queue, lease_s=600)
        await self.queue.submit(a_task(), task_id=TaskId("task_retry"))
        assert await self.queue.fail(await claim_one(self.queue), "boom", retry_in_s=None)
        await all_usage(self.queue)
        await self.queue.submit(a_task(), task_id=TaskId("task_claim"))
        await self.budgets.establish(wait_s=0)
        await self.budgets.enter("gw_a", ttl_s=60)
        await self.budgets.begin(TOKENS, 0, expires_at=None)
        assert isinstance(await self.budgets.lease("gw_a", [ask(TOKENS, 50, limit=100)]), Leased)

    def raw(self) -> Redis:
        return Redis.from_url(self.server.url, protocol=2, decode_responses=True)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


@pytest.fixture
async def scene(server: RedisServer) -> AsyncIterator[Scene]:
    async with Proxy(server.url) as proxy:
        made = Scene(RedisQueue(proxy.redis_url), RedisBudgets(proxy.redis_url), proxy, server)
        await made.prepare()
        yield made
        await made.queue.aclose()
        await made.budgets.aclose()


# Each step with a claim or a task of its own, so that they can be made in any order. What they answer, made once.
STEPS: dict[str, Callable[[Scene], Awaitable[Any]]] = {
    "submit": lambda s: s.queue.submit(a_task(), task_id=TaskId("task_submit")),
    "claim": lambda s: s.queue.claim(MODEL, "w2", lease_s=600),
    "extend": lambda s: s.queue.extend(s.claims["extend"], lease_s=900),
    "publish": lambda s: s.queue.publish(s.claims["publish"], [b"one", b"two"], first=0),
    "complete": lambda s: s.queue.complete(s.claims["complete"], {"ok": 1}, usage=usage_of(s.claims["complete"])),
    "fail": lambda s: s.queue.fail(s.claims["fail"], "boom", retry_in_s=0, usage=usage_of(s.claims["fail"])),
    "release": lambda s: s.queue.release(s.claims["release"], usage=usage_of(s.claims["release"])),
    "cancel": lambda s: s.queue.cancel(s.claims["cancel"].task.id),
    "retry": lambda s: s.queue.retry(TaskId("task_retry")),
    "reclaim": lambda s: s.queue.reclaim(MODEL),
    "budget_settle": lambda s: s.budgets.settle("gw_a", [settlement(1, (TOKENS, 50, 7), usage="req_1")]),
}


def told(answer: Any) -> Any:
    """Of an answer what is the same whenever a step is made."""
    if isinstance(answer, Task):
        return answer.id, answer.state, answer.cancel_requested
    if isinstance(answer, list) and answer and isinstance(answer[0], Claim):
        return [claim.task.id for claim in answer]
    return answer


# What each step answers, made once, and after an answer that was lost. Of a claim nobody can know which tasks it took:
# it takes others, and those wait for the end of their lease.
ANSWERS: dict[str, tuple[Any, Any]] = {
    "submit": (("task_submit", State.QUEUED, False),) * 2,
    "claim": (["task_claim"], []),
    "extend": (LeaseState.HELD,) * 2,
    "publish": (True,) * 2,
    "complete": (True,) * 2,
    "fail": (True,) * 2,
    "release": (True,) * 2,
    "cancel": (("task_cancel", State.RUNNING, True),) * 2,
    "retry": (("task_retry", State.QUEUED, False),) * 2,
    "budget_settle": ([True], [False]),
}


async def outcome(scene: Scene) -> dict[str, Any]:
    """What became of all tasks, of the usage, and of the money."""
    tasks = {task.id: (task.state, len(task.attempts), task.replays) for task in await scene.queue.list(limit=1000)}
    chunks = await scene.queue.newest_chunk(TaskId("task_publish"))
    [money] = await scene.budgets.state([TOKENS])
    records = sorted(record.id for record in await all_usage(scene.queue))
    return {"tasks": tasks, "depth": await scene.queue.depth(MODEL), "chunks": chunks, "money": money, "usage": records}


# --- its connection is cut in the middle of an answer -----------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("step", ANSWERS)
async def test_a_connection_cut_in_the_middle_of_an_answer_doubles_and_loses_nothing(
    scene: Scene, step: str, after: int
) -> None:
    """The step was done; its caller is told, by the same call made again, and all is as if nothing had happened."""
    once, again = ANSWERS[step]
    await warm(scene, step)
    scene.proxy.cut_answer_to(script_of(step).sha.encode(), after=after)
    assert told(await STEPS[step](scene)) == again
    assert scene.proxy.cuts == 1
    cut = await outcome(scene)

    with scene.raw() as raw:
        raw.flushall()
    await scene.prepare()
    assert told(await STEPS[step](scene)) == once
    assert await outcome(scene) == cut


def script_of(step: str) -> Script:
    """Those about one task are done several in one run."""
    return source(step) if step in ("claim", "budget_settle") else step_source(step)


async def warm(scene: Scene, step: str) -> None:
    """Redis knows the script, so that it is done by the call that is cut."""
    with scene.raw() as raw:
        raw.script_load(script_of(step).text)


async def test_tasks_of_a_claim_that_nobody_heard_of_come_back_with_the_end_of_its_lease(scene: Scene) -> None:
    await warm(scene, "claim")
    scene.proxy.cut_answer_to(script_of("claim").sha.encode(), after=0)
    assert await scene.queue.claim(MODEL, "w2", lease_s=0.0) == []
    assert await scene.queue.reclaim(MODEL) == 1
    [claim] = await scene.queue.claim(MODEL, "w2")
    assert (claim.task.id, claim.attempt) == ("task_claim", 2)


# --- full, and without replicas ---------------------------------------------------------------------------------------


# A full Redis refuses a step at its first write that needs room. A claim begins with one that needs none, and whatever
# has begun is done whole: so work goes on.
DONE_WHILE_FULL = ("claim",)


@pytest.mark.parametrize("step", [step for step in ANSWERS if step != "extend"])
@pytest.mark.parametrize(
    ("setting", "said"), [("maxmemory", "OOM|OutOfMemory"), ("min-replicas-to-write", "NOREPLICAS|NoReplicas")]
)
async def test_a_full_or_read_only_redis_refuses_each_step_whole_and_it_is_done_later(
    scene: Scene, setting: str, said: str, step: str
) -> None:
    await warm(scene, step)
    with scene.raw() as raw:
        before = await outcome(scene)
        raw.config_set(setting, "1")
        if setting == "maxmemory" and step in DONE_WHILE_FULL:
            assert told(await STEPS[step](scene)) == ANSWERS[step][0]
            return
        with pytest.raises(QueueUnavailable, match=said):
            await STEPS[step](scene)
        raw.config_set(setting, "0")
    assert await outcome(scene) == before
    assert told(await STEPS[step](scene)) == ANSWERS[step][0]


# --- slow -------------------------------------------------------------------------------------------------------------


async def test_a_slow_redis_is_waited_for(scene: Scene) -> None:
    with scene.raw() as raw:
        raw.execute_command("CLIENT", "PAUSE", "300", "ALL")
        claims = await asyncio.gather(*(STEPS[step](scene) for step in ("submit", "complete", "fail")))
    assert [told(answer) for answer in claims] == [ANSWERS[step][0] for step in ("submit", "complete", "fail")]


@pytest.mark.parametrize("step", ["submit", "complete", "fail", "release", "budget_settle"])
async def test_a_redis_that_says_nothing_for_too_long_counts_as_gone_and_has_done_it_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr("stoker.queue.connection.ANSWER_TIMEOUT_S", 0.3)
    async with Proxy(server.url) as proxy:
        scene = Scene(RedisQueue(proxy.redis_url), RedisBudgets(proxy.redis_url), proxy, server)
        await scene.prepare()
        await warm(scene, step)
        proxy.hold_answers()
        with pytest.raises(QueueUnavailable):
            await STEPS[step](scene)
        proxy.let_go()
        assert told(await STEPS[step](scene)) == ANSWERS[step][1]
        usage = [record.id for record in await all_usage(scene.queue) if record.id != "task_retry"]
        assert usage == {"complete": ["task_complete"], "budget_settle": ["req_1"]}.get(step, [])
        await scene.queue.aclose()
        await scene.budgets.aclose()


# --- started anew -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_what_was_answered_outlives_a_restart_and_waiters_go_on(tmp_path: Path, how: str) -> None:
    with RedisServer(tmp_path / "redis") as server:
        queue = RedisQueue(server.url)
        for name in ("task_1", "task_2"):
            await queue.submit(a_task(), task_id=TaskId(name))
        claim = await claim_one(queue, lease_s=600)
        waiting = asyncio.create_task(queue.wait(claim.task.id, timeout_s=60))
        wanting = asyncio.create_task(queue.claim(ModelName("other"), "w2", wait_s=60))
        await asyncio.wait({waiting, wanting}, timeout=0.1)
        getattr(server, how)()
        server.start()
        assert await queue.complete(claim, {"ok": 1}, usage=usage_of(claim))
        assert (await asyncio.wait_for(waiting, 20)).state == State.DONE
        assert [task.task.id for task in await queue.claim(MODEL, "w1")] == ["task_2"]
        assert await all_usage(queue) == [usage_of(claim)]
        wanting.cancel()
        await asyncio.gather(wanting, return_exceptions=True)
        await queue.aclose()


# --- failed over ------------------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """A Redis and its replica. `proxy` is the address that everybody knows, `replication` the way between the two."""

    primary: RedisServer
    replica: RedisServer
    proxy: Proxy
    replication: Proxy

    async def caught_up(self) -> None:
        with Redis.from_url(self.primary.url, protocol=2) as raw:
            assert await asyncio.to_thread(raw.wait, 1, 20_000) == 1

    def fail_over(self) -> None:
        """The replica becomes the primary, at the same address; the one before is gone."""
        with Redis.from_url(self.replica.url, protocol=2) as raw:
            raw.replicaof("NO", "ONE")
        self.primary.kill()
        self.proxy.target = self.replica.url
        self.proxy.cut()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    with RedisServer() as primary, RedisServer() as replica:
        async with Proxy(primary.url) as proxy, Proxy(primary.url) as replication:
            with Redis.from_url(primary.url, protocol=2) as raw:
                raw.config_set("repl-diskless-sync-delay", "0")
            with Redis.from_url(replica.url, protocol=2, decode_responses=True) as raw:
                raw.replicaof("127.0.0.1", replication.port)
                async with asyncio.timeout(30):
                    while raw.info("replication")["master_link_status"] != "up":  # noqa: ASYNC110 - it tells nobody
                        await asyncio.sleep(0.02)
            yield Pair(primary, replica, proxy, replication)


async def test_a_replica_that_is_asked_to_write_is_one_error_of_ours(pair: Pair) -> None:
    queue = RedisQueue(pair.replica.url)
    with pytest.raises(QueueUnavailable, match=r"READONLY|ReadOnly"):
        await queue.submit(a_task())
    await queue.aclose()


async def test_after_a_failover_all_that_was_passed_on_goes_on(pair: Pair) -> None:
    queue = RedisQueue(pair.proxy.redis_url)
    for name in ("task_1", "task_2"):
        await queue.submit(a_task(), task_id=TaskId(name))
    claim = await claim_one(queue, lease_s=600)
    waiting = asyncio.create_task(queue.wait(claim.task.id, timeout_s=60))
    await asyncio.wait({waiting}, timeout=0.1)
    await pair.caught_up()
    pair.fail_over()
    assert await queue.extend(claim, lease_s=600) == LeaseState.HELD
    assert await queue.complete(claim, {"ok": 1}, usage=usage_of(claim))
    assert (await asyncio.wait_for(waiting, 20)).result == {"ok": 1}
    assert (await claim_one(queue)).task.id == "task_2"
    assert await queue.depth(MODEL) == Depth(lag=0, pending=1, delayed=0, dead=0)
    assert await all_usage(queue) == [usage_of(claim)]
    await queue.aclose()


async def test_what_was_not_passed_on_is_lost_and_the_same_call_again_finds_that_out(pair: Pair) -> None:
    """Answered by the primary in the moments before it died: a submission, a claim, and an end."""
    queue = RedisQueue(pair.proxy.redis_url)
    await queue.submit(a_task(), task_id=TaskId("task_claimed"))
    await queue.submit(a_task(), task_id=TaskId("task_done"))
    first = await claim_one(queue, lease_s=600)
    await pair.caught_up()
    pair.replication.turn_away()
    pair.replication.cut()
    assert first.task.id == "task_claimed"
    done = await claim_one(queue, lease_s=600)
    assert await queue.complete(done, {"ok": 1}, usage=usage_of(done))
    await queue.submit(a_task(), task_id=TaskId("task_lost"))
    pair.fail_over()

    with pytest.raises(NotFound):
        await queue.get(TaskId("task_lost"))
    assert (await queue.submit(a_task(), task_id=TaskId("task_lost"))).state == State.QUEUED  # the same call again
    assert await queue.complete(done, {"ok": 1}, usage=usage_of(done)) is False  # it waits: that claim never was
    again = await claim_one(queue, "w2")
    assert (again.task.id, again.token, again.attempt) == ("task_done", done.token, 1)
    assert await queue.complete(again, {"ok": 2}, usage=usage_of(again))
    assert await queue.complete(first, {"ok": 3}, usage=usage_of(first))  # what was passed on holds
    assert [record.id for record in await all_usage(queue)] == ["task_done", "task_claimed"]
    assert await queue.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)
    await queue.aclose()

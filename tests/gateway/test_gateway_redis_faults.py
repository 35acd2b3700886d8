"""What a client sees when Redis is full, slow, read-only, started anew, failed over or cut off in its answer: a 503
that says when to ask again, nothing half done, nothing twice, and all goes on by itself afterwards. On a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, SPEC, Stack, a_stack, a_worker, events_of, running_worker, until
from redis import Redis

from stoker.base.errors import QueueUnavailable
from stoker.base.ids import ModelName, TaskId
from stoker.engine.client import EngineClient
from stoker.meter.usage import UsageRecord
from stoker.queue import RedisBudgets, RedisQueue, RedisRegistry, State, Task
from stoker.queue.connection import source, step_source
from stoker.spec import loads
from stoker.testing.engine import EchoEngine
from stoker.testing.proxy import Proxy
from stoker.testing.redis import RedisServer
from stoker.web.client import Answer

pytestmark = pytest.mark.redis

GENERAL = ModelName("general")
CHAT, TASKS = "/v1/chat/completions", "/v1/tasks"
# 4 tokens in, 4 out; at most 42.
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO, "max_tokens": 10}
COUNTER = "tenant:acme:tokens:total"
PLATFORM = (
    SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", "acme: {budgets: {tokensTotal: 1000}}")
)


@dataclass
class Place:
    """A gateway whose way to Redis is a proxy."""

    stack: Stack
    proxy: Proxy
    server: RedisServer
    replica: RedisServer

    async def ask(self, path: str = CHAT, **headers: str) -> Answer:
        return await (await self.stack.http()).request("POST", path, body=ASKED, headers=headers)

    async def spent(self) -> tuple[int, int]:
        """Of the tenant's budget: what is spent, and what tasks hold."""
        [counter] = await self.stack.budgets.state([COUNTER])
        assert counter is not None
        return counter.spent, counter.held

    async def settled(self, count: int) -> list[UsageRecord]:
        """The records, once there are so many; there are no more, and the budget is what they say."""
        found: list[UsageRecord] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                found = [record for record in await self.stack.records() if record.completion_tokens]
                await asyncio.sleep(0.01)
        assert len(found) == count
        assert await self.spent() == (8 * count, 0)
        return found

    def raw(self) -> Redis:
        return Redis.from_url(self.server.url, protocol=2)

    def set(self, name: str, value: str) -> None:
        with self.raw() as raw:
            raw.config_set(name, value)


@pytest.fixture
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    """The second one is started by `replicated`."""
    replica = RedisServer()
    try:
        with RedisServer() as primary:
            yield primary, replica
    finally:
        replica.__exit__(None, None, None)


@pytest.fixture
async def place(
    tmp_path: Path, servers: tuple[RedisServer, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setattr("stoker.queue.connection.ANSWER_TIMEOUT_S", 0.3)  # 10 s are a long time for a test
    async with Proxy(servers[0].url) as proxy:
        url = proxy.redis_url
        queue, budgets, registry = RedisQueue(url), RedisBudgets(url), RedisRegistry(url)
        try:
            async with a_stack(
                tmp_path, platform=loads(PLATFORM), queue=queue, budgets=budgets, registry=registry
            ) as stack:
                yield Place(stack, proxy, *servers)
        finally:
            for part in (queue, budgets, registry):
                await part.aclose()


@asynccontextmanager
async def replicated(place: Place) -> AsyncIterator[None]:
    """The second server follows the first one."""
    await asyncio.to_thread(place.replica.start)
    async with Proxy(place.server.url) as replication:
        place.set("repl-diskless-sync-delay", "0")
        with Redis.from_url(place.replica.url, protocol=2, decode_responses=True) as raw:
            raw.replicaof("127.0.0.1", replication.port)
            async with asyncio.timeout(30):
                while raw.info("replication")["master_link_status"] != "up":  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.02)
        yield


def fail_over(place: Place) -> None:
    with Redis.from_url(place.replica.url, protocol=2) as raw:
        raw.replicaof("NO", "ONE")
    place.server.kill()
    place.proxy.target = place.replica.url
    place.proxy.cut()


# --- a Redis that says no, or nothing ---------------------------------------------------------------------------------


def is_full(place: Place) -> Callable[[], None]:
    place.set("maxmemory", "1")
    return lambda: place.set("maxmemory", "0")


def has_no_replica(place: Place) -> Callable[[], None]:
    place.set("min-replicas-to-write", "1")
    return lambda: place.set("min-replicas-to-write", "0")


def is_a_replica(place: Place) -> Callable[[], None]:
    with place.raw() as raw:
        raw.replicaof("127.0.0.1", 1)

    def again() -> None:
        with place.raw() as raw:
            raw.replicaof("NO", "ONE")

    return again


def says_nothing(place: Place) -> Callable[[], None]:
    place.proxy.hold_answers()
    return place.proxy.let_go


def was_killed(place: Place) -> Callable[[], None]:
    place.server.kill()
    return place.server.start


FAULTS = [is_full, has_no_replica, is_a_replica, says_nothing, was_killed]


@pytest.mark.parametrize("path", [CHAT, TASKS])
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_cannot_be_taken_is_a_503_that_says_when_to_ask_again_and_leaves_nothing(
    place: Place, fault: Callable[[Place], Callable[[], None]], path: str
) -> None:
    """No replica is up, so it would have to wait in the queue."""
    first = await place.ask(TASKS)
    mend = fault(place)
    refused = await place.ask(path)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "queue_unavailable"
    mend()
    # A Redis that says nothing may have stored it: its client was told no, so it is called off.
    async with asyncio.timeout(20):
        while [task.id for task in await waiting_tasks(place)] != [first.json()["id"]]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async with EchoEngine() as engine, running_worker(place.stack, engine, "w1"):
        answer = await asking_until_taken(place, path)
        http = await place.stack.http()
        for task_id in (first.json()["id"], answer.headers["x-request-id"]):
            assert (await http.get_json(f"/v1/tasks/{task_id}", {"wait": "20"}))["state"] == "done"
        await place.settled(2)
        assert len(engine.requests) == 2  # what was refused is not done as well
    assert await place.stack.queue.depth(GENERAL) == (0, 0, 0, 0)


async def waiting_tasks(place: Place) -> Sequence[Task]:
    try:
        return await place.stack.queue.list(state=State.QUEUED)
    except QueueUnavailable:
        return []


async def asking_until_taken(place: Place, path: str, **headers: str) -> Answer:
    """As its client does: again after `Retry-After`, here not for so long."""
    async with asyncio.timeout(20):
        while (answer := await place.ask(path, **headers)).status == 503:  # noqa: ASYNC110 - it is what clients do
            await asyncio.sleep(0.05)
    return answer


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_503_may_be_sent_again_by_its_key_and_is_done_once(
    place: Place, fault: Callable[[Place], Callable[[], None]]
) -> None:
    await place.ask(TASKS)
    mend = fault(place)
    assert (await place.ask(TASKS, **{"Idempotency-Key": "one"})).status == 503
    mend()
    async with EchoEngine() as engine, running_worker(place.stack, engine, "w1"):
        answer = await asking_until_taken(place, TASKS, **{"Idempotency-Key": "one"})
        again = await place.ask(TASKS, **{"Idempotency-Key": "one"})
        assert (again.json()["id"], again.headers["idempotent-replayed"]) == (answer.json()["id"], "true")
        await (await place.stack.http()).get_json(f"/v1/tasks/{again.json()['id']}", {"wait": "20"})
        await place.settled(2)
        assert len(engine.requests) == 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_replicas_answer_meanwhile_is_paid_for_afterwards_once(
    place: Place, fault: Callable[[Place], Callable[[], None]]
) -> None:
    """A replica needs no Redis: answers go on with what the gateway has set aside, and are in its journal."""
    await place.stack.engine()
    assert (await place.ask()).status == 200
    await place.settled(1)
    mend = fault(place)
    answers = [await place.ask() for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    mend()
    records = await place.settled(3)
    assert {record.id for record in records} >= {answer.headers["x-request-id"] for answer in answers}


# --- its connection is cut in the middle of an answer -----------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("script", ["budget_lease", "submit", "extend", "publish", "complete", "budget_renew"])
async def test_an_answer_of_redis_that_is_cut_off_is_asked_for_again(place: Place, script: str, after: int) -> None:
    """The first request of a gateway, so that it has to lease; streamed, so that it is published; and watched."""
    sent = source(script) if script.startswith("budget") else step_source(script)
    with place.raw() as raw:
        raw.script_load(sent.text)
    http = await place.stack.http()
    place.proxy.cut_answer_to(sent.sha.encode(), after=after)
    async with EchoEngine() as engine:
        hold = engine.hold_at(2)
        asking = asyncio.create_task(streamed(http))
        async with asyncio.timeout(20):  # a replica that is there first answers it without the queue
            while not await waiting_tasks(place):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        async with running_worker(place.stack, engine, "w1"):
            await hold.reached()
            if script == "extend":  # as it does after a third of its lease, and when somebody cancels
                [task] = await place.stack.queue.list()
                await place.stack.queue.cancel(task.id)
                await until(lambda: place.proxy.cuts == 1)
                hold.open.set()
                await asyncio.gather(asking, return_exceptions=True)
                assert (await place.stack.queue.wait(task.id, timeout_s=20)).state is State.CANCELLED
                return
            if script == "budget_renew":
                await until(lambda: place.proxy.cuts == 1)
            hold.open.set()
            *chunks, done = await asking
            assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "one two three four"
            assert (done, len(engine.requests)) == ("[DONE]", 1)
            await place.settled(1)
    assert place.proxy.cuts == 1


async def streamed(http: Any) -> list[Any]:
    async with http.stream("POST", CHAT, body={**ASKED, "stream": True}) as answer:
        return await events_of(answer)


async def test_a_claim_whose_answer_is_cut_off_is_a_lost_attempt_and_the_request_is_answered(place: Place) -> None:
    """Nobody knows that its worker never heard of the task: the attempt counts, with all that it was let in with."""
    with place.raw() as raw:
        raw.script_load(source("claim").text)
    submitted = await place.ask(TASKS)
    place.proxy.cut_answer_to(source("claim").sha.encode(), after=4)
    stop, http = asyncio.Event(), await place.stack.http()
    async with EchoEngine() as engine, EngineClient(engine.url, model="general") as client:
        working = asyncio.create_task(a_worker(place.stack, engine, client, "w1", lease_s=2.0).run(stop))
        done = await http.get_json(f"/v1/tasks/{submitted.json()['id']}", {"wait": "20"})
        stop.set()
        await working
        assert (done["state"], done["attempts"], len(engine.requests), place.proxy.cuts) == ("done", 2, 1, 1)
        await place.stack.gateway.services.settle_all()
        assert await place.spent() == (42 + 8, 0)


@pytest.mark.parametrize("after", [0, 4])
async def test_a_settlement_whose_answer_is_cut_off_counts_once(place: Place, after: int) -> None:
    await place.stack.engine()
    with place.raw() as raw:
        raw.script_load(source("budget_settle").text)
    place.proxy.cut_answer_to(source("budget_settle").sha.encode(), after=after)
    assert (await place.ask()).status == 200
    await until(lambda: place.proxy.cuts == 1)
    assert (await place.ask()).status == 200
    await place.settled(2)


# --- started anew, and failed over ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop", "fail over"])
async def test_who_waits_is_answered_once_redis_is_back(place: Place, how: str) -> None:
    async with AsyncExitStack() as stack:
        if how == "fail over":
            await stack.enter_async_context(replicated(place))
        waiting = asyncio.create_task(place.ask())
        submitted = await place.ask(TASKS)
        async with asyncio.timeout(20):
            while (await place.stack.queue.depth(GENERAL)).lag < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if how == "fail over":
            with place.raw() as raw:
                assert await asyncio.to_thread(raw.wait, 1, 20_000) == 1
            fail_over(place)
        else:
            getattr(place.server, how)()
            place.server.start()
    async with EchoEngine() as engine, running_worker(place.stack, engine, "w1"):
        assert (await waiting).status == 200
        task = await place.stack.queue.wait(TaskId(submitted.json()["id"]), timeout_s=20)
        assert task.state is State.DONE
        await place.settled(2)
        assert len(engine.requests) == 2
    assert (await asking_until_taken(place, TASKS)).status == 202

"""Usage on its way from the end of a request to the ledger: never lost, never twice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, Stack, a_stack, until
from redis import Redis

from stoker.base.errors import QueueUnavailable, Unavailable
from stoker.gateway.settling import Settler
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.usage import UsageRecord
from stoker.queue import Gone, MemoryBudgets, MemoryQueue, RedisBudgets, RedisQueue, RedisRegistry, Settlement
from stoker.spec import Budgets
from stoker.telemetry import metrics
from stoker.testing.redis import RedisServer

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO}


class MoodyQueue(MemoryQueue):
    """A queue that forgets to say that it has taken an acknowledgement."""

    def __init__(self) -> None:
        super().__init__()
        self.forgets_acks = 0

    async def ack_usage(self, entry_ids: Sequence[str]) -> None:
        if self.forgets_acks:
            self.forgets_acks -= 1
            raise QueueUnavailable("cannot acknowledge usage: Redis said nothing")
        await super().ack_usage(entry_ids)


class MoodyBudgets(MemoryBudgets):
    """Books whose Redis is away for settlements while `is_away`; it says so before it did the step, or after."""

    def __init__(self, queue: MemoryQueue, *, does_it_anyway: bool = False) -> None:
        super().__init__(queue)
        self.is_away = False
        self.does_it_anyway = does_it_anyway

    async def settle(self, owner: str, items: Sequence[Settlement]) -> list[bool] | Gone:
        done = await super().settle(owner, items) if not self.is_away or self.does_it_anyway else []
        if self.is_away:
            raise QueueUnavailable("cannot settle: Redis said nothing")
        return done


@pytest.fixture
def queue() -> MoodyQueue:
    return MoodyQueue()


@pytest.mark.parametrize("does_it_anyway", [False, True])
async def test_records_wait_while_redis_is_away_and_arrive_once(
    tmp_path: Path, queue: MoodyQueue, does_it_anyway: bool
) -> None:
    budgets = MoodyBudgets(queue, does_it_anyway=does_it_anyway)
    async with a_stack(tmp_path, queue=queue, budgets=budgets) as stack:
        await stack.engine()
        http = await stack.http()
        budgets.is_away = True
        ids = [(await http.request("POST", CHAT, body=ASKED)).headers["x-request-id"] for _ in range(2)]
        assert [record.id for record in stack.gateway.admission.unsent] == ids

        budgets.is_away = False
        await until(lambda: not stack.gateway.admission.unsent)
        assert [record.id for record in await stack.records()] == ids


async def test_what_redis_never_got_is_in_the_ledger_when_the_gateway_ends(tmp_path: Path, queue: MoodyQueue) -> None:
    budgets = MoodyBudgets(queue)
    async with a_stack(tmp_path, queue=queue, budgets=budgets) as stack:
        await stack.engine()
        budgets.is_away = True
        answer = await (await stack.http()).request("POST", CHAT, body=ASKED)
        await stack.shut()
        assert [record.id for record in stack.gateway.services.ledger.records()] == [answer.headers["x-request-id"]]


async def test_a_crash_between_commit_and_acknowledgement_stores_it_once(stack: Stack, queue: MoodyQueue) -> None:
    ledger = Ledger(stack.store)
    await queue.append_usage(a_record("req_1"))
    crashing = Settler(queue, ledger, "first", stack.clock)
    queue.forgets_acks = 1
    with pytest.raises(QueueUnavailable):
        await crashing.settle_all()
    assert [record.id for record in ledger.records()] == ["req_1"]

    await queue.append_usage(a_record("req_2"))
    await Settler(queue, ledger, "second", stack.clock).settle_all()  # the next process, without waiting
    assert [record.id for record in ledger.records()] == ["req_1", "req_2"]
    assert await queue.read_usage("third", redeliver_after_s=0) == []


async def test_a_sum_has_what_another_process_has_read_and_not_stored_yet(stack: Stack, queue: MoodyQueue) -> None:
    ledger = Ledger(stack.store)
    settler = Settler(queue, ledger, "one", stack.clock)
    await settler.settle_all()
    await queue.append_usage(a_record("req_1"))
    [(entry, record)] = await queue.read_usage("another")
    await settler.settle_all()
    assert [each.id for each in ledger.records()] == ["req_1"]

    ledger.append([record])  # the other one goes on, which does no harm
    await queue.ack_usage([entry])
    assert [each.id for each in ledger.records()] == ["req_1"]


async def test_a_ledger_that_was_away_gets_everything_at_the_next_look(stack: Stack, queue: MoodyQueue) -> None:
    class AwayOnce(Ledger):
        is_away = True

        def append(self, records: Sequence[UsageRecord]) -> None:
            if self.is_away:
                self.is_away = False
                raise Unavailable("the ledger's database refused: locked", code="ledger_unavailable")
            super().append(records)

    ledger = AwayOnce(stack.store)
    settler = Settler(queue, ledger, "one", stack.clock)
    await queue.append_usage(a_record("req_1"))
    with pytest.raises(Unavailable):
        await settler.settle_all()
    await settler.settle_all()
    assert [record.id for record in ledger.records()] == ["req_1"]


async def test_a_report_waits_for_a_batch_that_is_under_way(stack: Stack, queue: MoodyQueue) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    class SlowQueue(MoodyQueue):
        async def read_usage(self, *args: Any, **options: Any) -> Any:
            found = await super().read_usage(*args, **options)
            if found:
                began.set()
                await go_on.wait()
            return found

    queue = SlowQueue()
    ledger = Ledger(stack.store)
    settler = Settler(queue, ledger, "one", stack.clock)
    await queue.append_usage(a_record("req_1"))
    under_way = asyncio.create_task(settler.settle())
    await began.wait()
    report = asyncio.create_task(settler.settle_all())
    await asyncio.sleep(0)
    go_on.set()
    await report
    assert [record.id for record in ledger.records()] == ["req_1"]
    await under_way


async def test_metrics_count_what_happened(stack: Stack) -> None:
    engine = await stack.engine()
    http = await stack.http()
    await http.post_json(CHAT, ASKED)
    async with http.stream("POST", CHAT, body={**ASKED, "stream": True}) as answer:
        assert [event async for event in answer.events][-1] == b"[DONE]"
    engine.refuse(500, {"error": {"message": "broken"}})
    await http.request("POST", CHAT, body=ASKED)
    await http.request("POST", CHAT, body={**ASKED, "model": "gpt-9"})

    text = (await http.request("GET", "/metrics")).body.decode()
    assert 'stoker_requests_total{model="general",status="done"} 2.0' in text
    assert 'stoker_requests_total{model="general",status="failed"} 1.0' in text
    assert 'stoker_tokens_total{model="general",type="input"} 8.0' in text
    assert 'stoker_tokens_total{model="general",type="output"} 8.0' in text
    assert 'stoker_refused_total{code="model_not_found"} 1.0' in text
    read = metrics.read(text, "stoker_request_duration_seconds_count", "stoker_time_to_first_token_seconds_count")
    assert read == {"stoker_request_duration_seconds_count": 3, "stoker_time_to_first_token_seconds_count": 1}


@pytest.mark.redis
async def test_the_whole_way_over_a_real_redis_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    with RedisServer() as server:
        queue, registry, budgets = RedisQueue(server.url), RedisRegistry(server.url), RedisBudgets(server.url)
        async with a_stack(tmp_path, queue=queue, registry=registry, budgets=budgets) as stack:
            await stack.engine()
            http = await stack.http()
            first = await http.request("POST", CHAT, body=ASKED)
            assert [record.id for record in await stack.records()] == [first.headers["x-request-id"]]

            server.kill()
            second = await http.request("POST", CHAT, body=ASKED)
            assert second.status == 200  # who is served does not notice
            [waiting] = stack.gateway.admission.unsent
            assert waiting.id == second.headers["x-request-id"]

            server.start()
            await until(lambda: not stack.gateway.admission.unsent)
            assert {record.id for record in await stack.records()} == {
                first.headers["x-request-id"],
                second.headers["x-request-id"],
            }
            with Redis.from_url(server.url, protocol=2) as raw:
                assert raw.xlen("stoker:usage") == 0
        await queue.aclose()
        await registry.aclose()
        await budgets.aclose()


def a_record(record_id: str) -> UsageRecord:
    return UsageRecord(
        id=record_id,
        kind="request",
        status="done",
        tenant="acme",
        key_id="key_1",
        model="general",
        prompt_tokens=1,
        completion_tokens=2,
        nano_usd=3,
        started_at=1.0,
        ended_at=2.0,
    )


@pytest.mark.redis
async def test_a_redis_that_loses_everything_is_set_up_again_from_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was spent stays spent, and budgets are refused only until those who live have said what they hold."""
    monkeypatch.setattr("stoker.gateway.owner.OWNER_TTL_S", 1.0)
    with RedisServer() as server:
        queue, registry, budgets = RedisQueue(server.url), RedisRegistry(server.url), RedisBudgets(server.url)
        async with a_stack(tmp_path, queue=queue, registry=registry, budgets=budgets) as stack:
            await stack.engine()
            made = KeyStore(stack.store).create("acme", budgets=Budgets(tokens_total=1000))
            http = await stack.http(made.secret)
            assert (await http.request("POST", CHAT, body=ASKED)).status == 200
            await stack.records()
            with Redis.from_url(server.url, protocol=2) as raw:
                raw.flushall()

            answers = []
            async with asyncio.timeout(20):
                while not answers or answers[-1].status == 503:
                    await asyncio.sleep(0.05)
                    answers.append(await http.request("POST", CHAT, body=ASKED))
            assert answers[-1].status == 200
            assert len(await stack.records()) == 1 + [answer.status for answer in answers].count(200)
            [state] = await budgets.state([f"key:{made.key.id}:tokens:total"])
            assert state is not None
            assert state.spent == 8 * len(await stack.records())
        await queue.aclose()
        await registry.aclose()
        await budgets.aclose()

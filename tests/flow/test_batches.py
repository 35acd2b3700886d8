"""Batches on real gateway processes, a real Redis and a worker, while gateways are killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from budget_parts import SPEC, Cluster, a_cluster, until
from flow_parts import Running, wait_until
from openai import AsyncOpenAI, OpenAI
from test_requests import records

from stoker.base.clock import SystemClock
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.meter.batches import BatchStore
from stoker.meter.keys import NewSecret
from stoker.testing.engine import EchoEngine
from stoker.worker.loop import Worker
from stoker.worker.runner import Runner, Settings

pytestmark = [pytest.mark.flow, pytest.mark.redis]

CHAT = "/v1/chat/completions"
LINES = 12
USED = 6  # tokens of each line, three words there and back
BATCH_SPEC = SPEC.replace("gateway: {", "gateway: {batches: {linesAtOnce: 4}, ")


@asynccontextmanager
async def a_worker(cluster: Cluster, engine: EchoEngine) -> AsyncIterator[None]:
    """The worker beside the engine, in this process."""
    model, clock, stop = cluster.platform.llm.models["general"], SystemClock(), asyncio.Event()
    settings = Settings(
        model="general",
        replica="w1",
        prices=model.prices,
        lease_s=10.0,
        retry_base_s=0.05,
        retry_cap_s=0.2,
        timeout_s=60.0,
        continuous_usage=True,
    )
    async with EngineClient(engine.url, model="general") as client:
        worker = Worker(
            name="w1",
            model=ModelName("general"),
            url=engine.url,
            engine=client,
            queue=cluster.queue,
            registry=cluster.registry,
            runner=Runner(settings, client, cluster.queue, clock, Random(1), started_at=clock.now()),
            clock=clock,
            capacity=4,
            lease_s=10.0,
            grace_s=0.2,
        )
        running = asyncio.create_task(worker.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running


def lines() -> bytes:
    body = '{"model": "general", "max_tokens": 10, "messages": [{"role": "user", "content": "one two three"}]}'
    line = '{"custom_id": "%d", "method": "POST", "url": "/v1/chat/completions", "body": %s}\n'
    return "".join(line % (number, body) for number in range(LINES)).encode()


def sdk(cluster: Cluster, gateway: int, key: NewSecret) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=cluster.gateways[gateway].http.base_url + "/v1", api_key=key.secret, max_retries=0)


async def ended(client: AsyncOpenAI, batch_id: str) -> Any:
    found: list[Any] = []

    async def has_ended() -> bool:
        found[:] = [await client.batches.retrieve(batch_id)]
        return found[0].status in ("completed", "failed", "expired", "cancelled")

    await until(has_ended)
    return found[0]


@pytest.mark.parametrize("survivor", ["another", "itself"])
async def test_killed_in_the_middle_no_line_is_lost_and_none_is_done_twice(tmp_path: Path, survivor: str) -> None:
    """The gateway that drives a batch is killed (-9). Another goes on, or itself after its restart."""
    async with a_cluster(tmp_path, gateways=2, spec=BATCH_SPEC) as cluster, EchoEngine("general") as engine:
        holds = [engine.hold_at(0) for _ in range(LINES)]
        await cluster.gateways[1].kill()
        key = cluster.key(tokens_total=LINES * USED + 1000)
        async with a_worker(cluster, engine), sdk(cluster, 0, key) as client:
            file = await client.files.create(file=("lines.jsonl", lines()), purpose="batch")
            batch_id = (await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")).id
            for hold in holds[:3]:
                await hold.reached()
                hold.open.set()
            # Some lines are in the queue, some done, some not begun.
            batches = BatchStore(cluster.store)
            await until(lambda: batches.get(batch_id, tenant=None).completed == 3)
            if survivor == "another":
                await cluster.gateways[1].start()
            await cluster.gateways[0].kill()
            (dead,) = batches.open()
            if survivor == "itself":
                await cluster.gateways[0].start()
            for hold in holds[3:]:
                hold.open.set()

            async with sdk(cluster, 1 if survivor == "another" else 0, key) as other:
                batch = await ended(other, batch_id)
                text = (await other.files.content(batch.output_file_id)).text
        counts = batch.request_counts
        assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", LINES, LINES, 0)
        assert [json.loads(line)["custom_id"] for line in text.splitlines()] == [str(each) for each in range(LINES)]
        assert len(engine.requests) == LINES
        records = await cluster.records_when(key, LINES)
        assert [(each.prompt_tokens, each.completion_tokens, each.attempts) for each in records] == [(3, 3, 1)] * LINES
        assert {each.id for each in records} == {
            json.loads(line)["response"]["request_id"] for line in text.splitlines()
        }
        (counter,) = cluster.counters(key)
        state = await cluster.state(counter)
        assert (state.spent, state.held) == (LINES * USED, 0)
        assert dead.fence == 1  # it had one driver, which was killed


async def test_redis_is_killed_in_the_middle(tmp_path: Path) -> None:
    """And comes back: lines wait meanwhile, and each is done and paid for once."""
    async with a_cluster(tmp_path, gateways=1, spec=BATCH_SPEC) as cluster, EchoEngine("general") as engine:
        holds = [engine.hold_at(0) for _ in range(LINES)]
        key = cluster.key(tokens_total=LINES * USED + 1000)
        async with a_worker(cluster, engine), sdk(cluster, 0, key) as client:
            file = await client.files.create(file=("lines.jsonl", lines()), purpose="batch")
            made = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            for hold in holds[:2]:
                await hold.reached()
            cluster.redis.kill()
            holds[0].open.set()
            cluster.redis.start()
            for hold in holds[1:]:
                hold.open.set()
            batch = await ended(client, made.id)
        counts = batch.request_counts
        assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", LINES, LINES, 0)
        records = await cluster.records_when(key, LINES)
        assert {(each.status, each.prompt_tokens, each.completion_tokens) for each in records} == {("done", 3, 3)}
        (counter,) = cluster.counters(key)
        state = await cluster.state(counter)
        assert (state.spent, state.held) == (LINES * USED, 0)


async def test_a_budget_that_is_spent_in_the_middle(tmp_path: Path) -> None:
    """Two gateways, one batch each of the same key: together they do what the budget has room for, to the token."""
    async with a_cluster(tmp_path, gateways=2, spec=BATCH_SPEC) as cluster, EchoEngine("general") as engine:
        body = {"model": "general", "max_tokens": 10, "messages": [{"role": "user", "content": "one two three"}]}
        bound = cluster.bound(body).tokens
        key = cluster.key(tokens_total=14 * USED + bound)  # the 15th line just fits
        async with a_worker(cluster, engine), sdk(cluster, 0, key) as first, sdk(cluster, 1, key) as second:
            ids = []
            for client in (first, second):
                file = await client.files.create(file=("lines.jsonl", lines()), purpose="batch")
                made = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
                ids.append(made.id)
            done = [await ended(first, batch_id) for batch_id in ids]
            wrong = [
                json.loads(line)
                for batch in done
                if batch.error_file_id
                for line in (await first.files.content(batch.error_file_id)).text.splitlines()
            ]
        assert [batch.request_counts.total for batch in done] == [LINES, LINES]
        assert sum(batch.request_counts.completed for batch in done) == 15
        assert len(wrong) == 2 * LINES - 15
        left = bound - USED
        message = (
            f"the key's budget of {14 * USED + bound} tokens has {left} tokens left; this request could take {bound} "
            "tokens (it does not renew by itself)"
        )
        assert {line["response"]["body"]["error"]["message"] for line in wrong} == {message}
        records = await cluster.records_when(key, 15)
        assert sum(each.prompt_tokens + each.completion_tokens for each in records) == 15 * USED
        (counter,) = cluster.counters(key)
        assert (await cluster.state(counter)).spent == 15 * USED


def test_a_batch_on_a_whole_platform(platform: Running) -> None:
    """The embedded engine behind a real worker: the answers of a batch are those of the endpoint, and all are in the
    ledger."""
    question = {"model": "general", "temperature": 0, "messages": [{"role": "user", "content": "What is 6 times 7?"}]}
    wrong = {**question, "max_tokens": -1}
    asked = [("right", question), ("wrong", wrong), ("code", {**question, "model": "code", "max_tokens": 4})]
    content = "".join(
        json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body}) + "\n" for name, body in asked
    )
    with OpenAI(base_url=platform.url + "/v1", api_key=platform.key, max_retries=0) as client:
        file = client.files.create(file=("asked.jsonl", content.encode()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="1h",
            extra_headers={"X-Session-Id": "batch-session"},
        )
        wait_until(lambda: client.batches.retrieve(batch.id).completed_at is not None, 60, lambda: "still not done")
        batch = client.batches.retrieve(batch.id)
        output = {line["custom_id"]: line for line in map(json.loads, text_of(client, batch.output_file_id))}
        errors = {line["custom_id"]: line for line in map(json.loads, text_of(client, batch.error_file_id))}
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 1)
    right = output["right"]["response"]["body"]
    assert right["choices"][0]["message"]["content"] == "6 times 7 is 42."
    assert output["code"]["response"]["body"]["usage"]["completion_tokens"] <= 4
    assert errors["wrong"]["response"]["status_code"] == 400
    assert errors["wrong"]["response"]["body"]["error"]["param"] == "max_tokens"
    ids = {line["response"]["request_id"] for line in output.values()}
    wait_until(lambda: ids <= set(records(platform)), 20, lambda: "not in the ledger")
    known = [records(platform)[name] for name in sorted(ids)]
    assert [(each.session, each.status, each.kind) for each in known] == [("batch-session", "done", "task")] * 2
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(each.prompt_tokens + each.completion_tokens for each in known)


def text_of(client: OpenAI, file_id: str | None) -> list[str]:
    assert file_id is not None
    return client.files.content(file_id).text.splitlines()

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
from openai import AsyncOpenAI

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

"""The worker's loop: what a step leaves in the ledger, and that it is watched while it lasts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents_stage import CALLER, Json, Stage, says, staged

from stoker.agents.loop import Worker
from stoker.agents.metrics import StepMetrics
from stoker.agents.tasks import MODEL
from stoker.base.ids import TaskId
from stoker.policy.leaving import Notice
from stoker.telemetry.metrics import Metrics, read, read_by

ONE = "agents: {definitions: {assistant: {}}}"


def a_worker(stage: Stage) -> Worker:
    return Worker(
        "w1",
        stage.worker(),
        stage.queue,
        stage.clock,
        room=4,
        lease_s=10.0,
        grace_s=0.0,
        delay_s=lambda _: 0.0,
        metrics=StepMetrics(Metrics()),
    )


def counted(worker: Worker) -> dict[str, float]:
    """Steps by how they ended; the words of which there are some."""
    text = worker.metrics.metrics.text().decode()
    found = read_by(text, "outcome", "stoker_agent_steps_total")["stoker_agent_steps_total"]
    return {outcome: steps for outcome, steps in found.items() if steps}


@asynccontextmanager
async def working(stage: Stage) -> AsyncIterator[Worker]:
    """A worker that runs, until the block ends."""
    stop = asyncio.Event()
    worker = a_worker(stage)
    running = asyncio.create_task(worker.run(stop, asyncio.Event()))
    try:
        yield worker
    finally:
        stop.set()
        await running


async def test_a_step_is_a_step_of_its_agent_in_the_ledger(tmp_path: Path) -> None:
    async with staged(tmp_path, lambda _: says("hello"), ONE) as stage, working(stage) as worker:
        run = await stage.start("Hello?")
        ended = await stage.service.ended(CALLER, run, None, 20)
        assert (ended["status"], ended["output"]) == ("completed", "hello")
        [(entry, record)] = await stage.queue.read_usage("gateway", count=10, wait_s=20)
        assert (record.id, record.kind, record.status) == (f"{run}.s1", "step", "done")
        assert (record.agent, record.run, record.model) == ("assistant", run, "agents")
        assert (record.prompt_tokens, record.nano_usd) == (0, 0)
        await stage.queue.ack_usage([entry])
    text = worker.metrics.metrics.text().decode()
    assert counted(worker) == {"done": 1}
    assert read(text, "stoker_agent_steps_running", "stoker_agent_steps_at_once") == {
        "stoker_agent_steps_running": 0,
        "stoker_agent_steps_at_once": 4,
    }


async def test_a_step_that_lasts_ends_when_its_run_is_cancelled(tmp_path: Path) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def for_ever(body: Json) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with staged(tmp_path, lambda _: says("hello"), ONE) as stage, working(stage) as worker:
        stage.gateway.before = for_ever
        run = await stage.start("Hello?")
        async with asyncio.timeout(20):
            await asked.wait()
            await stage.service.cancel(CALLER, run)
            await ended.wait()
        assert (await stage.shown(run))["status"] == "cancelled"
    assert counted(worker) == {"cancelled": 1}


async def test_what_a_node_raises_is_told_without_secrets(tmp_path: Path) -> None:
    def script(_: object) -> Json:
        raise RuntimeError("no such key: planted-secret")

    async with staged(tmp_path, script, ONE) as stage:
        run = await stage.start("Hello?")
        async with working(stage) as worker:
            await stage.service.ended(CALLER, run, None, 0)
            async with asyncio.timeout(20):
                while not (attempts := (await stage.queue.get(TaskId(f"{run}.s1"))).attempts):
                    async with stage.queue.listening("nothing") as rung:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(rung.wait(), 0.02)
        assert attempts[0].reason == "RuntimeError: no such key: [secret PLANTED]"
        assert counted(worker)["failed"] >= 1


async def test_a_step_that_comes_after_a_spot_notice_is_left_to_another_worker(tmp_path: Path) -> None:
    async with staged(tmp_path, lambda _: says("hello"), ONE) as stage:
        worker = a_worker(stage)
        claiming = asyncio.create_task(worker._claim())
        await asyncio.wait({claiming}, timeout=0.02)  # it waits for a step
        worker._notice = Notice(action="terminate", at=stage.clock.now() + 120)
        run = await stage.start("Hello?")
        await asyncio.wait_for(claiming, 20)
        depth = await stage.queue.depth(MODEL)
        assert (depth.lag, depth.pending, worker._running) == (1, 0, set())
        assert stage.gateway.asked == []
        assert counted(worker) == {"handed back": 1}
        await stage.settle(stage.worker("w2"))
        assert (await stage.shown(run))["output"] == "hello"

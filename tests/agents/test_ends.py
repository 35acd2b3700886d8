"""How steps end that nobody wants any more, and who is told."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from agents_stage import CALLER, Json, calls, says, staged, tool
from test_agents_loop import working
from test_sub_agents import TREE, never

from stoker.agents.tasks import ATTEMPTS, MODEL
from stoker.base.ids import TaskId
from stoker.queue import State


async def test_the_task_of_a_cancelled_step_is_cancelled_at_once(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def for_ever(body: Json) -> None:
        asked.set()
        await asyncio.Event().wait()

    spec = "agents: {definitions: {assistant: {}}}"
    async with staged(tmp_path, lambda _: says("hello"), spec) as stage, working(stage) as worker:
        stage.gateway.before = for_ever
        run = await stage.start("Hello?")
        async with asyncio.timeout(20):
            await asked.wait()
            [step] = worker._running
            await stage.service.cancel(CALLER, run)
            await step
        # And not only when its lease is over.
        assert (await stage.queue.get(TaskId(f"{run}.s1"))).state is State.CANCELLED


async def test_a_child_whose_workers_died_wakes_its_parent_at_once(tmp_path: Path) -> None:
    def script(messages: Sequence[Json]) -> Json:
        last = messages[-1]
        return says(last["content"]) if last["role"] == "tool" else calls(("worker", {"input": "dig"}))

    tools = [tool(name, never, agent=name) for name in ("worker", "other", "boss")]
    async with staged(tmp_path, script, TREE, [*tools, tool("add", never)]) as stage:
        run, worker = await stage.start("Do it", agent="boss"), stage.worker()
        await stage.step(worker)
        await stage.step(worker)
        for _ in range(ATTEMPTS):
            claim = await stage.claim("mortal")
            assert claim is not None
            assert claim.task.run == f"{run}.1"
            await stage.clock.advance(11)
            await stage.queue.reclaim(MODEL)
        assert await stage.service.sweep() == 1
        assert (await stage.shown(f"{run}.1"))["reason"] == "step_died"
        assert (await stage.shown(run))["status"] == "queued"


@pytest.mark.parametrize(
    ("most", "third"), [(2, ["three"]), (3, ["two", "re two", "three"]), (4, ["two", "re two", "three"])]
)
async def test_a_model_sees_as_much_of_its_thread_as_its_agent_says(
    tmp_path: Path, most: int, third: list[str]
) -> None:
    spec = f"agents: {{definitions: {{assistant: {{memoryMessages: {most}}}}}}}"
    async with staged(tmp_path, lambda messages: says(f"re {messages[-1]['content']}"), spec) as stage:
        for text in ("one", "two", "three"):
            await stage.start(text, thread="t1")
            await stage.settle()
            await stage.clock.advance(1)
        _, body = stage.gateway.asked[-1]
        assert [each["content"] for each in body["messages"]] == third

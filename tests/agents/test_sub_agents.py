"""Sub-agents: runs below a run, whose spending, grants and end are its parent's business."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents_stage import CALLER, Json, calls, says, staged, tool

from stoker.agents.context import UNTRUSTED
from stoker.base.errors import NotFound

TREE = """
agents:
  definitions:
    boss: {tools: [worker, other], limits: {depth: 2}, instructions: "You are the boss."}
    worker: {tools: [add, boss], grantable: [add], instructions: "You are a worker."}
    other: {instructions: "You are the other."}
  tools:
    worker: {agent: worker}
    other: {agent: other}
    boss: {agent: boss}
    add: {python: "x:add", effect: write}
"""


def never(said: Json) -> str:
    raise AssertionError("a sub-agent is a run, not a call")


TOOLS = [tool(name, never, agent=name, trusted=False) for name in ("worker", "other", "boss")]
TOOLS.append(tool("add", lambda said: said["a"] + said["b"], effect="write", approval="never"))


def office(messages: Sequence[Json]) -> Json:
    """The boss asks both; the worker and the other say what they were asked; the boss says what came back."""
    who, last = messages[0]["content"], messages[-1]
    if "boss" not in who:
        return says(f"{who.split()[-1]} {last['content']}")
    if last["role"] != "tool":
        return calls(("worker", {"input": "dig"}), ("other", {"input": "look"}))
    said = [message["content"].rpartition("\n")[2] for message in messages if message["role"] == "tool"]
    return says(" and ".join(said))


async def test_a_run_waits_for_its_sub_agents_without_a_task_and_goes_on_with_what_they_say(tmp_path: Path) -> None:
    async with staged(tmp_path, office, TREE, TOOLS) as stage:
        run, worker = await stage.start("Do it", agent="boss"), stage.worker()
        await stage.step(worker)
        await stage.step(worker)
        shown = await stage.shown(run)
        assert (shown["status"], sorted(wait["child"] for wait in shown["waiting_for"])) == (
            "waiting",
            [f"{run}.1", f"{run}.2"],
        )
        await stage.settle(stage.worker("w2"))
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"]) == ("completed", "worker. dig and other. look")
        assert shown["usage"]["model_calls"] == 4  # its own two, and one of each child
        child = await stage.shown(f"{run}.1")
        assert (child["agent"], child["parent"], child["status"]) == ("worker", run, "completed")
        assert [each["id"] for each in await stage.service.listed(CALLER)] == [run]


async def test_a_child_is_asked_with_the_limits_of_all_above_it(tmp_path: Path) -> None:
    async with staged(tmp_path, office, TREE, TOOLS) as stage:
        run = await stage.start("Do it", agent="boss", limits={"usd": 0.5, "tokens": 1000})
        await stage.settle()
        child = await stage.service.run(CALLER, f"{run}.1")
        limits = [(limit.run, limit.nano_usd, limit.tokens) for limit in child.grant(0).limits]
        assert limits == [(run, 500_000_000, 1000), (f"{run}.1", None, 1_000_000)]


async def test_a_child_may_not_do_what_its_parent_may_not(tmp_path: Path) -> None:
    """The worker could be granted `add`; the run that began it was not, whatever it has read."""

    def script(messages: Sequence[Json]) -> Json:
        who, last = messages[0]["content"], messages[-1]
        if last["role"] == "tool":
            return says(last["content"].rpartition("\n")[2])
        return calls(("worker", {"input": "add!"})) if "boss" in who else calls(("add", {"a": 1, "b": 2}))

    async with staged(tmp_path, script, TREE, TOOLS) as stage:
        run = await stage.start("Do it", agent="boss")
        await stage.settle()
        shown = await stage.shown(run)
        assert shown["output"] == "error: this run was not granted add, which would write: say what you would have done"


async def test_depth_is_limited(tmp_path: Path) -> None:
    """Boss and worker ask each other, and the third level may ask nobody."""

    def script(messages: Sequence[Json]) -> Json:
        who, last = messages[0]["content"], messages[-1]
        if last["role"] == "tool":
            return says("I " + last["content"].rpartition("\n")[2])
        return calls(("worker" if "boss" in who else "boss", {"input": "you do it"}))

    async with staged(tmp_path, script, TREE, TOOLS) as stage:
        run = await stage.start("Do it", agent="boss")
        await stage.settle()
        assert (await stage.shown(run))["output"] == "I I I error: this run may have no sub-agents below it"
        assert (await stage.shown(f"{run}.1.1"))["limits"]["depth"] == 0


async def test_a_child_that_fails_is_told_to_its_parent(tmp_path: Path) -> None:
    def script(messages: Sequence[Json]) -> Json:
        if "worker" in messages[0]["content"]:
            return calls(("nothing", {}))
        last = messages[-1]
        return says(last["content"]) if last["role"] == "tool" else calls(("worker", {"input": "dig"}))

    spec = TREE.replace("worker: {tools: [add, boss],", "worker: {limits: {steps: 2}, tools: [add, boss],")
    async with staged(tmp_path, script, spec, TOOLS) as stage:
        run = await stage.start("Do it", agent="boss")
        await stage.settle()
        shown = await stage.shown(run)
        assert shown["status"] == "completed"
        said = "error: worker did not come to an end: it may take 2 steps, and has taken them"
        assert shown["output"] == UNTRUSTED + said


async def test_cancelling_a_run_cancels_all_below_it(tmp_path: Path) -> None:
    async with staged(tmp_path, office, TREE, TOOLS) as stage:
        run, worker = await stage.start("Do it", agent="boss"), stage.worker()
        await stage.step(worker)
        await stage.step(worker)
        await stage.service.cancel(CALLER, run)
        await stage.settle(worker)
        assert [(await stage.shown(each))["status"] for each in (run, f"{run}.1", f"{run}.2")] == ["cancelled"] * 3
        assert len(stage.gateway.asked) == 1


async def test_a_run_that_was_cancelled_begins_nothing_more(tmp_path: Path) -> None:
    async with staged(tmp_path, office, TREE, TOOLS) as stage:
        run, worker = await stage.start("Do it", agent="boss"), stage.worker()
        await stage.step(worker)
        claim = await stage.claim()
        assert claim is not None

        begin = stage.store.write

        async def write(work: Any) -> Any:  # the step has begun, and its first call has not
            if (await stage.shown(run))["status"] == "running" and stage.steppers[0]._open[run].came is not None:
                stage.store.write = begin  # type: ignore[method-assign]
                await stage.service.cancel(CALLER, run)
            return await begin(work)

        stage.store.write = write  # type: ignore[method-assign]
        await worker.perform(claim)
        assert (await stage.shown(run))["status"] == "cancelled"
        with pytest.raises(NotFound):
            await stage.shown(f"{run}.1")


async def test_cancelling_a_child_lets_its_parent_go_on(tmp_path: Path) -> None:
    async with staged(tmp_path, office, TREE, TOOLS) as stage:
        run, worker = await stage.start("Do it", agent="boss"), stage.worker()
        await stage.step(worker)
        await stage.step(worker)
        await stage.service.cancel(CALLER, f"{run}.1")
        await stage.settle(worker)
        assert (await stage.shown(run))["output"] == "error: worker did not come to an end: cancelled and other. look"

"""Whose turn it is: what changes nothing when it comes from a step whose turn is over, or a second time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from agents_stage import CALLER, Json, calls, says, staged, tool
from test_runs import ADD, ASKS, ONE, PAYS, adds, remembers
from test_sub_agents import TREE, never, office

from stoker.agents import schedules
from stoker.agents import store as rows
from stoker.agents.react import latest
from stoker.agents.runs import Event, Wait
from stoker.base.errors import Conflict, InvalidInput, NotFound


async def test_a_step_whose_turn_is_over_changes_nothing(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run_id = await stage.start("x")
        await stage.step(stage.worker())
        run, now = await stage.service.run(CALLER, run_id), stage.clock.now()
        assert run.step == 2
        told = [Event(run=run_id, type="step.completed", key="late", at=now)]
        before = await stage.types(run_id)
        late = replace(run, step=1)
        waits = [Wait(id="w", kind="question")]
        assert not await stage.store.write(lambda c: rows.end_step(c, run_id, 1, "other", told, now))
        assert not await stage.store.write(lambda c: rows.wait(c, late, "other", waits, told, now))
        assert await stage.store.write(lambda c: rows.finish(c, run_id, "failed", now, step=1, events=told)) is None
        assert await stage.service.run(CALLER, run_id) == run
        assert await stage.types(run_id) == before
        assert await stage.store.read(lambda c: rows.waits_of(c, run_id)) == []


async def test_a_wait_is_answered_once(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS]) as stage:
        run = await stage.start("Pay")
        await stage.settle()
        [wait] = await stage.store.read(lambda c: rows.waits_of(c, run))
        await stage.store.write(lambda c: rows.answer(c, run, {wait.id: {"decision": "reject"}}))
        with pytest.raises(Conflict, match="was answered before"):
            await stage.store.write(lambda c: rows.answer(c, run, {wait.id: {"decision": "approve"}}))
        # Who answered died before the run was told: it is found, and goes on with the first answer.
        await stage.clock.advance(6)
        assert await stage.service.sweep() == 1
        await stage.settle()
        assert (await stage.shown(run))["output"] == "it is error: a person said no to this call"


async def test_calls_of_sub_agents_count_for_the_runs_above(tmp_path: Path) -> None:
    numbers = iter(range(100))

    def script(messages: Sequence[Json]) -> Json:
        if "boss" in messages[0]["content"]:
            return says("done") if messages[-1]["role"] == "tool" else calls(("worker", {"input": "dig"}))
        return calls(("add", {"a": next(numbers), "b": 0}))

    spec = TREE.replace("tools: [worker, other]", "grantable: [worker], tools: [worker, other]")
    tools = [tool(name, never, agent=name, trusted=False) for name in ("worker", "other", "boss")]
    tools.append(ADD)
    async with staged(tmp_path, script, spec, tools) as stage:
        run = await stage.start("Do it", agent="boss", limits={"tool_calls": 4})
        await stage.settle()
        child = await stage.shown(f"{run}.1")
        assert (child["status"], child["reason"]) == ("failed", "tool_calls_exceeded")
        assert child["error"]["message"] == f"run {run} may make 4 calls of tools, and has made them"


async def test_a_cancelled_child_wakes_its_parent_at_once(tmp_path: Path) -> None:
    tools = [tool(name, never, agent=name, trusted=False) for name in ("worker", "other", "boss")]
    async with staged(tmp_path, office, TREE, [*tools, ADD]) as stage:
        run, worker = await stage.start("Do it", agent="boss"), stage.worker()
        await stage.step(worker)
        await stage.step(worker)
        for child in (f"{run}.1", f"{run}.2"):
            await stage.service.cancel(CALLER, child)
        assert (await stage.shown(run))["status"] == "queued"


async def test_arguments_of_a_person_are_checked_as_a_models_are(tmp_path: Path) -> None:
    def check(arguments: Json) -> Json:
        if "a" not in arguments:
            raise InvalidInput("a is missing")
        return arguments

    pays = tool("add", lambda said: said["a"], effect="spend", approval="always", check=check)
    async with staged(tmp_path, adds, ASKS, [pays]) as stage:
        run = await stage.start("Pay")
        await stage.settle()
        await stage.service.resume(CALLER, run, None, {"decision": "approve", "arguments": {"b": 1}})
        await stage.settle()
        said = "it is error: the arguments that a person gave do not fit: a is missing"
        assert (await stage.shown(run))["output"] == said


async def test_a_run_that_is_resumed_asks_its_model_anew(tmp_path: Path) -> None:
    """The gateway knows a call that failed by its key, and would tell of the same failure again."""
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:

        async def refuse(body: Json) -> None:
            raise InvalidInput("no")

        stage.gateway.before = refuse
        run = await stage.start("x")
        await stage.settle()
        stage.gateway.before = None
        await stage.service.resume(CALLER, run, None, {})
        await stage.settle()
        first, second = (key for key, _ in stage.gateway.asked)
        assert second == f"{first}:f1"


def test_how_much_of_a_thread_a_model_sees() -> None:
    said: list[Json] = []
    for number in range(5):
        said += [{"role": "user", "content": f"u{number}"}, {"role": "assistant", "content": f"a{number}"}]
    asked = [*said, {"role": "user", "content": "now"}]
    assert [each["content"] for each in latest(asked, 3)] == ["u4", "a4", "now"]
    assert [each["content"] for each in latest(asked, 2)] == ["now"]  # never an answer without its question
    assert [each["content"] for each in latest(asked, 0)] == ["now"]
    working = [*asked, {"role": "assistant", "content": "call"}, {"role": "tool", "content": "t"}]
    assert [each["content"] for each in latest(working, 1)] == ["now", "call", "t"]  # all of its own


async def test_a_firing_is_one_run_and_the_next_one_another(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        made = await stage.service.schedule(CALLER, "assistant", {"cron": "* * * * *", "input": "x"})
        assert made.next_at is not None
        same, later = replace(made), replace(made, next_at=made.next_at + 60)
        assert made.run_id() == same.run_id() != later.run_id()
        await stage.clock.advance(made.next_at - stage.clock.now())
        now = stage.clock.now()
        await stage.service._fire(made, now)
        await stage.service._fire(same, now)  # another process, that saw the same
        assert [run["id"] for run in await stage.service.listed(CALLER)] == [made.run_id()]


async def test_a_strangers_schedules_are_as_unknown_as_those_that_never_were(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        made = await stage.service.schedule(CALLER, "assistant", {"cron": "* * * * *", "input": "x"})
        assert await stage.store.read(lambda c: schedules.of_agent(c, "assistant", "other")) == []
        with pytest.raises(NotFound, match="there is no schedule"):
            await stage.store.write(lambda c: schedules.delete(c, "assistant", made.id, "other"))
        assert len(await stage.store.read(lambda c: schedules.of_agent(c, "assistant", "acme"))) == 1

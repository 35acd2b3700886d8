"""The same runs with runs, events and checkpoints in PostgreSQL, as in a cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from agents_stage import CALLER, Json, calls, staged, tool
from test_runs import ASKS, ONE, PAYS, adds, after_a_death, taken_over
from test_sub_agents import TOOLS, TREE, office

from stoker.testing.postgres import PostgresServer

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as url:
        yield url


async def test_a_run_with_approval(tmp_path: Path, database: str) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS], database) as stage:
        run = await stage.start("Pay", thread="t1")
        await stage.settle()
        assert [wait["kind"] for wait in (await stage.shown(run))["waiting_for"]] == ["approval"]
        await stage.service.resume(CALLER, run, None, {"decision": "approve"})
        await stage.settle(stage.worker("w2"))
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"], shown["usage"]["model_calls"]) == ("completed", "it is 13", 2)
        events = await stage.service.events(run, 0)
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        again = await stage.start("Pay", thread="t1")
        await stage.settle()
        await stage.service.resume(CALLER, again, None, {"decision": "approve"})
        await stage.settle()
        assert len(stage.gateway.asked[-1][1]["messages"]) == 7  # of both runs


@pytest.mark.parametrize("lives", [3, 6, 9, 12])
async def test_a_worker_that_dies(tmp_path: Path, database: str, lives: int) -> None:
    made: list[Json] = []
    add = tool("add", lambda said: made.append(said) or said["a"] + said["b"])
    async with staged(tmp_path, adds, ONE, [add], database) as stage:
        run = await stage.start("What is 6 plus 7?")
        await after_a_death(stage, lives, after=True)
        await taken_over(stage)
        shown = await stage.shown(run)
        assert (shown["output"], len(stage.gateway.paid), shown["usage"]["tool_calls"]) == ("it is 13", 2, 1)


async def test_sub_agents(tmp_path: Path, database: str) -> None:
    async with staged(tmp_path, office, TREE, TOOLS, database) as stage:
        run = await stage.start("Do it", agent="boss")
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["output"], shown["usage"]["model_calls"]) == ("worker. dig and other. look", 4)
        other = await stage.start("Do it", agent="boss")
        await stage.service.cancel(CALLER, other)
        assert [each["id"] for each in await stage.service.listed(CALLER, limit=1)] == [max(run, other)]


async def test_calls_are_limited_when_they_are_made_at_once(tmp_path: Path, database: str) -> None:
    made: list[Json] = []
    add = tool("add", lambda said: made.append(said) or len(made))
    script = lambda messages: calls(*(("add", {"a": each, "b": 0}) for each in range(8)))  # noqa: E731
    async with staged(tmp_path, script, ONE, [add], database) as stage:
        run = await stage.start("Many", limits={"tool_calls": 5})
        await stage.settle()
        assert ((await stage.shown(run))["reason"], len(made)) == ("tool_calls_exceeded", 5)

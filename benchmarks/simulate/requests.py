"""How long the data plane of `stoker simulate` takes for a day of requests, compiled and interpreted.

    .venv/bin/python benchmarks/simulate/requests.py [--sizes 1e4,1e5,1e6] [--replicas 50] [--rounds 3]

1e6 requests are 24 h; fewer are the first part of such a day. `advance` is called every 1.44 s of it (60,000 times in
24 h, as a control plane does), and `counts` every 15 s. Each run is a new process, pinned to one core. Seconds are
processor time, which other work on the machine disturbs less than the clock's (there is one thread, so that on an idle
machine both are the same): from the requests' columns in memory to the columns of what became of them, without the
imports; medians of the rounds, and the largest peak memory of the process. No peer simulates the same thing, so none
is timed.

The floor is a bare loop that pushes onto and pops from one heap of 64 for each request, and does nothing else: heapq
for the interpreter, a compiled heap for compiled code.

"first" is a process with an empty compilation cache, "later" one with what the first has left there: importing numba,
compiling or loading, and the first call of each function.

Goals: 1e6 in at most 4 s compiled, 50 s interpreted, in less than 600 MB; linear in requests; a call of `advance` that
has nothing to do at most 20 us; compilation at most 15 s the first time, 1 s later.
"""

import argparse
import heapq
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

DAY = 1_000_000
SECONDS_OF_DAY = 86_400.0
CALL_S = 1.44
COUNT_S = 15.0
MODES = ("compiled", "interpreted")
GOALS_S = {"compiled": 4.0, "interpreted": 50.0}
GOAL_MB, GOAL_CALL_US, GOAL_FIRST_S, GOAL_LATER_S = 600.0, 20.0, 15.0, 1.0
GOAL_LINEAR = 1.25
"""Seconds per request of the largest run, over those of the one before it, at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1e4,1e5,1e6")
    parser.add_argument("--replicas", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "REQUESTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, size = options.one[0], int(options.one[1])
        print(json.dumps(ONE[what](size, options.replicas)))
        return
    print(describe("numpy", "numba"))
    sizes = [int(float(size)) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory() as cache:
        first, later = (run("start", 0, options.replicas, cache) for _ in range(2))
        figures = {
            (what, size): [run(what, size, options.replicas, cache) for _ in range(options.rounds)]
            for size in sizes
            for what in ONE
            if what != "start"
        }
    report(sizes, figures, first["s"], later["s"])


def run(what: str, size: int, replicas: int, cache: str) -> dict[str, Any]:
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, __file__, "--one", what, str(size), "--replicas", str(replicas)],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    return json.loads(done.stdout)


def drawn(size: int) -> Any:
    """Requests as a chat service has them: prompts of 1,000 tokens, answers of 250, both with long tails."""
    from stoker.simulate.serving import Requests

    chance = np.random.default_rng(1)
    at_s = np.sort(chance.uniform(0.0, SECONDS_OF_DAY * size / DAY, size))
    prompts = np.minimum(chance.lognormal(6.4, 1.0, size), 7000).astype(np.int32) + 1
    answers = np.minimum(chance.lognormal(5.2, 0.8, size), 1000).astype(np.int32) + 1
    return Requests(at_s, prompts, answers, np.zeros(size, np.int32))


def plane(requests: Any, replicas: int, mode: str) -> Any:
    """Replicas like Llama-3.1-8B on an L40S."""
    from stoker.simulate import serving
    from stoker.simulate.engines import Rates

    serving.WORTH_COMPILING = 0 if mode == "compiled" else sys.maxsize
    rates = Rates(np.linspace(0.021, 0.038, 65), 1e-7, 1 / 15_600, 0.016, 8192, 150_000, 0.001)
    found = serving.Plane(requests, dispatch="queue", max_model_len=8192, timeout_s=600.0, retries=True)
    for _ in range(replicas):
        found.add(rates, 64, 0.0)
    return found


def simulated(mode: str, size: int, replicas: int) -> dict[str, Any]:
    requests = drawn(size)
    if mode == "compiled":
        use(plane(drawn(10), 1, mode))  # compilation is a figure of its own
    began = time.process_time()
    each = plane(requests, replicas, mode)
    steps = use(each)
    columns = each.columns()
    took = time.process_time() - began
    calls = 10_000
    began = time.process_time()
    for i in range(calls):
        each.advance(2 * SECONDS_OF_DAY + i)
    call_us = (time.process_time() - began) / calls * 1e6
    counts = each.counts()
    return {
        "s": took,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "calls": steps,
        "call_us": call_us,
        "served": counts.served,
        "busy": float(each.busy_s().sum()) / (replicas * SECONDS_OF_DAY * size / DAY),
        "mean_s": float(np.nanmean(columns["done_at"] - requests.at_s)),
    }


def use(each: Any) -> int:
    """To the end; returns the number of calls."""
    calls, count_at = 0, 0.0
    while each.has_work():
        calls += 1
        now = calls * CALL_S
        each.advance(now)
        if now >= count_at:
            each.counts()
            count_at += COUNT_S
    return calls


def started(_: int, replicas: int) -> dict[str, Any]:
    began = time.process_time()
    each = plane(drawn(10), replicas, "compiled")
    use(each)
    each.kill(0, 1000.0)
    each.drain(1, 1000.0)
    each.columns()
    return {"s": time.process_time() - began}


def heapq_floor(size: int, _: int) -> dict[str, Any]:
    heap = [(float(i), i) for i in range(64)]
    ends = (np.arange(size) * 7919 % 1000).astype(float).tolist()
    began = time.process_time()
    for i in range(size):
        heapq.heappush(heap, (i + ends[i], i))
        heapq.heappop(heap)
    return {"s": time.process_time() - began}


def compiled_floor(size: int, _: int) -> dict[str, Any]:
    import numba

    from stoker.simulate import sharing

    put, drop = numba.njit(sharing.put_end), numba.njit(sharing.drop_end)

    @numba.njit
    def loop(ends: Any, whose: Any, offsets: Any) -> None:
        for i in range(len(offsets)):
            put(ends, whose, 0, 64, i + offsets[i], i)
            drop(ends, whose, 0, 65)

    ends, whose = np.arange(65.0), np.arange(65)
    offsets = (np.arange(size) * 7919 % 1000).astype(float)
    loop(ends, whose, offsets[:10])
    began = time.process_time()
    loop(ends, whose, offsets)
    return {"s": time.process_time() - began}


ONE: dict[str, Any] = {
    "compiled": lambda size, replicas: simulated("compiled", size, replicas),
    "interpreted": lambda size, replicas: simulated("interpreted", size, replicas),
    "compiled floor": compiled_floor,
    "interpreted floor": heapq_floor,
    "start": started,
}


def report(sizes: list[int], figures: dict[tuple[str, int], list[dict[str, Any]]], first: float, later: float) -> None:
    def median(what: str, size: int, key: str = "s") -> float:
        return statistics.median(each[key] for each in figures[what, size])

    one = figures["compiled", sizes[-1]][0]
    print(
        f"at {sizes[-1]:,} requests: replicas busy {one['busy']:.0%}, mean end to end {one['mean_s']:.2f} s, "
        f"{one['calls']:,} calls of advance\n"
    )
    print(
        f"{'':12} {'requests':>10} {'median':>9} {'lowest':>9} {'highest':>9} {'requests/s':>12} {'MB':>6} {'floor':>8}"
    )
    for mode in MODES:
        for size in sizes:
            seconds = [each["s"] for each in figures[mode, size]]
            middle = statistics.median(seconds)
            print(
                f"{mode:12} {size:10,} {middle:8.3f}s {min(seconds):8.3f}s {max(seconds):8.3f}s {size / middle:12,.0f} "
                f"{max(each['mb'] for each in figures[mode, size]):6.0f} {median(f'{mode} floor', size):7.3f}s"
            )
    print(f"\ncompilation: first {first:.1f} s, later {later:.2f} s")
    is_same = all(
        figures["compiled", size][0][key] == figures["interpreted", size][0][key]
        for size in sizes
        for key in ("served", "busy", "mean_s")
    )
    print(f"compiled and interpreted agree to the bit in what they served, busy time and mean: {is_same}")
    say("compilation, first", first, GOAL_FIRST_S, "s")
    say("compilation, later", later, GOAL_LATER_S, "s")
    for mode in MODES:
        if DAY in sizes:
            say(f"{mode}, {DAY:,} requests", median(mode, DAY), GOALS_S[mode], "s")
            say(f"{mode}, memory", max(each["mb"] for each in figures[mode, DAY]), GOAL_MB, "MB")
        say(f"{mode}, a call with nothing to do", median(mode, sizes[-1], "call_us"), GOAL_CALL_US, "us")
        if len(sizes) > 1:
            growth = (median(mode, sizes[-1]) / sizes[-1]) / (median(mode, sizes[-2]) / sizes[-2])
            say(f"{mode}, time per request, last size over the one before", growth, GOAL_LINEAR, "times")


def say(what: str, value: float, goal: float, unit: str) -> None:
    print(f"{what}: {value:.2f} {unit}; at most {goal:g}: {'met' if value <= goal else 'NOT met'}")


if __name__ == "__main__":
    main()

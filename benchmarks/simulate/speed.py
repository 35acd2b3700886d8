"""How long `stoker simulate` takes for a whole cluster: a day, a million requests, some 50 replicas at the peak.

    .venv/bin/python benchmarks/simulate/speed.py [--rounds 3] [--only day,growth,start]

Each figure is of a whole command `stoker simulate MANIFESTS --trace T --json` in a new process, pinned to one core:
start, imports, manifests, requests that are made up, the run, the report. Seconds are those of the clock and, in
brackets, of the processor (there is one thread; other work on the machine shows in the first alone); medians of the
rounds; memory is the largest peak of the process.

- day: 24 h, 1,000,000 requests by a sinusoid with the peak at noon, for manifests that `stoker render` writes and for
  examples/by-hand; compiled, with a cache that an earlier run has filled, and interpreted (STOKER_NO_NUMBA).
- growth: 1e4, 1e5 and 1e6 requests of the same rate in proportionate time, and of a lower rate in the same 24 h. The
  latter do not get ten times as fast: a quiet day has as many polls, scrapes and passes as a busy one.
- start: the default platform's manifests, and examples/by-hand, under the Azure conversation trace (19,366 requests in
  an hour), where nothing has been compiled before, and later.

Beside it stands what others publish, of one replica each, since none of them simulates a cluster: how much faster than
real time BLIS (212), Vidur (141) and LLMServingSim (0.2) are. Ours is the time of all replicas that were ready by the
clock's time, with autoscalers, scheduler and nodes.

Goals: the day in at most 10 s compiled, 60 s interpreted, 1 GB; linear; the hour in at most 10 s.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

BY_HAND = Path(__file__).parents[2] / "examples" / "by-hand"
SPEC = """
llm:
  models:
    general:
      replicas: {min: 2, max: 50}
      serving: {limits: {contextTokens: 16384, maxOutputTokens: 2048}}
"""
DAY_S = 86_400
MODES = ("compiled", "interpreted")
GOAL_S = {"compiled": 10.0, "interpreted": 60.0}
GOAL_MB, GOAL_START_S, GOAL_LINEAR = 1024.0, 10.0, 1.25
PUBLISHED = {"BLIS": 212.0, "Vidur": 141.0, "LLMServingSim": 0.2}
Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="day,growth,start")
    options = parser.parse_args()
    chosen = options.only.split(",")
    print(describe("numpy", "numba"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC)
        rendered = {
            "rendered": render(folder / "rendered", "-f", str(folder / "spec.yaml")),
            "default": render(folder / "default"),
        }
        cache = folder / "cache"
        if "start" in chosen:
            start({"rendered": rendered["default"], "by hand": BY_HAND}, folder, options.rounds)
        if {"day", "growth"} & set(chosen):
            run(rendered["rendered"], load(1.0, DAY_S / 10), "compiled", cache)  # compiles
        if "day" in chosen:
            day({"rendered": rendered["rendered"], "by hand": BY_HAND}, cache, options.rounds)
        if "growth" in chosen:
            growth(rendered["rendered"], cache, options.rounds)


def render(out: Path, *arguments: str) -> Path:
    command = [sys.executable, "-m", "stoker.cli.app", "render", *arguments, "-o", str(out)]
    subprocess.run(command, cwd=out.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return out


def load(share: float = 1.0, seconds: float = DAY_S) -> str:
    """A million requests a day, or a share of them; the peak is in the middle."""
    return (
        f"diurnal:peak={20 * share:g},trough={3.15 * share:g},seconds={seconds:g},period={seconds:g},"
        f"peak_at={seconds / 7200:g},prompt=1000,completion=250"
    )


def run(manifests: Path, trace: str, mode: str, cache: Path) -> Run:
    core = min(os.sched_getaffinity(0))
    environment = {key: value for key, value in os.environ.items() if key != "STOKER_NO_NUMBA"}
    environment |= {"NUMBA_CACHE_DIR": str(cache), **({"STOKER_NO_NUMBA": "1"} if mode == "interpreted" else {})}
    command = [sys.executable, "-m", "stoker.cli.app", "simulate", str(manifests), "--trace", trace, "--json"]
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, {core})
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        out.seek(0)
        figures = json.loads(out.read())
    ready = figures["replicas"].values()
    del figures["wall_s"]
    return {
        "wall_s": wall_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "mb": used.ru_maxrss / 1024,
        "requests": figures["requests"]["arrived"],
        "served": figures["requests"]["served"],
        "replicas": sum(each["peak"] for each in ready),
        "replica_s": sum(each["seconds"] for each in ready),
        "nodes": figures["nodes"]["peak"],
        "figures": figures,
    }


def median(runs: list[Run], key: str) -> float:
    return statistics.median(each[key] for each in runs)


def line(name: str, mode: str, runs: list[Run]) -> None:
    one = runs[0]
    print(
        f"{name:22} {mode:12} {one['requests']:9,} requests, {one['served'] / one['requests']:.1%} served, at most "
        f"{one['replicas']:2} replicas on {one['nodes']:2} nodes: {median(runs, 'wall_s'):6.2f} s "
        f"({median(runs, 'cpu_s'):.2f} s), {max(each['mb'] for each in runs):4.0f} MB",
        flush=True,
    )


def day(manifests: dict[str, Path], cache: Path, rounds: int) -> None:
    print("\n24 hours, a million requests")
    for name, path in manifests.items():
        found = {mode: [run(path, load(), mode, cache) for _ in range(rounds)] for mode in MODES}
        for mode, runs in found.items():
            line(name, mode, runs)
        same = found["compiled"][0]["figures"] == found["interpreted"][0]["figures"]
        print(f"compiled and interpreted give the same report: {same}")
        for mode, runs in found.items():
            say(f"{name}, {mode}", median(runs, "wall_s"), GOAL_S[mode], "s")
            say(f"{name}, {mode}, memory", max(each["mb"] for each in runs), GOAL_MB, "MB")
            times = median(runs, "replica_s") / median(runs, "wall_s")
            others = ", ".join(f"{other} {value:g}" for other, value in PUBLISHED.items())
            print(f"{name}, {mode}: {times:,.0f} times as fast as real time for each replica (published: {others})")


def growth(manifests: Path, cache: Path, rounds: int) -> None:
    print("\ngrowth")
    for kind in ("the same rate, shorter", "24 hours, a lower rate"):
        for mode in MODES:
            sizes = []
            for share in (0.01, 0.1, 1.0):
                trace = load(1.0, DAY_S * share) if kind.startswith("the same") else load(share)
                runs = [run(manifests, trace, mode, cache) for _ in range(rounds)]
                line(kind, mode, runs)
                sizes.append((runs[0]["requests"], median(runs, "cpu_s")))
            (less, shorter), (more, longer) = sizes[-2:]
            each = (longer / more) / (shorter / less)
            say(f"{kind}, {mode}: seconds per request, 1e6 over 1e5", each, GOAL_LINEAR, "times")


def start(manifests: dict[str, Path], folder: Path, rounds: int) -> None:
    print("\nAzure conversation trace")
    for name, path in manifests.items():
        first = [run(path, "azure-conversation", "compiled", folder / f"{name}-{i}") for i in range(rounds)]
        later = [run(path, "azure-conversation", "compiled", folder / f"{name}-0") for _ in range(rounds)]
        for when, runs in (("first", first), ("later", later)):
            line(name, when, runs)
            say(f"{name}, {when}", median(runs, "wall_s"), GOAL_START_S, "s")


def say(what: str, value: float, goal: float, unit: str) -> None:
    print(f"{what}: {value:.2f} {unit}; at most {goal:g}: {'met' if value <= goal else 'NOT met'}")


if __name__ == "__main__":
    main()

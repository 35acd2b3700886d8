"""Does a gateway grow? So many requests of so many keys, good, bad and broken off, and its resident memory all along.

    .venv/bin/python benchmarks/gateway/leak.py [--requests 1000000] [--keys 100000] [--clients 32] [--lines]
        [--json FILE]

One gateway of Stoker's on core 0, the mock and the load on core 1. The keys take turns, so that each pass uses all.
What a request is goes by its number; MIX says of how many in a hundred. Models and keys that do not exist have a name
of their own each time, as have sessions, which end after 5 s.

What a gateway remembers of a key it may keep, and of its callers (a key, or a key with a session) as many as
`REMEMBERED`. So the first two passes over the keys are warm-up, and as many requests as it takes to fill that; from
there on the slope, by least squares over the samples, should be none. Every answer is looked at. `--lines`: which
lines of the source hold what was allocated after the warm-up and is still there, by tracemalloc, which slows the
gateway.
"""

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import targets as made
import uvloop
from cores import LOAD, resident_mb
from load import Check, Errand, Run, body_of, encoded, linger, wrong_with_answer, wrong_with_stream
from profiling import runner, written
from targets import Target

from stoker.gateway.limits import REMEMBERED
from stoker.spec import Budgets

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
sys.path.insert(0, str(Path(__file__).parents[1] / "budgets"))
from keys_memory import Kind, fill, secret
from machine import describe

PASSES_OF_WARM_UP = 2
SAMPLES = 40
SHOWN = 20
POOR_EVERY = 50
"""One key in so many has a budget that no request fits."""
SESSION_IDLE_S = 5


class Mixed(Kind):
    """Three limits, its own; some are poor."""

    def budgets(self, number: int) -> Budgets:
        return Budgets(tokens_per_day=20) if number % POOR_EVERY == 0 else super().budgets(number)


# --- what is asked ----------------------------------------------------------------------------------------------------


def expecting(status: int) -> Check:
    def check(answered: int, body: bytes) -> str | None:
        is_right = answered == status and b'"error"' in body
        return None if is_right else f"status {answered} instead of {status}: {body[:160].decode(errors='replace')}"

    return check


def _good(number: int, key: str) -> Errand:
    return Errand(encoded(body_of(), key), wrong_with_answer)


def _in_a_session(number: int, key: str) -> Errand:
    body = {**body_of(), "conversation": f"session-{number}"}
    return Errand(encoded(body, key), wrong_with_answer)


def _stream(number: int, key: str) -> Errand:
    return Errand(encoded(body_of(is_stream=True), key), wrong_with_stream)


def _left(number: int, key: str) -> Errand:
    return Errand(encoded(body_of(is_stream=True, is_paced=True), key), wrong_with_stream, leaves=True)


def _unknown_key(number: int, key: str) -> Errand:
    return Errand(encoded(body_of(), f"sk-stoker-unknown-{number:034}"), expecting(401))


def _no_number(number: int, key: str) -> Errand:
    return Errand(encoded({**body_of(), "max_tokens": f"{number}"}, key), expecting(400))


def _no_model(number: int, key: str) -> Errand:
    return Errand(encoded({**body_of(), "model": f"model-{number}"}, key), expecting(404))


def _no_path(number: int, key: str) -> Errand:
    return Errand(encoded(body_of(), key, path=f"/v1/nowhere/{number}"), expecting(404))


OVER_BUDGET = expecting(400)

Make = Callable[[int, str], Errand]
MIX: tuple[tuple[str, int, Make], ...] = (
    ("answers", 74, _good),
    ("answers in a session of their own", 4, _in_a_session),
    ("streams", 10, _stream),
    ("streams broken off at the first chunk", 4, _left),
    ("401 unknown key", 2, _unknown_key),
    ("400 no number", 2, _no_number),
    ("404 unknown model", 2, _no_model),
    ("404 unknown path", 2, _no_path),
)
REFUSALS = "400 over its budget"


class Plan:
    """The errands, one after the other, and how many of each there were."""

    def __init__(self, requests: int, keys: int) -> None:
        self.begun: Counter[str] = Counter()
        self._requests = requests
        self._keys = keys
        # Spread over the hundred, and not in step with the keys.
        self._makers = [(name, make) for name, share, make in MIX for _ in range(share)]

    def errands(self) -> Iterator[Errand]:
        for number in range(self._requests):
            name, make = self._makers[(number * 37 + number // self._keys) % 100]
            yield self._errand(number, name, make)

    def _errand(self, number: int, name: str, make: Make) -> Errand:
        of_keys = number % self._keys
        errand = make(number, secret(of_keys))
        if of_keys % POOR_EVERY == 0 and errand.check in (wrong_with_answer, wrong_with_stream):
            name, errand = REFUSALS, Errand(errand.ask, OVER_BUDGET)
        self.begun[name] += 1
        return errand


def warm_up_of(keys: int) -> int:
    """Requests until the gateway remembers all that it may."""
    sessions = next(share for _, share, make in MIX if make is _in_a_session) / 100
    until_full = keys + max(0, REMEMBERED - keys) / sessions
    return max(PASSES_OF_WARM_UP * keys, math.ceil(until_full))


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    answered: int
    at_s: float
    gateway_mb: float
    redis_mb: float


async def play(
    target: Target, plan: Plan, clients: int, every: int, warm_up: int, on_warm: Callable[[], None]
) -> tuple[Run, list[Reading]]:
    """All errands; a reading each so many answers, and one at the end. `on_warm` is called after the warm-up."""
    run = Run(target.port, plan.errands())
    began = time.perf_counter()
    readings = [_read(target, run, began)]
    await asyncio.gather(*(run.connect() for _ in range(clients)))
    is_warm = False
    while not run.is_over:
        await asyncio.sleep(0.2)
        if run.answered >= warm_up and not is_warm:
            is_warm = True
            on_warm()
        if run.answered >= readings[-1].answered + every:
            readings.append(_read(target, run, began))
            print(readings[-1], dict(run.sample.wrong) or "", file=sys.stderr, flush=True)
    await linger(run)
    readings.append(_read(target, run, began))
    return run, readings


def _read(target: Target, run: Run, began: float) -> Reading:
    assert target.process is not None
    redis = resident_mb(target.beside["redis"].pid)
    return Reading(run.answered, time.perf_counter() - began, resident_mb(target.process.pid), redis)


def slope(readings: Sequence[Reading]) -> tuple[float, float]:
    """Bytes a request by least squares, and twice the standard error of that."""
    xs = [float(each.answered) for each in readings]
    ys = [each.gateway_mb * 1e6 for each in readings]
    fitted = statistics.linear_regression(xs, ys)
    rest = sum((y - fitted.intercept - fitted.slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    return fitted.slope, 2 * math.sqrt(rest / (len(xs) - 2) / spread)


def report(run: Run, plan: Plan, readings: Sequence[Reading], warm_up: int) -> str:
    counted = [each for each in readings if each.answered >= warm_up]
    step = max(1, len(readings) // SHOWN)
    shown = [*readings[:-1:step], readings[-1]]
    lines = ["| answered | after s | gateway MB | Redis MB |", "|---:|---:|---:|---:|"]
    lines += [f"| {r.answered:,} | {r.at_s:.0f} | {r.gateway_mb:.1f} | {r.redis_mb:.1f} |" for r in shown]
    lines += ["", "Asked: " + ", ".join(f"{count:,} {name}" for name, count in plan.begun.most_common()) + "."]
    if len(counted) >= 4:
        bytes_each, error = slope(counted)
        lines.append(
            f"Slope after the first {warm_up:,} requests ({len(counted)} samples): {bytes_each:+.1f} bytes a request "
            f"(+- {error:.1f}), {bytes_each:+.1f} MB in a million."
        )
    else:
        lines.append(f"No slope: {len(counted)} samples after the first {warm_up:,} requests, which are warm-up.")
    lines += [f"(!) {count} x {what}" for what, count in run.sample.wrong.items()]
    return "\n".join(lines)


def lines_table(rows: Sequence[dict[str, Any]], requests: int) -> str:
    lines = ["", "| bytes a request | line |", "|---:|---|"]
    lines += [f"| {row['bytes'] / requests:.1f} | {row['name']} |" for row in rows[:SHOWN]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--json", type=Path, help="write every sample there")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD})
    kind = Mixed("3 limits, its own", are_own=True, are_three=True)
    warm_up = warm_up_of(options.keys)
    with tempfile.TemporaryDirectory(prefix="leak-") as directory:
        work = Path(directory)
        upstream, port = made.mock(work)
        target: Target | None = None
        try:
            target = made.stoker(
                work,
                port,
                fill=lambda ledger: fill(ledger, options.keys, kind),
                settings={"gateway": {"sessions": {"idleSeconds": SESSION_IDLE_S}}},
                **({"runner": runner("memory", work / "lines.json")} if options.lines else {}),
            )
            target.start()
            assert target.process is not None
            made.wait_until_listening(target.process, target.port)
            plan = Plan(options.requests, options.keys)
            about = describe("stoker", "uvicorn", "uvloop")
            pid = target.process.pid
            on_warm = (lambda: os.kill(pid, signal.SIGUSR1)) if options.lines else (lambda: None)
            every = max(1, options.requests // (2 * SAMPLES))
            run, readings = uvloop.run(play(target, plan, options.clients, every, warm_up, on_warm))
            lines = ""
            if options.lines and run.answered > warm_up:
                time.sleep(2 * SESSION_IDLE_S)  # what ends by itself has ended
                os.kill(pid, signal.SIGUSR2)
                lines = lines_table(written(work / "lines.json", target), run.answered - warm_up)
        finally:
            if target is not None:
                target.end_all()
            upstream.end()
    if options.json is not None:
        said = {"about": about, "readings": [asdict(each) for each in readings], "wrong": dict(run.sample.wrong)}
        options.json.write_text(json.dumps(said, indent=1))
    print(about)
    print(f"{options.requests:,} requests of {options.keys:,} keys, {options.clients} clients\n")
    print(report(run, plan, readings, warm_up))
    print(lines)


if __name__ == "__main__":
    main()

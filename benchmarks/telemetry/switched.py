"""What telemetry costs a gateway, switched on and off within one process, eight times a second.

    .venv/bin/python benchmarks/telemetry/switched.py [--short] [--starts 4] [--seconds 60] [--clients 16]
        [--scrape-every 1] [--only-spans]

`overhead.py` compares two processes, and where things lie in a process's memory is worth a few percent for as long as
it lives: what that says of 60 pairs is known to one or two percent. Here one gateway, on core 0 with the load of
`benchmarks/gateway/compare.py`, is told by signals whether it makes spans and counts for its metrics; windows of an
eighth of a second follow each other in turns `off on` and `on off`, and the ratio is taken within a pair. While it is
on, its metrics are scraped once a second (`on` time, so each eighth window has one), which is five times as often as
`stoker up` tells Prometheus to. What is sent leaves every five seconds, in whichever window that falls, so threads of
telemetry are not in the windows: theirs is counted over the whole run, and added to each request that had spans, and to
what throughput is lost, since they hold up windows of both kinds. Said are means without the highest and lowest tenth
of the pairs, with the standard error; the goal is held against the CPU of a request and against the throughput."""

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))
sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import targets as made
import uvloop
from compare import start_s
from load import Errand, Run, body_of, encoded, wrong_with_answer
from machine import describe
from overhead import surroundings
from targets import Target

GOAL = 0.05
WINDOW_S, SETTLES_S, WARM_S = 0.125, 0.02, 2.0
ON, OFF = signal.SIGUSR1, signal.SIGUSR2
THREADS = "SWITCHED_THREADS"
"""The file in which the gateway says what its threads took."""
ONLY_SPANS = "SWITCHED_ONLY_SPANS"


def gateway() -> None:
    """In place of `stoker.gateway`: the same, with a switch."""
    import stoker.gateway.__main__ as program
    from stoker.gateway.measures import Measures
    from stoker.gateway.running import Gateway

    of = Gateway.of.__func__  # type: ignore[attr-defined]

    def switched(cls: type[Gateway], *args: Any, **named: Any) -> Gateway:
        built: Gateway = of(cls, *args, **named)
        tracing, measures, only_spans = built.services.tracing, built.services.measures, ONLY_SPANS in os.environ
        assert tracing is not None

        class Off(Measures):
            """Of builtins that do nothing, since the least call of Python is a frame."""

            ended = set_aside = set_free = staticmethod(id)

        def switch(number: int, _: object) -> None:
            object.__setattr__(built.services, "tracing", tracing if number == ON else None)
            measures.__class__ = Measures if number == ON or only_spans else Off

        for number in (ON, OFF):
            signal.signal(number, switch)
        return built

    Gateway.of = classmethod(switched)  # type: ignore[assignment, method-assign]
    run = Gateway.run

    async def timed(self: Gateway, *args: Any, **named: Any) -> None:
        await run(self, *args, **named)
        threads = {each.name: each.ident for each in threading.enumerate() if each.ident is not None}
        took_s = {name: time.clock_gettime(time.pthread_getcpuclockid(ident)) for name, ident in threads.items()}
        await asyncio.to_thread(Path(os.environ[THREADS]).write_text, json.dumps(took_s))

    Gateway.run = timed  # type: ignore[method-assign]
    program.main()


@dataclass(frozen=True)
class Window:
    cpu_us: float
    """Of the thread that answers, of a request."""
    per_s: float


@dataclass
class Start:
    pairs: list[tuple[Window, Window]]
    """Off and on."""
    traced: int
    """Requests with spans."""
    threads_us: float = 0.0
    """Of such a request, what threads of telemetry took."""
    wrong: int = 0


def cpu_ns(pid: int) -> int:
    """Of the main thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def scrape(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        answer.read()


async def one_start(target: Target, pid: int, options: argparse.Namespace) -> Start:
    run = Run(target.port, itertools.repeat(Errand(encoded(body_of(), target.key), wrong_with_answer)))
    for _ in range(options.clients):
        await run.connect()
    run.is_open = True
    found = Start([], 0)
    answered = 0

    async def window(is_on: bool, scrapes: bool) -> Window:
        nonlocal answered
        os.kill(pid, ON if is_on else OFF)
        await asyncio.sleep(SETTLES_S)
        before, count, began = cpu_ns(pid), run.answered, time.perf_counter()
        if scrapes:
            scraping = asyncio.create_task(asyncio.to_thread(scrape, target.port))
        await asyncio.sleep(WINDOW_S)
        took_s, cpu, done = time.perf_counter() - began, cpu_ns(pid) - before, max(1, run.answered - count)
        if scrapes:
            await scraping
        if is_on:
            found.traced += run.answered - answered
        answered = run.answered
        return Window(cpu / done / 1e3, done / took_s)

    await asyncio.sleep(WARM_S)
    answered = run.answered
    ends = time.monotonic() + options.seconds
    for number in itertools.count():
        if time.monotonic() > ends:
            break
        order = (False, True) if number % 2 == 0 else (True, False)
        is_due = number % max(1, round(options.scrape_every / WINDOW_S)) == 0
        rows = {is_on: await window(is_on, is_on and is_due) for is_on in order}
        found.pairs.append((rows[False], rows[True]))
    run.is_over = True
    await asyncio.wait_for(run.ended.wait(), 60)
    found.wrong = sum(run.sample.wrong.values())
    return found


def measure(work: Path, upstream: int, collector: str, options: argparse.Namespace) -> Start:
    work.mkdir()
    said = work / "threads.json"
    environ = [
        f"OTEL_EXPORTER_OTLP_ENDPOINT={collector}",
        f"{THREADS}={said}",
        *([f"{ONLY_SPANS}=1"] * options.only_spans),
    ]
    target = made.stoker(work, upstream, runner=["env", *environ, *made.PYTHON[:1], __file__, "gateway"])
    try:
        start_s(target)
        assert target.process is not None
        found = uvloop.run(one_start(target, target.process.pid, options))
    finally:
        target.end_all()
    took = json.loads(said.read_text())
    of_telemetry = {name: cpu_s for name, cpu_s in took.items() if name == "traces" or name.startswith("otlp")}
    assert "traces" in of_telemetry, took
    found.threads_us = sum(of_telemetry.values()) / found.traced * 1e6
    return found


def trimmed(values: Sequence[float]) -> float:
    cut = len(values) // 10
    return statistics.fmean(sorted(values)[cut : len(values) - cut or None])


def with_error(values: Sequence[float]) -> tuple[float, float]:
    """The trimmed mean, and its standard error by drawing again from the same."""
    chance = random.Random(1)
    again = [trimmed(chance.choices(values, k=len(values))) for _ in range(400)]
    return trimmed(values), statistics.stdev(again)


def more(starts: Sequence[Start]) -> tuple[tuple[float, float], tuple[float, float]]:
    """By how much the CPU of a request is more, and the throughput less, with standard errors."""
    cpu = [on.cpu_us / off.cpu_us - 1 + start.threads_us / off.cpu_us for start in starts for off, on in start.pairs]
    less = [1 - on.per_s / off.per_s + start.threads_us / off.cpu_us for start in starts for off, on in start.pairs]
    return with_error(cpu), with_error(less)


def line(what: str, starts: Sequence[Start]) -> str:
    (cpu, cpu_se), (less, less_se) = more(starts)
    pairs = [pair for start in starts for pair in start.pairs]
    off, on = (trimmed([pair[which].cpu_us for pair in pairs]) for which in (0, 1))
    threads = statistics.fmean(start.threads_us for start in starts)
    return (
        f"| {what} | {len(pairs)} | {off:.0f} | {on:.0f} | {threads:.1f} | {cpu:+.1%} ± {cpu_se:.1%} "
        f"| {-less:+.1%} ± {less_se:.1%} |"
    )


def main() -> None:
    if sys.argv[1:2] == ["gateway"]:
        del sys.argv[1]
        gateway()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each start")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--scrape-every", type=float, default=1.0, help="seconds")
    parser.add_argument("--only-spans", action="store_true", help="it counts on both sides, as any gateway does")
    parser.add_argument("--short", action="store_true", help="one start of 10 s")
    options = parser.parse_args()
    if options.short:
        options.starts, options.seconds = 1, 10.0
    starts = []
    with surroundings() as (work, port, endpoint):
        for number in range(options.starts):
            starts.append(measure(work / str(number), port, endpoint, options))
            print(line(f"start {number}", starts[-1:]), file=sys.stderr)
    print(describe("stoker", "uvicorn", "uvloop", "opentelemetry-sdk"))
    what = "spans" if options.only_spans else "spans and counters"
    said = f"{options.clients} clients, {options.starts} starts of {options.seconds:g} s"
    print(f"\n{what}; {said}, scraped each {options.scrape_every:g} s; goal: under {GOAL:.0%}\n")
    print("| | pairs | off, us | on, us | threads, us | CPU of a request | requests/s |\n|---|---|---|---|---|---|---|")
    print("\n".join([*(line(f"start {number}", [each]) for number, each in enumerate(starts)), line("all", starts)]))
    if wrong := sum(each.wrong for each in starts):
        raise SystemExit(f"{wrong} answers were wrong")


if __name__ == "__main__":
    main()

"""What telemetry costs a gateway: everything on beside everything off, in pairs of windows.

    .venv/bin/python benchmarks/telemetry/overhead.py [--short] [--starts 6] [--pairs 5] [--seconds 1]
        [--only c16,c1,stream]

Both gateways are real ones on core 0, as in `benchmarks/gateway/compare.py`, with the same load; `on` sends the spans
of each request (nothing is sampled away) to a collector's process, and its metrics are scraped each second. JSON logs
are on in both: a gateway has no other. Both are started anew again and again: where things lie in a process's memory,
and what Python hashes them by, is worth a few percent for as long as it lives. The windows of a pair follow each
other, in turns `off on` and `on off`; ratios are taken within a pair, and what is said is their median, with the
quartiles. The collector shares core 1 with the load and the upstream, so it reads nothing of what it takes: its CPU
is not the gateway's."""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))
sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
import subprocess

import targets as made
from compare import start_s
from cores import LOAD, pinned_to
from machine import describe
from targets import Target
from windows import SCENARIOS, Row, measure

GOAL = 0.05


@contextmanager
def surroundings() -> Iterator[tuple[Path, int, str]]:
    """Of a gateway, on the other core: a folder, the port of its upstream, and the URL of the collector."""
    os.sched_setaffinity(0, {LOAD})
    with tempfile.TemporaryDirectory(prefix="telemetry-") as directory, ExitStack() as stack:
        work = Path(directory)
        upstream, port = made.mock(work)
        stack.callback(upstream.end)
        argv = [sys.executable, "-m", "stoker.testing.otlp", str(work / "received.jsonl"), "--discard"]
        with pinned_to(LOAD):
            collector = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        stack.callback(collector.wait)
        stack.callback(collector.terminate)
        assert collector.stdout is not None
        yield work, port, collector.stdout.readline().strip()


def scraped(port: int, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            answer.read()


def pairs(off: Target, on: Target, short: str, count: int, seconds: float) -> list[tuple[Row, Row]]:
    found = []
    for number in range(count):
        order = (off, on) if number % 2 == 0 else (on, off)
        rows = {target.name: measure(target, SCENARIOS[short], number, seconds) for target in order}
        found.append((rows["off"], rows["on"]))
        a, b = found[-1]
        print(f"{short} {number}: {a.per_s:.0f} and {b.per_s:.0f}/s", a.wrong or "", b.wrong or "", file=sys.stderr)
    return found


def once(
    work: Path, upstream: int, collector: str, loads: Sequence[str], count: int, seconds: float
) -> dict[str, list[tuple[Row, Row]]]:
    """Of each load the pairs of one start."""
    with ExitStack() as stack:
        both = []
        for name, environ in (("off", []), ("on", [f"OTEL_EXPORTER_OTLP_ENDPOINT={collector}"])):
            (work / name).mkdir(parents=True)
            target = made.stoker(work / name, upstream, runner=["env", *environ, *made.PYTHON, "stoker.gateway"])
            target.name = name
            stack.callback(target.end_all)
            start_s(target)
            both.append(target)
        off, on = both
        stop = threading.Event()
        scraping = threading.Thread(target=scraped, args=(on.port, stop))
        scraping.start()
        stack.callback(scraping.join)
        stack.callback(stop.set)
        for target in both:
            measure(target, SCENARIOS[loads[0]], 0, 2.0)
        return {short: pairs(off, on, short, count, seconds) for short in loads}


def line(what: str, found: Sequence[tuple[Row, Row]], of: Callable[[Row], float | None], unit: float) -> str:
    both = [(a, b) for a, b in ((of(off), of(on)) for off, on in found) if a and b]
    ratios = sorted(b / a for a, b in both)
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    a, b = statistics.median(a for a, _ in both) * unit, statistics.median(b for _, b in both) * unit
    return f"| {what} | {a:.1f} | {b:.1f} | {middle - 1:+.1%} | {low - 1:+.1%} to {high - 1:+.1%} |"


def table(short: str, found: Sequence[tuple[Row, Row]]) -> list[str]:
    title = SCENARIOS[short].title
    return [
        line(f"{title}: requests/s", found, lambda row: row.per_s, 1.0),
        line(f"{title}: CPU of the gateway, us a request", found, lambda row: row.cpu_us, 1.0),
        line(f"{title}: p50, ms", found, lambda row: row.p50_s, 1e3),
        line(f"{title}: p99, ms", found, lambda row: row.p99_s, 1e3),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=5, help="of each start")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="c16,c1,stream")
    parser.add_argument("--short", action="store_true", help="one start, three pairs, 16 clients")
    options = parser.parse_args()
    loads = ["c16"] if options.short else options.only.split(",")
    starts, count, seconds = (1, 3, 1.0) if options.short else (options.starts, options.pairs, options.seconds)
    found: dict[str, list[tuple[Row, Row]]] = {short: [] for short in loads}
    with surroundings() as (work, port, endpoint):
        for number in range(starts):
            for short, rows in once(work / str(number), port, endpoint, loads, count, seconds).items():
                found[short] += rows
    print(describe("stoker", "uvicorn", "uvloop", "opentelemetry-sdk"))
    print(f"\n{starts} starts, of each {count} pairs of {seconds:g} s; goal: under {GOAL:.0%}\n")
    print("| | off | on | more | quartiles |\n|---|---|---|---|---|")
    print("\n".join(row for short in loads for row in table(short, found[short])))


if __name__ == "__main__":
    main()

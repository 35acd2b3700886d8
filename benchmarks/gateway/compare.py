"""nginx, LiteLLM and Stoker in front of one mock, beside one another: what each takes of its core and adds to a request.

.venv/bin/python benchmarks/gateway/compare.py [--targets stoker,nginx,direct] [--rounds 5] [--only c16,c1]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import targets as made
import uvloop
from cores import LOAD, Used, cpu_s, used
from load import Check, load, request, wrong_with_answer, wrong_with_stream
from targets import Target

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))

TARGETS = ("direct", "nginx", "litellm", "stoker")
PROMPT_BYTES = 220_000


@dataclass(frozen=True)
class Scenario:
    """One load. `short` is how --only calls it."""

    short: str
    title: str
    clients: int
    is_stream: bool = False
    is_paced: bool = False
    prompt_bytes: int = 0

    def ask(self, key: str | None) -> bytes:
        return request(key=key, is_stream=self.is_stream, is_paced=self.is_paced, prompt_bytes=self.prompt_bytes)

    @property
    def check(self) -> Check:
        return wrong_with_stream if self.is_stream else wrong_with_answer


SCENARIOS = (
    Scenario("c16", "16 clients", 16),
    Scenario("c1", "1 client", 1),
    Scenario("c64", "64 clients", 64),
    Scenario("stream", "streams of 20 chunks, 16 clients", 16, is_stream=True),
    Scenario("paced", "paced streams, 2 clients", 2, is_stream=True, is_paced=True),
    Scenario("prompt", "220 KB prompt, streams, 4 clients", 4, is_stream=True, prompt_bytes=PROMPT_BYTES),
)


@dataclass(frozen=True)
class Row:
    """One window of one target. Times in seconds; `first_*`: until the first chunk with content. `busy` is the share of
    its core that the gateway had, `others` the share that others had of it, `beside` CPU of what it needs beside it."""

    round: int
    scenario: str
    target: str
    done: int
    per_s: float
    cpu_us: float
    p50_s: float
    p99_s: float
    first_p50_s: float
    first_p99_s: float
    busy: float
    others: float
    beside_us: dict[str, float]
    wrong: dict[str, int]


def measure(target: Target, scenario: Scenario, number: int, seconds: float) -> Row:
    at: list[Used] = []
    beside: list[dict[str, float]] = []

    def read() -> None:
        beside.append({name: cpu_s(process.pid) for name, process in target.beside.items()})
        at.append(Used(0.0, used(os.getpid()).core) if target.process is None else used(target.process.pid))

    sample = uvloop.run(
        load(
            target.port,
            scenario.ask(target.key),
            scenario.check,
            clients=scenario.clients,
            seconds=seconds,
            wants_first=scenario.is_stream,
            on_begin=read,
            on_end=read,
        )
    )
    took = at[1] - at[0]
    done = sample.done
    return Row(
        round=number,
        scenario=scenario.short,
        target=target.name,
        done=done,
        per_s=done / sample.window_s,
        cpu_us=took.mine / done * 1e6 if done else float("nan"),
        p50_s=percentile(sample.took_s, 0.50),
        p99_s=percentile(sample.took_s, 0.99),
        first_p50_s=percentile(sample.first_s, 0.50),
        first_p99_s=percentile(sample.first_s, 0.99),
        busy=took.mine / sample.window_s,
        others=max(0.0, took.core - took.mine) / sample.window_s,
        beside_us={name: (beside[1][name] - beside[0][name]) / done * 1e6 for name in beside[0]} if done else {},
        wrong=dict(sample.wrong),
    )


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="direct,nginx,stoker")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD})
    with tempfile.TemporaryDirectory(prefix="compare-") as d:
        work = Path(d)
        up, port = made.mock(work)
        names = options.targets.split(",")
        ts = []
        try:
            for n in names:
                if n == "direct":
                    ts.append(Target("direct", port))
                elif n == "nginx":
                    ts.append(made.nginx(work, port))
                elif n == "stoker":
                    ts.append(made.stoker(work, port))
            for t in ts:
                t.start()
                if t.process:
                    made.wait_until_listening(t.process, t.port)
            for number in range(options.rounds):
                for s in SCENARIOS:
                    if options.only and s.short not in options.only.split(","):
                        continue
                    for t in ts:
                        print(measure(t, s, number, options.seconds), flush=True)
        finally:
            for t in ts:
                t.end_all()
            up.end()


if __name__ == "__main__":
    main()

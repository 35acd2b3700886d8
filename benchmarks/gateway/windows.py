"""One window of one load on one target, and what it came to."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop
from cores import Used, cpu_s, used
from load import Check, body_of, encoded, load, wrong_with_answer, wrong_with_stream
from targets import Target

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
        body = body_of(is_stream=self.is_stream, is_paced=self.is_paced, prompt_bytes=self.prompt_bytes)
        return encoded(body, key)

    @property
    def check(self) -> Check:
        return wrong_with_stream if self.is_stream else wrong_with_answer


SCENARIOS = {
    each.short: each
    for each in (
        Scenario("c16", "16 clients", 16),
        Scenario("c1", "1 client", 1),
        Scenario("c64", "64 clients", 64),
        Scenario("stream", "streams of 20 chunks, 16 clients", 16, is_stream=True),
        Scenario("paced", "paced streams, 2 clients", 2, is_stream=True, is_paced=True),
        Scenario("paced16", "paced streams, 16 clients", 16, is_stream=True, is_paced=True),
        Scenario("prompt", "220 KB prompt, streams, 4 clients", 4, is_stream=True, prompt_bytes=PROMPT_BYTES),
    )
}


@dataclass(frozen=True)
class Row:
    """One window of one target. Times in seconds; `first_*`: until the first chunk with content. `busy` is the share of
    its core that the gateway had, `others` the share that others had of it, `beside_us` the CPU per request of what it
    needs beside it."""

    round: int
    scenario: str
    target: str
    done: int
    per_s: float
    cpu_us: float | None
    p50_s: float | None
    p99_s: float | None
    first_p50_s: float | None
    first_p99_s: float | None
    busy: float
    others: float
    beside_us: dict[str, float]
    wrong: dict[str, int]


def measure(target: Target, scenario: Scenario, number: int, seconds: float, *, warm_up_s: float = 0.5) -> Row:
    at: list[Used] = []
    beside: list[dict[str, float]] = []

    def read() -> None:
        beside.append({name: cpu_s(process.pid) for name, process in target.beside.items()})
        # What has no process of its own takes nothing of the gateway's core.
        at.append(Used(0.0, used(os.getpid()).core) if target.process is None else used(target.process.pid))

    sample = uvloop.run(
        load(
            target.port,
            scenario.ask(target.key),
            scenario.check,
            clients=scenario.clients,
            seconds=seconds,
            warm_up_s=warm_up_s,
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
        cpu_us=took.mine / done * 1e6 if done and target.process is not None else None,
        p50_s=percentile(sample.took_s, 0.50),
        p99_s=percentile(sample.took_s, 0.99),
        first_p50_s=percentile(sample.first_s, 0.50),
        first_p99_s=percentile(sample.first_s, 0.99),
        busy=took.mine / sample.window_s,
        others=max(0.0, took.core - took.mine) / sample.window_s,
        beside_us={name: (beside[1][name] - beside[0][name]) / done * 1e6 for name in beside[0]} if done else {},
        wrong=dict(sample.wrong),
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

"""Where the microseconds of a request go in Stoker's gateway."""

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import targets as made
import uvloop
from cores import Used, used
from load import load
from targets import Target
from windows import Scenario

SHOWN = 45


def profile(work: Path, scenario: Scenario, seconds: float) -> str:
    """The tables of both profilers for one load."""
    said = [f"## {scenario.title}"]
    for kind in ("sample", "calls"):
        with tempfile.TemporaryDirectory(dir=work) as directory:
            answer, requests, cpu_us = _profiled(Path(directory), kind, scenario, seconds)
        table = samples_tables(answer, cpu_us) if kind == "sample" else calls_table(answer, requests)
        said.append(f"\n### {kind}: {requests} requests, {cpu_us:.0f} us of CPU each\n\n{table}")
    return "\n".join(said)


def _profiled(work: Path, kind: str, scenario: Scenario, seconds: float) -> tuple[Any, int, float]:
    to = work / "profile.json"
    upstream, port = made.mock(work)
    target: Target | None = None
    try:
        target = made.stoker(work, port, runner=runner(kind, to))
        target.start()
        assert target.process is not None
        made.wait_until_listening(target.process, target.port)
        pid = target.process.pid
        at: list[Used] = []

        def begin() -> None:
            os.kill(pid, signal.SIGUSR1)
            at.append(used(pid))

        def end() -> None:
            at.append(used(pid))
            os.kill(pid, signal.SIGUSR2)

        sample = uvloop.run(
            load(
                target.port,
                scenario.ask(target.key),
                scenario.check,
                clients=scenario.clients,
                seconds=seconds,
                warm_up_s=2.0,
                on_begin=begin,
                on_end=end,
            )
        )
        if sample.wrong or not sample.done:
            raise SystemExit(f"{sample.done} answers, wrong: {dict(sample.wrong)}")
        return written(to, target), sample.done, (at[1] - at[0]).mine / sample.done * 1e6
    finally:
        if target is not None:
            target.end_all()
        upstream.end()


def runner(kind: str, to: Path) -> tuple[str, ...]:
    """What runs a gateway under that profiler; the gateway's arguments follow."""
    return (sys.executable, "-P", str(Path(__file__).parent / "profiled.py"), kind, str(to))


def written(to: Path, target: Target) -> Any:
    """What the profiler wrote, as soon as it has."""
    until = time.monotonic() + 60.0
    while not to.exists():
        assert target.process is not None
        target.process.check()
        if time.monotonic() > until:
            raise SystemExit("the profile was not written")
        time.sleep(0.05)
    return json.loads(to.read_text())


def samples_tables(stacks: list[tuple[list[str], int]], cpu_us: float) -> str:
    """By package, by the innermost function of Stoker's, by function; microseconds of a request."""
    own: Counter[str] = Counter()
    under: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for stack, count in stacks:
        own[stack[0]] += count
        for name in set(stack):
            under[name] += count
        packages[_package(stack[0])] += count
        ours[next((name for name in stack if name.startswith("stoker/")), "(none of Stoker's)")] += count
    total = sum(own.values())
    us = cpu_us / max(1, total)
    return "\n\n".join(
        (
            f"{total} samples. Own time by package:\n\n" + _table({"us": packages}, us),
            "By the innermost function of Stoker's, with all that it calls outside of Stoker:\n\n"
            + _table({"us": ours}, us),
            "By function, own:\n\n" + _table({"own us": own, "with what it calls us": under}, us),
            "By function, with what it calls:\n\n" + _table({"with what it calls us": under, "own us": own}, us),
        )
    )


def _package(name: str) -> str:
    parts = name.partition(":")[0].split("/")
    return "/".join(parts[:2]) if parts[0] in ("stoker", "python") else parts[0]


def _table(columns: Mapping[str, Counter[str]], us: float) -> str:
    first = next(iter(columns.values()))
    lines = [f"| {' | '.join(columns)} | where |", "|---:" * len(columns) + "|---|"]
    for name, _ in first.most_common(SHOWN):
        cells = [f"{of[name] * us:.1f}" for of in columns.values()]
        lines.append(f"| {' | '.join(cells)} | {name} |")
    return "\n".join(lines)


def calls_table(rows: list[dict[str, Any]], requests: int) -> str:
    lines = ["| calls a request | own us | with what it calls us | where |", "|---:|---:|---:|---|"]
    for row in sorted(rows, key=lambda each: -each["self_s"])[:SHOWN]:
        each = [row["calls"] / requests, row["self_s"] / requests * 1e6, row["under_s"] / requests * 1e6]
        lines.append(f"| {each[0]:.2f} | {each[1]:.1f} | {each[2]:.1f} | {row['name']} |")
    return "\n".join(lines)

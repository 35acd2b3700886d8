"""Whether a change of the control plane's code left what comes out of it as it was, to the byte.

    .venv/bin/python benchmarks/simulate/same.py > before.txt
    .venv/bin/python benchmarks/simulate/same.py --against before.txt

Runs manifests that `stoker render` writes, in each mode, of a spec with two models and of examples/everything.yaml, and
those of examples/by-hand, under loads that rise and fall: with spot interruptions, refused capacity, drift, cold starts
and spot-to-spot, some seeds. A line has a SHA-256 over the report as JSON (without `wall_s`) and the journal, and the
seconds of processor time that the run took, which are not compared. Some fifty seconds.
"""

import argparse
import contextlib
import hashlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.remove(str(Path(__file__).parent))  # requests.py beside this would stand in for the library of that name

from stoker.cli.app import run
from stoker.manifests.reading import read
from stoker.simulate import report
from stoker.simulate.options import Options
from stoker.simulate.reading import read_scenario
from stoker.simulate.run import simulate
from stoker.simulate.traces import load

EXAMPLES = Path(__file__).parents[2] / "examples"
MODES = ("karpenter", "auto", "hybrid")
SPEC = """
llm:
  models:
    general: {replicas: {min: 1, max: 40}, serving: {limits: {contextTokens: 16384}}}
    code: {replicas: {min: 0, max: 10}, serving: {limits: {contextTokens: 16384}}}
"""
DAY = "diurnal:peak=8,trough=0.2,period=7200,peak_at=0.7,seconds=10800,prompt=900,completion=250"
TWO = f"{DAY},models=general:3;code:1,tenants=3"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="what an earlier run printed")
    options = parser.parse_args()
    known = {} if options.against is None else dict(lines(options.against))
    differ = []
    with tempfile.TemporaryDirectory() as folder:
        for name, digest, seconds in digests(Path(folder)):
            print(f"{name:44} {digest} {seconds:7.2f}", flush=True)
            if known and known.get(name) != digest:
                differ.append(name)
    if known:
        print(f"differ: {', '.join(differ)}" if differ else "all the same")
        sys.exit(bool(differ))


def lines(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        name, digest, _ = line[:44].strip(), *line[44:].split()
        yield name, digest


def digests(folder: Path) -> Iterator[tuple[str, str, float]]:
    (folder / "spec.yaml").write_text(SPEC)
    specs = {"two models": folder / "spec.yaml", "everything": EXAMPLES / "everything.yaml"}
    for spec, path in specs.items():
        for mode in MODES:
            out = folder / f"{spec}-{mode}"
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                if run(["render", "-f", str(path), "--mode", mode, "-o", str(out)]) != 0:
                    raise SystemExit(f"{path} is not rendered in mode {mode}")
    stories: list[tuple[str, Path, str, dict[str, Any]]] = []
    for mode in MODES:
        out = folder / f"two models-{mode}"
        stories += [
            (mode, out, TWO, {}),
            (f"{mode}, interruptions", out, TWO, {"seed": 1, "interruptions_per_hour": 0.5}),
            (f"{mode}, refusals", out, TWO, {"seed": 2, "no_capacity": 0.4}),
            (f"{mode}, drift and spot to spot", out, TWO, {"seed": 3, "drift_at": 3600.0, "spot_to_spot": True}),
            (f"{mode}, cold", out, "azure-conversation", {"cold": True}),
            (f"{mode}, everything", folder / f"everything-{mode}", DAY, {"seed": 4}),
        ]
    stories += [
        ("by hand", EXAMPLES / "by-hand", "azure-conversation", {}),
        ("by hand, interruptions", EXAMPLES / "by-hand", DAY, {"seed": 5, "interruptions_per_hour": 1.0}),
        ("by hand, refusals", EXAMPLES / "by-hand", DAY, {"seed": 6, "no_capacity": 0.5}),
        ("by hand, drift", EXAMPLES / "by-hand", DAY, {"seed": 7, "drift_at": 1800.0}),
    ]
    for name, manifests, trace, asked in stories:
        scenario = read_scenario(read([str(manifests)]).manifests)
        requests = load(trace)
        began = time.process_time()
        result = simulate(scenario, requests, Options(**asked))
        seconds = time.process_time() - began
        figures = report.as_json(result)
        del figures["wall_s"]
        journal = [(each.at, each.kind, each.subject, each.text, each.data) for each in result.journal]
        text = json.dumps([figures, journal], sort_keys=True, default=str)
        yield name, hashlib.sha256(text.encode()).hexdigest()[:16], seconds


if __name__ == "__main__":
    main()

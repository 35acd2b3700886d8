"""The three ways to run on EKS beside each other: what nodes and the platform cost, and how long people wait, by
simulation of what is rendered for each, under the same requests.

    .venv/bin/python benchmarks/deploy/modes.py [-f platform.yaml] [--trace azure-conversation] [--hours 2] [--seeds 5]

Nothing is measured on a cluster: figures are the simulator's (docs/simulate/assumptions.md) and the catalogue's prices.
What does not depend on requests (control plane, NAT, system nodes: "fixed") is the estimate's (docs/deploy/cost.md);
"at least" is all of it when nobody asks for anything. For each
figure: the median of the seeds, with the least and the most.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

from stoker.manifests.reading import read_text
from stoker.manifests.writing import to_yaml
from stoker.render.estimate import estimate
from stoker.render.plan import Plan
from stoker.render.run import render_objects
from stoker.simulate.options import Options
from stoker.simulate.reading import read_scenario
from stoker.simulate.report import as_json
from stoker.simulate.run import simulate
from stoker.simulate.traces import load
from stoker.spec import load as load_spec

MODES = ("auto", "karpenter", "hybrid")
NODES = ("nodes of everything", "nodes of the model", "nodes of training", "fee of", "disks of nodes", "throughput of")
"""What the simulator counts: nodes, with their disks and fees."""
COLUMNS = (
    "$ per hour, nodes",
    "of it Auto Mode's fee",
    "nodes at most",
    "first token p50 s",
    "first token p95 s",
    "served %",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-f", "--file", type=Path)
    parser.add_argument("--trace", default="azure-conversation")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(describe())
    spec = load_spec(options.file)
    trace = load(options.trace, limit_s=options.hours * 3600)
    asked = Options(hours=options.hours)
    print(f"{options.trace}, {options.hours:g} h, {len(trace)} requests, {options.seeds} seeds\n")
    print("| | " + " | ".join(COLUMNS) + " | fixed $ per month | at least $ per month |")
    print("|---|" + "---|" * (len(COLUMNS) + 2))
    for mode in MODES:
        plan = Plan(spec, mode, "terraform")  # type: ignore[arg-type]
        text = "---\n".join(to_yaml(obj) for obj in render_objects(plan))
        scenario = read_scenario(read_text(text).manifests, region=plan.region)
        runs = [figures(as_json(simulate(scenario, trace, replace(asked, seed=seed)))) for seed in range(options.seeds)]
        shown = [spread([run[number] for run in runs]) for number in range(len(COLUMNS))]
        print(
            f"| {mode} | " + " | ".join(shown) + f" | {fixed(plan):,.0f} | {estimate(plan).usd_low:,.0f} |", flush=True
        )


def figures(report: dict[str, Any]) -> list[float]:
    cost, hours = report["cost_usd"], report["ended_at_s"] / 3600
    return [
        cost["per_hour"],
        cost["by_part"].get("auto mode", 0.0) / hours,
        report["nodes"]["peak"],
        report["ttft_s"]["p50"],
        report["ttft_s"]["p95"],
        100 * report["requests"]["served"] / report["requests"]["arrived"],
    ]


def spread(values: Sequence[float]) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.2f}" if least == most else f"{middle:,.2f} ({least:,.2f} to {most:,.2f})"


def fixed(plan: Plan) -> float:
    """What the estimate has beside nodes of Karpenter or Auto Mode."""
    return sum(float(line.usd_low) for line in estimate(plan).lines if not line.what.startswith(NODES))


if __name__ == "__main__":
    main()

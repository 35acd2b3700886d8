"""What a platform will cost a month: by the file (`render.estimate`), and its nodes under a trace, by simulation."""

from collections.abc import Mapping, Sequence
from typing import Any

from stoker.manifests.reading import read_text
from stoker.manifests.writing import to_yaml
from stoker.render.estimate import HOURS_PER_MONTH, Estimate, estimate
from stoker.render.plan import Plan


def costs(plan: Plan, objects: Sequence[Mapping[str, Any]], trace: str | None) -> dict[str, Any]:
    """Dollars a month: `lines` with low and high, their totals, what is not counted; and with a trace `simulated`,
    the nodes' part as that trace would make it. Raises InvalidInput for a trace that cannot be read."""
    found = as_json(estimate(plan))
    if trace is not None:
        found["simulated"] = simulated(objects, trace, plan.region)
    return found


def simulated(objects: Sequence[Mapping[str, Any]], trace: str, region: str) -> dict[str, Any]:
    """The trace's own hours, taken for all hours of a month."""
    from stoker.simulate.options import Options
    from stoker.simulate.reading import read_scenario
    from stoker.simulate.report import as_json as report
    from stoker.simulate.run import simulate
    from stoker.simulate.traces import load

    reading = read_text("---\n".join(to_yaml(dict(obj)) for obj in objects), "what is deployed")
    said = report(simulate(read_scenario(reading.manifests, region=region), load(trace), Options()))
    per_hour = said["cost_usd"]["per_hour"] or 0.0
    return {
        "trace": said["trace"]["name"],
        "hours": round(said["ended_at_s"] / 3600, 3),
        "usd_per_hour": per_hour,
        "usd_per_month": round(per_hour * HOURS_PER_MONTH, 2),
        "nodes_at_most": said["nodes"]["peak"],
        "ttft_s_p95": said["ttft_s"]["p95"],
    }


def as_json(found: Estimate) -> dict[str, Any]:
    return {
        "lines": [
            {"what": line.what, "low": line.usd_low, "high": line.usd_high, "note": line.note} for line in found.lines
        ],
        "low": found.usd_low,
        "high": found.usd_high,
        "not_counted": list(found.not_counted),
    }

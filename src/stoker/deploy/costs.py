"""What a platform will cost a month: by the file (`render.estimate`), and its nodes under a trace, by simulation."""

from collections.abc import Mapping, Sequence
from typing import Any

from stoker.manifests.reading import read_text
from stoker.manifests.writing import to_yaml
from stoker.render.estimate import Estimate

HOURS_PER_MONTH = 730.0
"""As AWS' own calculators count a month."""


def simulated(objects: Sequence[Mapping[str, Any]], trace: str, region: str) -> dict[str, Any]:
    """What nodes would cost if each hour of the month were as the trace's hours are. Raises InvalidInput for a trace
    that cannot be read, and for a platform that serves no model on nodes of its own."""
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
    """USD a month; `low` and `high` are the sums of the lines, to the cent."""
    return {
        "lines": [
            {"what": line.what, "low": float(line.usd_low), "high": float(line.usd_high), "note": line.note}
            for line in found.lines
        ],
        "low": float(found.usd_low),
        "high": float(found.usd_high),
        "not_included": list(found.not_included),
        "notes": list(found.notes),
    }

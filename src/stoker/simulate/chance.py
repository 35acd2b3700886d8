"""How much chance matters: the same question with several seeds, each figure as lowest, median and highest."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from stoker.simulate.comparison import Unit

FEWEST, MOST = 2, 50
ONE_RUN = "one run of one seed; --seeds 8 shows how much chance matters"
FIGURES: Mapping[str, tuple[str, Unit | None]] = {
    "usd": ("dollars", "usd"),
    "served_percent": ("served, %", None),
    "ttft_p95_s": ("first token p95", "seconds"),
    "e2e_p95_s": ("whole answer p95", "seconds"),
    "nodes_peak": ("nodes at once, at most", "count"),
}
"""By key of the JSON: in words, and the unit."""

Figures = dict[str, float | None]


def of_run(report: Mapping[str, Any]) -> Figures:
    """Of a `report.as_json`."""
    requests = report["requests"]
    arrived = requests["arrived"]
    return {
        "usd": report["cost_usd"]["total"],
        "served_percent": 100 * requests["served"] / arrived if arrived else None,
        "ttft_p95_s": report["ttft_s"]["p95"],
        "e2e_p95_s": report["e2e_s"]["p95"],
        "nodes_peak": report["nodes"]["peak"],
    }


def as_json(seeds: Sequence[int], first: Sequence[Figures], second: Sequence[Figures] = ()) -> dict[str, Any]:
    """`second`: the other manifests' runs, of the same seeds in the same order. Then `differences` are second less
    first, pair by pair."""
    found: dict[str, Any] = {"count": len(seeds), "first_seed": seeds[0], **_ranges(first)}
    if second:
        pairs = list(zip(first, second, strict=True))
        differences = [{key: _less(b[key], a[key]) for key in FIGURES} for a, b in pairs]
        found |= {"compared": _ranges(second), "differences": _ranges(differences)}
    return found


def rows(ranges: Mapping[str, Any], said: Callable[[float | None, Unit | None], str]) -> list[list[str]]:
    """Name, lowest, median and highest of each figure."""
    return [
        [words, *(said(ranges[key][each], unit) for each in ("lowest", "median", "highest"))]
        for key, (words, unit) in FIGURES.items()
    ]


def _ranges(runs: Sequence[Figures]) -> dict[str, dict[str, float | None]]:
    return {key: _range([value for run in runs if (value := run[key]) is not None]) for key in FIGURES}


def _range(values: Sequence[float]) -> dict[str, float | None]:
    """Nothing of no values, as where no run served anything."""
    if not values:
        return dict.fromkeys(("lowest", "median", "highest"))
    return {"lowest": _short(min(values)), "median": _short(median(values)), "highest": _short(max(values))}


def _short(value: float) -> float:
    return round(value, 6)


def _less(value: float | None, by: float | None) -> float | None:
    return None if value is None or by is None else value - by

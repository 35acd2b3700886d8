"""Two runs side by side: of the same requests, on different manifests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stoker.simulate.result import SERVED, Result

Unit = Literal["count", "seconds", "usd"]
SHARE_OF_OTHERS = 0.01
"""So many of the served requests may be served by one run alone."""


@dataclass(frozen=True, slots=True)
class Row:
    """`change` is in per cent of the first; None where there is nothing to compare, or the first is 0."""

    name: str
    unit: Unit
    first: float | None
    second: float | None
    change: float | None


_ROWS: tuple[tuple[str, Unit, tuple[str, ...]], ...] = (
    ("requests arrived", "count", ("requests", "arrived")),
    ("served", "count", ("requests", "served")),
    ("rejected", "count", ("requests", "rejected")),
    ("lost", "count", ("requests", "lost")),
    ("late", "count", ("requests", "late")),
    ("retried", "count", ("requests", "retried")),
    *(
        (f"{words} {each}", "seconds", (key, each))
        for key, words in (("ttft_s", "time to first token"), ("tpot_s", "time per token"), ("e2e_s", "whole answer"))
        for each in ("p50", "p95", "p99")
    ),
    ("nodes at once, at most", "count", ("nodes", "peak")),
    ("nodes launched", "count", ("nodes", "launched")),
    ("node time", "seconds", ("nodes", "seconds")),
    ("dollars", "usd", ("cost_usd", "total")),
    ("per hour", "usd", ("cost_usd", "per_hour")),
    ("per 1,000 requests", "usd", ("cost_usd", "per_1000_requests")),
    ("per million tokens", "usd", ("cost_usd", "per_million_tokens", "all")),
)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    """Of two `report.as_json`. Rows of which neither has anything are left out; then dollars by capacity type."""
    rows = [_row(name, unit, _look(first, path), _look(second, path)) for name, unit, path in _ROWS]
    kinds = [each for report in (first, second) for each in report["cost_usd"]["by_capacity"]]
    rows += [
        _row(
            f"dollars of {each}",
            "usd",
            first["cost_usd"]["by_capacity"].get(each, 0.0),
            second["cost_usd"]["by_capacity"].get(each, 0.0),
        )
        for each in dict.fromkeys(kinds)
    ]
    return [row for row in rows if row.first is not None or row.second is not None]


def unlike(first: Result, second: Result, regions: tuple[str, str]) -> list[str]:
    """Why the two are not like with like."""
    found = []
    if regions[0] != regions[1]:
        found.append(f"not like with like: the first is in {regions[0]}, the second in {regions[1]}")
    served = [each.outcomes.state == SERVED for each in (first, second)]
    one_alone = [int((served[0] & ~served[1]).sum()), int((served[1] & ~served[0]).sum())]
    either = int((served[0] | served[1]).sum())
    if sum(one_alone) > SHARE_OF_OTHERS * either:
        found.append(
            f"not like with like: {one_alone[0]:,} requests were served by the first alone, {one_alone[1]:,} by the "
            f"second alone, of {either:,}; latencies and dollars are of different requests"
        )
    return found


def notes_of_second(first: Result, second: Result, name: str) -> list[str]:
    """Those that the first has not got, marked."""
    return [f"{name}: {each}" for each in dict.fromkeys(second.notes) if each not in first.notes]


def as_json(rows: list[Row], name: str, report: Mapping[str, Any], unlike: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "unlike": list(unlike),
        "rows": [
            {
                "name": row.name,
                "unit": row.unit,
                "first": row.first,
                "second": row.second,
                "change_percent": None if row.change is None else round(row.change, 2),
            }
            for row in rows
        ],
        "report": dict(report),
    }


def _row(name: str, unit: Unit, first: float | None, second: float | None) -> Row:
    change = None if not first or second is None else (second - first) / first * 100
    return Row(name, unit, first, second, 0.0 if first == second == 0 else change)


def _look(report: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = report
    for key in path:
        found = found[key]
    return found

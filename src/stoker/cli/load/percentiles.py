"""Percentiles of a sample, by linear interpolation between the closest ranks (method 7 of Hyndman and Fan, which is
numpy's default). Pure: no numpy, so that the command line starts quickly."""

from collections.abc import Sequence

SHOWN = (50, 90, 95, 99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in ascending order, at least one. `percent` from 0 to 100."""
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}; it must be from 0 to 100")
    rank = (len(ordered) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p90, p95, p99 and max; each None when there is no value."""
    ordered = sorted(values)
    found: dict[str, float | None] = {f"p{p}": percentile(ordered, p) if ordered else None for p in SHOWN}
    return {**found, "max": ordered[-1] if ordered else None}

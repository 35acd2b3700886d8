"""From a result to the plots of its page, in as many points as a screen can show.

timeline    of more than 600 steps, so many neighbours become one that there are at most 600: the highest of each
            count, the mean of dollars per hour, and of nodes those of the moment with the most of them
latencies   by when a request came, in at most 180 equal spans of at least a minute
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.simulate import moments
from stoker.simulate.page_plots import Plot, Series
from stoker.simulate.report import PERCENTILES, Floats, Seen, rank
from stoker.simulate.result import SERVED, Result

MOST_STEPS = 600
MOST_BINS = 180
LEAST_BIN_S = 60.0
MOST_MODELS = 12
MOST_KINDS = 9

Numbers = NDArray[Any]


class Steps:
    """The timeline from 0 on, with at most MOST_STEPS steps."""

    def __init__(self, result: Result) -> None:
        line = result.timeline
        # What held before 0 holds at 0.
        first = max(0, int(np.searchsorted(line.at, 0.0, side="right")) - 1)
        at = np.maximum(line.at[first:], 0.0)
        self.end = result.ended_at_s
        self._first = first
        self._lasts = np.diff(at, append=max(self.end, float(at[-1]) if len(at) else 0.0))
        n = len(at)
        self._starts = np.unique(np.linspace(0, n, min(n, MOST_STEPS), endpoint=False).astype(np.int64))
        self.joined = math.ceil(n / max(1, len(self._starts)))
        self.at: list[float] = at[self._starts].tolist() if n else []

    def highest(self, column: Numbers) -> list[float]:
        return [] if not self.at else np.maximum.reduceat(column[self._first :], self._starts).tolist()

    def mean(self, column: Numbers) -> list[float]:
        if not self.at:
            return []
        sums = np.add.reduceat(column[self._first :] * self._lasts, self._starts)
        lasts = np.add.reduceat(self._lasts, self._starts)
        plain = np.maximum.reduceat(column[self._first :], self._starts)
        return np.where(lasts > 0, sums / np.where(lasts > 0, lasts, 1), plain).tolist()  # type: ignore[no-any-return]

    def summed(self, per_hour: Numbers) -> list[float]:
        """What has come together by each step's begin."""
        if not self.at:
            return []
        hours = np.cumsum(per_hour[self._first :] * self._lasts) / 3600
        return np.concatenate([[0.0], hours])[self._starts].tolist()  # type: ignore[no-any-return]

    def at_the_most(self, columns: Sequence[Numbers]) -> list[list[float]]:
        """Of all columns the values of one moment of each step: that at which their sum is the highest."""
        if not self.at or not columns:
            return [[] for _ in columns]
        total = np.sum([each[self._first :] for each in columns], axis=0)
        edges = [*self._starts.tolist(), len(total)]
        best = [a + int(np.argmax(total[a:b])) for a, b in itertools.pairwise(edges)]
        return [each[self._first :][best].tolist() for each in columns]


def rule(steps: Steps) -> str:
    if steps.joined <= 1:
        return ""
    return (
        f"Plots over time join up to {steps.joined} steps of the run's timeline into one: of counts the highest is "
        "shown, of dollars per hour the mean, of nodes those at the moment with the most of them."
    )


def of_model(result: Result, steps: Steps, model: str) -> list[Plot]:
    line, end = result.timeline, result.ended_at_s
    return [
        Plot(
            f"{model}: replicas",
            f"Replicas of {model} that were wanted and that were ready.",
            steps.at,
            end,
            [
                Series("ready", steps.highest(line.ready[model]), 0, "area"),
                Series("wanted", steps.highest(line.wanted[model]), 1, is_dashed=True),
            ],
        ),
        Plot(
            f"{model}: requests",
            f"Requests for {model} that waited for a replica, and that replicas had.",
            steps.at,
            end,
            [
                Series("waiting", steps.highest(line.waiting[model]), 4, "area"),
                Series("running", steps.highest(line.running[model]), 2),
            ],
        ),
    ]


def models_to_draw(result: Result, arrived: Mapping[str, int]) -> list[str]:
    """In their order; those with the most requests, where they are too many."""
    most = sorted(result.models, key=lambda model: -arrived.get(model, 0))[:MOST_MODELS]
    return [model for model in result.models if model in most and model in result.timeline.ready]


def of_nodes(result: Result, steps: Steps) -> Plot:
    """Pools are put together. What is there most is at the bottom, where it stands still.
    Of too many kinds the most used ones stay, the others are one."""
    by_kind: dict[tuple[str, str], Numbers] = {}
    for (_, kind, capacity), column in result.timeline.nodes.items():
        key = (kind, capacity)
        by_kind[key] = by_kind[key] + column if key in by_kind else column
    order = sorted(by_kind, key=lambda key: (-float(by_kind[key].sum()), key))
    shown, rest = order[:MOST_KINDS], order[MOST_KINDS:]
    columns = [by_kind[key] for key in shown]
    if rest:
        columns.append(np.sum([by_kind[key] for key in rest], axis=0))
    colours = {kind: i for i, kind in enumerate(dict.fromkeys(kind for kind, _ in shown))}
    names = [(f"{kind} {capacity}", colours[kind], capacity == "spot") for kind, capacity in shown]
    names += [(f"{len(rest)} other kinds", 8, False)] if rest else []
    values = steps.at_the_most(columns)
    return Plot(
        "Nodes by type and capacity",
        "How many nodes of each type were there, spot ones paler; one on top of the other.",
        steps.at,
        result.ended_at_s,
        [Series(n, v, c % 9, "area", is_pale=p) for (n, c, p), v in zip(names, values, strict=True)],
        is_stack=True,
    )


def of_money(result: Result, steps: Steps) -> list[Plot]:
    per_hour = result.timeline.usd_per_hour
    return [
        Plot(
            "Dollars per hour",
            "What all nodes that were there cost per hour.",
            steps.at,
            result.ended_at_s,
            [Series("per hour", steps.mean(per_hour), 2, "area")],
            "usd",
        ),
        Plot(
            "Dollars so far",
            "Summed from the steps of the timeline; the bill has each node to the second.",
            steps.at,
            result.ended_at_s,
            [Series("so far", steps.summed(per_hour), 3, "line")],
            "usd",
        ),
    ]


def of_requests(seen: Seen) -> Plot:
    result = seen.result
    edges = _edges(result.ended_at_s)
    wide = float(edges[1] - edges[0])
    done = np.sort(result.outcomes.done_at[seen.served])
    refused = seen.at[seen.came & (result.outcomes.state > SERVED)]

    def per_second(times: Floats) -> list[float]:
        return (np.diff(np.searchsorted(times, edges)) / wide).tolist()  # type: ignore[no-any-return]

    return Plot(
        "Requests per second",
        f"Requests that came, that were answered, and that were rejected, in spans of {moments.span(wide)}.",
        edges[:-1].tolist(),
        result.ended_at_s,
        [
            Series("came", per_second(seen.at[seen.came]), 0, "area"),
            Series("answered", per_second(done), 2),
            Series("rejected, by when they came", per_second(refused), 4, is_dashed=True),
        ],
        "rate",
    )


def of_latency(seen: Seen, name: str, title: str) -> Plot:
    """Percentiles by when the request came."""
    edges = _edges(seen.result.ended_at_s)
    # Of served ones a column may still have gaps: an answer of one token has no time per token.
    there = ~np.isnan(seen.columns[name])
    values = seen.columns[name][there]
    cuts = np.searchsorted(seen.at[there], edges)
    found: list[list[float | None]] = [[] for _ in PERCENTILES]
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        sorted_values = np.sort(values[start:stop])
        for each, percent in zip(found, PERCENTILES, strict=True):
            each.append(float(sorted_values[rank(percent, stop - start)]) if stop > start else None)
    wide = moments.span(float(edges[1] - edges[0]))
    return Plot(
        title,
        f"Percentiles of requests that were served, by when they came, in spans of {wide}.",
        edges[:-1].tolist(),
        seen.result.ended_at_s,
        [Series(f"p{p}", v, c) for p, v, c in zip(PERCENTILES, found, (0, 1, 4), strict=True)],
        "seconds",
        may_be_log=True,
    )


def of_both_bills(first: Result, second: Result, names: tuple[str, str]) -> Plot:
    """On the steps of the first."""
    steps, other = Steps(first), Steps(second)
    end = max(first.ended_at_s, second.ended_at_s)
    values = np.interp(steps.at, other.at, other.summed(second.timeline.usd_per_hour)).tolist() if other.at else []
    return Plot(
        "Dollars so far, side by side",
        "Summed from the steps of both timelines.",
        steps.at,
        end,
        [
            Series(names[0], steps.summed(first.timeline.usd_per_hour), 0, "line"),
            *([Series(names[1], values, 1, "line")] if values else []),
        ],
        "usd",
    )


def _edges(end: float) -> Floats:
    count = min(MOST_BINS, max(1, int(end // LEAST_BIN_S)))
    return np.linspace(0.0, max(end, 1e-9), count + 1)

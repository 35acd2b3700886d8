"""A result as figures: what `--json` prints, and what the table and the page show.

Latencies are those that a client sees, of requests that were served: to the first token, from token to token, to the
end; `queue_s` is until a replica took it, the last that did. Percentiles are exact, of the values themselves: the
smallest value that at least so many of a hundred do not exceed. Without data they are None.

The same result gives the same bytes, but for `wall_s`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.meter import money
from stoker.meter.bill import Cell
from stoker.simulate import lives, troubles
from stoker.simulate.result import (
    IN_FLIGHT,
    LOST,
    NO_REPLICA,
    SERVED,
    TIMED_OUT,
    TOO_LONG,
    Result,
)

PERCENTILES = (50, 95, 99)
REJECTED_BY: Mapping[str, int] = {
    "too_long": TOO_LONG,
    "timed_out": TIMED_OUT,
    "no_replica": NO_REPLICA,
    "lost": LOST,
}
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Targets:
    """Promises to clients, in seconds; None: none is made. A served request that breaks one is late."""

    ttft_s: float | None = None
    e2e_s: float | None = None

    @property
    def are_set(self) -> bool:
        return self.ttft_s is not None or self.e2e_s is not None


class Seen:
    """What clients saw: one value per request of the trace, NaN where there is none."""

    def __init__(self, result: Result) -> None:
        outcomes, at = result.outcomes, result.trace.at_s
        self.result = result
        self.at = at
        self.model = outcomes.model
        self.came: Mask = (at <= result.ended_at_s) | (outcomes.state != IN_FLIGHT)
        """Those that came before the run ended; of the others nothing is said."""
        self.served: Mask = outcomes.state == SERVED
        self.columns: Mapping[str, Floats] = {
            "ttft_s": self._of_served(outcomes.first_at - at),
            "tpot_s": self._of_served(_per_token(result)),
            "e2e_s": self._of_served(outcomes.done_at - at),
            "queue_s": self._of_served(outcomes.started_at - at),
        }

    @cached_property
    def by_model(self) -> dict[str, Mask]:
        return {name: self.model == index for index, name in enumerate(self.result.models)}

    def late(self, targets: Targets) -> Mask:
        found: Mask = np.zeros(len(self.at), np.bool_)
        for name, most in (("ttft_s", targets.ttft_s), ("e2e_s", targets.e2e_s)):
            if most is not None:
                found |= np.nan_to_num(self.columns[name], nan=0.0) > most
        return found

    def _of_served(self, values: Floats) -> Floats:
        return np.where(self.served, values, np.nan)


def _per_token(result: Result) -> Floats:
    """From token to token, of answers with more than one."""
    outcomes = result.outcomes
    more = outcomes.completion_tokens - 1
    steps = np.where(more > 0, more, 1)
    return np.where(more > 0, (outcomes.done_at - outcomes.first_at) / steps, np.nan)


def figures(values: Floats) -> Figures:
    """Percentiles, mean and maximum of what is no NaN."""
    there = values[~np.isnan(values)]
    n = len(there)
    if not n:
        return {**{f"p{each}": None for each in PERCENTILES}, "mean": None, "max": None}
    ranks = [rank(each, n) for each in PERCENTILES]
    parted = np.partition(there, [*ranks, n - 1])
    found = {f"p{each}": _number(parted[at]) for each, at in zip(PERCENTILES, ranks, strict=True)}
    return {**found, "mean": _number(there.mean()), "max": _number(parted[n - 1])}


def rank(percent: int, n: int) -> int:
    """Where a percentile stands among `n` sorted values, counted from 0."""
    return max(0, (percent * n + 99) // 100 - 1)


def as_json(result: Result, targets: Targets | None = None) -> dict[str, Any]:
    """Ready for `json.dumps`. Models are in the order of the manifests, all else by name or by size."""
    seen = Seen(result)
    asked = targets or Targets()
    return {
        "requests": requests(seen, asked),
        **{name: {**figures(seen.columns[name]), "by_model": _by_model(seen, name)} for name in LATENCIES},
        "queue_s": {**figures(seen.columns["queue_s"]), "by_model": _by_model(seen, "queue_s")},
        "targets": {"ttft_s": asked.ttft_s, "e2e_s": asked.e2e_s},
        "nodes": nodes(result),
        "replicas": replicas(result),
        "cost_usd": costs(seen),
        "troubles": troubles.as_json(troubles.troubles(result)),
        "scale_ups": [_scale_up(each) for each in lives.scale_ups(result)],
        "trace": {
            "name": result.trace.name,
            "requests": len(result.trace),
            "duration_s": _number(result.trace.duration_s),
            "notes": list(result.trace.notes),
        },
        "kind": result.kind,
        "began_at": result.began_at,
        "ended_at_s": _number(result.ended_at_s),
        "seed": result.seed,
        "notes": list(result.notes),
        "assumptions": plain(result.assumptions),
        "wall_s": round(result.wall_s, 3),
    }


def requests(seen: Seen, targets: Targets) -> dict[str, Any]:
    """arrived = served + rejected + in_flight. `late` is None where nothing was promised."""
    outcomes, trace = seen.result.outcomes, seen.result.trace
    states = np.bincount(outcomes.state[seen.came], minlength=LOST + 1)
    by = {name: int(states[state]) for name, state in REJECTED_BY.items()}
    cut = seen.served & (outcomes.completion_tokens < trace.completion_tokens)
    return {
        "arrived": int(seen.came.sum()),
        "served": int(states[SERVED]),
        "rejected": sum(by.values()),
        "in_flight": int(states[IN_FLIGHT]),
        "rejected_by": by,
        "lost": by["lost"],
        "late": int(seen.late(targets).sum()) if targets.are_set else None,
        "cut": int(cut.sum()),
        "retried": int((outcomes.attempts > 1).sum()),
        "prompt_tokens": int(trace.prompt_tokens[seen.served].sum(dtype=np.int64)),
        "completion_tokens": int(outcomes.completion_tokens[seen.served].sum(dtype=np.int64)),
        "by_model": {
            name: {
                "arrived": int((seen.came & of).sum()),
                "served": int((seen.served & of).sum()),
                "rejected": int((seen.came & of & (outcomes.state > SERVED)).sum()),
                "in_flight": int((seen.came & of & (outcomes.state == IN_FLIGHT)).sum()),
            }
            for name, of in seen.by_model.items()
        },
    }


def nodes(result: Result) -> dict[str, Any]:
    """`seconds` are those that they were alive: what is billed, but for the minute that each is billed at least."""
    end = result.ended_at_s
    usd = money.dollars_by(result.costs.by_node_type)
    spans: dict[str, list[lives.Span]] = {name: [] for name in sorted(usd)}
    for each in result.nodes:
        if (span := lives.billed(each, end)) is not None:
            spans.setdefault(each.type, []).append(span)
    every = [span for of_type in spans.values() for span in of_type]
    return {
        "peak": lives.most_at_once(every),
        "seconds": _seconds(every),
        "launched": sum(each.launched_at is not None and 0 <= each.launched_at <= end for each in result.nodes),
        "by_type": {
            name: {"peak": lives.most_at_once(of), "seconds": _seconds(of), "usd": usd.get(name, 0.0)}
            for name, of in sorted(spans.items())
        },
    }


def replicas(result: Result) -> dict[str, Any]:
    """By model: ready ones at once, at most and on the mean; `cold_starts` are those made while the trace ran."""
    found = {}
    for model, made in lives.of_models(result).items():
        spans = [span for each in made if (span := lives.serving(each, result.ended_at_s)) is not None]
        seconds = _seconds(spans)
        found[model] = {
            "peak": lives.most_at_once(spans),
            "mean": _number(seconds / result.ended_at_s) if result.ended_at_s > 0 else 0.0,
            "seconds": seconds,
            "cold_starts": sum(0 <= each.created_at <= result.ended_at_s for each in made),
        }
    return found


def costs(seen: Seen) -> dict[str, Any]:
    """Dollars, in millionths, and `cells`, the smallest parts, in nano-dollars. `per_million_tokens` is of prompt and
    answer together: of a model by its own part of the bill, of `all` by the whole bill, with what was idle."""
    result, bill = seen.result, seen.result.costs
    tokens = (result.trace.prompt_tokens + result.outcomes.completion_tokens.astype(np.int64)) * seen.served
    served = int(seen.served.sum())
    hours = result.ended_at_s / 3600
    return {
        "total": money.dollars(bill.total),
        "by_node_type": money.dollars_by(bill.by_node_type),
        "by_capacity": money.dollars_by(bill.by_capacity),
        "by_model": money.dollars_by(bill.by_model),
        "by_tenant": money.dollars_by(bill.by_tenant),
        "by_pool": money.dollars_by(bill.by_pool),
        "by_part": money.dollars_by(bill.by_part),
        "cells": [cell_as_json(cell, nano) for cell, nano in sorted(bill.cells.items()) if nano],
        "per_hour": _ratio(bill.total, hours),
        "per_1000_requests": _ratio(bill.total * 1000, served),
        "per_million_tokens": {
            "all": _ratio(bill.total * 1_000_000, int(tokens.sum())),
            "by_model": {
                name: _ratio(bill.by_model.get(name, 0) * 1_000_000, int(tokens[of].sum()))
                for name, of in seen.by_model.items()
            },
        },
    }


def cell_as_json(cell: Cell, nano: int) -> dict[str, Any]:
    """As `stoker cost --bill` reads it; "" for what has no model or no tenant."""
    return {
        "part": cell.part,
        "item": cell.item,
        "nodepool": cell.pool,
        "capacity": cell.capacity,
        "type": cell.type,
        "zone": cell.zone,
        "model": cell.model,
        "tenant": "".join(cell.who),
        "nano_usd": nano,
    }


def phase_figures(ups: Sequence[lives.ScaleUp]) -> dict[str, Figures]:
    """By phase and `total`, over the scale-ups that came to its end."""
    found = {
        name: figures(np.array([each.phases[name] for each in ups if each.phases[name] is not None], np.float64))
        for name in lives.PHASES
    }
    return {**found, "total": figures(np.array([e.total_s for e in ups if e.total_s is not None], np.float64))}


def plain(value: Any) -> Any:
    """Anything of `data` and `assumptions` as JSON has it, mappings by key."""
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=str)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return _number(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _by_model(seen: Seen, name: str) -> dict[str, Figures]:
    return {model: figures(seen.columns[name][of]) for model, of in seen.by_model.items()}


def _scale_up(each: lives.ScaleUp) -> dict[str, Any]:
    return {
        "replica": each.life.name,
        "workload": each.life.workload,
        "model": each.life.model,
        "node": each.life.node,
        "node_type": None if each.node is None else each.node.type,
        "capacity": None if each.node is None else each.node.capacity,
        "asked_at_s": _number(each.life.created_at),
        "total_s": _number(each.total_s),
        **{f"{name}_s": _number(each.phases[name]) for name in lives.PHASES},
    }


def _seconds(spans: Sequence[lives.Span]) -> float:
    return round(sum(end - start for start, end in spans), 6)


def _ratio(nano: int, by: float) -> float | None:
    return None if not by else round(nano / by / 1e9, 6)


def _number(value: Any) -> Any:
    """A float that JSON can hold: millionths, and None for what is no number."""
    if value is None:
        return None
    number = float(value)
    return round(number, 6) if np.isfinite(number) else None

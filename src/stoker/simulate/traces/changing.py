"""A trace made longer, thinner, denser, faster; several made one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.simulate.trace import ANY, Trace
from stoker.simulate.traces.making import MOST_MODELS, Options, picked
from stoker.simulate.traces.tables import MOST_ROWS, fault

JITTER_S = 30.0
"""Copies of a request come so much earlier or later at most: far enough that copies do not come in lockstep, near
enough that the shape of the hour stays."""


def cut(trace: Trace, until_s: float | None) -> Trace:
    """What comes before `until_s`."""
    if until_s is None or not len(trace) or trace.at_s[-1] < until_s:
        return trace
    kept = int(np.searchsorted(trace.at_s, until_s, side="left"))
    if not kept:
        raise fault(f"{trace.name} has no request in its first {until_s:g} s; the first is at {trace.at_s[0]:g} s")
    note = f"its first {until_s:g} s: {kept} requests"
    return replace(picked(trace, np.arange(kept)), notes=(*trace.notes, note))


def scaled(trace: Trace, scale: float, options: Options) -> Trace:
    """`scale` times as many requests. Below 1 each is kept with that chance. Above 1 each is there once as it is and
    again in copies, whose times are moved by up to JITTER_S, evenly, each alone, and folded back at the trace's ends;
    the part after the point is kept with that chance."""
    if scale == 1.0 or not len(trace):
        return trace
    check_count(trace.name, len(trace) * scale, scale)
    # One draw for each request, whatever the scale: what a smaller scale keeps, a larger one keeps, too.
    chance = options.random("scale").random_sample(len(trace))
    whole, part = int(scale), scale - int(scale)
    if not whole:
        kept = picked(trace, chance < part)
        if not len(kept):
            raise InvalidInput(
                f"scale {scale:g} leaves none of the {len(trace)} requests of {trace.name}", param="scale"
            )
        note = f"a sample: {len(kept)} of {len(trace)} requests (scale {scale:g})"
        return replace(kept, notes=(*trace.notes, note))
    jitter = options.random("jitter")
    copies = [trace]
    for number in range(1, whole + 1):
        copy = trace if number < whole else picked(trace, chance < part)
        moved = copy.at_s + jitter.uniform(-JITTER_S, JITTER_S, len(copy))
        copies.append(replace(copy, at_s=_folded(moved, trace.duration_s)))
    note = f"{scale:g} requests for each of {len(trace)}; copies are moved by up to {JITTER_S:g} s"
    return replace(_together(copies), notes=(*trace.notes, note))


def _folded(times: NDArray[np.float64], duration_s: float) -> NDArray[np.float64]:
    folded = np.abs(times)
    folded = np.where(folded > duration_s, 2 * duration_s - folded, folded)
    return np.clip(folded, 0.0, duration_s)  # a trace shorter than the jitter


def sped(trace: Trace, speed: float) -> Trace:
    """Times divided by `speed`."""
    if speed == 1.0:
        return trace
    return replace(trace, at_s=trace.at_s / speed, notes=(*trace.notes, f"times divided by {speed:g} (speed)"))


def check_count(name: str, expected: float, scale: float) -> None:
    if expected > MOST_ROWS:
        raise InvalidInput(
            f"{name} would have about {expected:,.0f} requests; {MOST_ROWS:,} is the most",
            param="scale",
            hint=f"a scale of {0.9 * MOST_ROWS * scale / expected:.2g} or a shorter time brings it below that",
        )


def merge(traces: Sequence[Trace]) -> Trace:
    """All at once: every trace begins at the same moment, whenever each was recorded. Requests of equal time stand in
    the order of the traces. Models and tenants of the same name are the same."""
    if not traces:
        raise fault("no trace was given")
    if len(traces) == 1:
        return traces[0]
    if sum(map(len, traces)) > MOST_ROWS:
        raise fault(f"together the traces have {sum(map(len, traces)):,} requests; {MOST_ROWS:,} is the most")
    models = tuple(dict.fromkeys(name for trace in traces for name in trace.models))
    tenants = tuple(dict.fromkeys(name for trace in traces for name in trace.tenants))
    if len(models) > MOST_MODELS:
        raise fault(f"together the traces name {len(models)} models; {MOST_MODELS} is the most")
    renamed = [
        replace(
            trace,
            model=_renumbered(trace.model, trace.models, models).astype(np.int16),
            tenant=_renumbered(trace.tenant, trace.tenants, tenants).astype(np.int32),
        )
        for trace in traces
    ]
    return replace(
        _together(renamed),
        name=" + ".join(trace.name for trace in traces),
        models=models,
        tenants=tenants,
        began_at=next((trace.began_at for trace in traces if trace.began_at is not None), None),
        notes=tuple(f"{trace.name}: {note}" for trace in traces for note in trace.notes),
    )


def _renumbered(
    numbers: NDArray[np.int16] | NDArray[np.int32], names: tuple[str, ...], all_names: tuple[str, ...]
) -> NDArray[np.int64]:
    places = {name: place for place, name in enumerate(all_names)}
    # One more at the end, where ANY (-1) finds itself.
    table = np.array([*(places[name] for name in names), ANY], dtype=np.int64)
    return table[numbers]


def _together(traces: Sequence[Trace]) -> Trace:
    order = np.argsort(np.concatenate([trace.at_s for trace in traces]), kind="stable")
    return replace(
        traces[0],
        at_s=np.concatenate([trace.at_s for trace in traces])[order],
        prompt_tokens=np.concatenate([trace.prompt_tokens for trace in traces])[order],
        completion_tokens=np.concatenate([trace.completion_tokens for trace in traces])[order],
        cached_tokens=np.concatenate([trace.cached_tokens for trace in traces])[order],
        model=np.concatenate([trace.model for trace in traces])[order],
        tenant=np.concatenate([trace.tenant for trace in traces])[order],
    )

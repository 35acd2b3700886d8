"""Why it did what it did: a moment, a pod, a node, in plain words, out of the journal and the lives in a result."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from stoker.base.errors import InvalidInput, NotFound
from stoker.meter import money
from stoker.simulate import bill, lives, moments, report
from stoker.simulate.result import Event, NodeLife, ReplicaLife, Result

AROUND_S = 60.0
_MOST_EVENTS = 60
_NEAR = 5


def explain(result: Result, what: str) -> str:
    """`pod NAME`, `node NAME`, or a moment (see `moments.parse`). Raises InvalidInput and NotFound."""
    word, _, name = what.strip().partition(" ")
    if word in ("pod", "node"):
        if not name.strip():
            raise InvalidInput(f"--explain {word}: which one?", param="--explain", hint=f"`--explain {word} NAME`")
        return pod(result, name.strip()) if word == "pod" else node(result, name.strip())
    return moment(result, moments.parse(what, result.began_at))


def moment(result: Result, at: float) -> str:
    """What was decided within a minute of it, with the figures it was decided by, and how things stood."""
    first, last = _bounds(result)
    if not first <= at <= last:
        raise InvalidInput(
            f"{moments.clock(at)} is outside of the run",
            param="--explain",
            hint=f"it lasted from {moments.clock(first)} to {moments.clock(last)}",
        )
    near = [each for each in result.journal if abs(each.at - at) <= AROUND_S]
    head = f"{moments.clock(at)}  ({moments.date(at, result.began_at)})"
    lines = [head, "", "How things stood", *_indented(_state(result, at)), "", _heading(near)]
    lines += _events(near) if near else _indented(_nearest_events(result.journal, at))
    return "\n".join(lines)


def pod(result: Result, name: str) -> str:
    """Its whole life by phase, with the reasons."""
    found = next((each for each in result.replicas if each.name == name), None)
    if found is None:
        raise _unknown("pod", name, [each.name for each in result.replicas])
    node_of = next((each for each in result.nodes if each.name == found.node), None)
    where = "never on a node" if found.node is None else f"on {found.node}"
    if node_of is not None:
        where += f" ({node_of.type} {node_of.capacity}, {node_of.zone})"
    serves = f", serves {found.model}" if found.model else ""
    lines = [f"pod {name} of {found.workload}{serves}, {where}", "", "Its life"]
    lines += _indented(_steps(_pod_steps(found, node_of), result.ended_at_s))
    if found.ready_at is not None and found.model:
        lines += ["", f"It took {found.requests:,} requests."]
    caused = _scaling_before(result, found)
    about = {name, *([] if found.node is None else [found.node])}
    said = [each for each in result.journal if each.subject in about and _overlaps(each, found, result)]
    lines += ["", "What was decided about it", *_events([*caused, *said])]
    return "\n".join(lines)


def node(result: Result, name: str) -> str:
    """Its whole life by phase, what ran on it, what it cost."""
    found = next((each for each in result.nodes if each.name == name), None)
    if found is None:
        raise _unknown("node", name, [each.name for each in result.nodes])
    gpus = f", {found.gpus} GPU{'s' * (found.gpus != 1)}" if found.gpus else ""
    lines = [
        f"node {name}: {found.type} {found.capacity} in {found.zone}, of {found.pool}{gpus}, "
        f"{money.spoken(found.usd_per_hour)} per hour",
        "",
        "Its life",
        *_indented(_steps(_node_steps(found), result.ended_at_s)),
    ]
    span = lives.billed(found, result.ended_at_s)
    if span is not None:
        alive = span[1] - span[0]
        cost = f"some {money.spoken(found.usd_per_hour * alive / 3600)} of instance time"
        if bill.is_free(found):
            cost = "not billed, since EC2 took it back in its first hour"
        lines += ["", f"In this run it was there for {moments.span(alive)}, {cost}."]
    pods = [each for each in result.replicas if each.node == name]
    lines += ["", "Pods on it"]
    lines += _indented(_pods_on(pods) or ["none"])
    lines += ["", "What was decided about it"]
    lines += _events([each for each in result.journal if each.subject == name])
    return "\n".join(lines)


# -- how things stood --


def _bounds(result: Result) -> tuple[float, float]:
    times = [0.0, *(each.at for each in result.journal[:1]), *result.timeline.at[:1].tolist()]
    return min(times), result.ended_at_s


def _state(result: Result, at: float) -> Iterator[str]:
    line = result.timeline
    if not len(line.at) or at < line.at[0]:
        yield from _warm_up(result, at)
        return
    i = int(np.searchsorted(line.at, at, side="right")) - 1
    width = max((len(model) for model in result.models), default=0)
    for model in result.models:
        yield (
            f"{model:<{width}}  {line.ready[model][i]} of {line.wanted[model][i]} wanted replicas ready, "
            f"{line.waiting[model][i]} requests waiting, {line.running[model][i]} running"
        )
    there = [f"{counts[i]} {kind} {capacity}" for (_, kind, capacity), counts in line.nodes.items() if counts[i]]
    yield f"{'nodes':<{width}}  {', '.join(there) or 'none'}"
    yield f"{'money':<{width}}  {money.spoken(float(line.usd_per_hour[i]))} per hour"
    yield f"{'':<{width}}  (as of {moments.clock(float(line.at[i]))})"


def _warm_up(result: Result, at: float) -> Iterator[str]:
    """Before the timeline begins there are no requests: how it stood is what the lives say."""
    width = max((len(model) for model in result.models), default=0)
    for model, made in lives.of_models(result).items():
        there = [each for each in made if _is_there(each.created_at, each.gone_at, at)]
        ready = sum(each.ready_at is not None and each.ready_at <= at for each in there)
        yield f"{model:<{width}}  {ready} of {len(there)} replicas ready"
    nodes = Counter(
        f"{each.type} {each.capacity}" for each in result.nodes if _is_there(each.launched_at, each.gone_at, at)
    )
    yield f"{'nodes':<{width}}  {', '.join(f'{many} {name}' for name, many in nodes.items()) or 'none'}"
    yield f"{'':<{width}}  (before the trace: no requests, and nothing is billed)"


def _is_there(came: float | None, went: float | None, at: float) -> bool:
    return came is not None and came <= at and (went is None or at < went)


# -- lives --

Step = tuple[float | None, str, str]
"""When, what happened then, and why."""


def _pod_steps(life: ReplicaLife, node_of: NodeLife | None) -> list[Step]:
    phases = lives.phases_of(life, node_of)[0]
    waited = ", ".join(
        f"{lives.PHASE_NAMES[name]} {moments.span(spent)}"
        for name in ("decide", "node", "boot")
        if (spent := phases[name]) is not None and spent > 0
    )
    return [
        (life.created_at, "made", ""),
        (life.bound_at, "bound to its node", waited),
        (life.pulled_at, "images there", ""),
        (life.loaded_at, "weights loaded", ""),
        (life.ready_at, "ready", ""),
        (life.leaving_at, "told to leave", life.why_gone),
        (life.gone_at, "gone", "" if life.leaving_at is not None else life.why_gone),
    ]


def _node_steps(life: NodeLife) -> list[Step]:
    return [
        (life.asked_at, "asked for", life.why),
        (life.launched_at, "there; billed from now on", ""),
        (life.registered_at, "registered", ""),
        (life.ready_at, "ready", ""),
        (life.leaving_at, "told to leave", life.why_gone),
        (life.gone_at, "gone; billed until now", "" if life.leaving_at is not None else life.why_gone),
    ]


def _steps(steps: Sequence[Step], end: float) -> Iterator[str]:
    """A line for each that happened; at the end, what it was still waiting for."""
    before: float | None = None
    for at, what, why in steps:
        if at is None:
            continue
        took = "" if before is None else "at once" if at == before else f"after {moments.span(at - before)}"
        yield f"{moments.clock(at):>9}  {what:<26} {took:<18} {why}".rstrip()
        before = at
    if before is not None and steps[-1][0] is None:
        missing = next((what for at, what, _ in steps[:5] if at is None), None)
        told = "" if missing is None or steps[-2][0] is not None else f" before: {missing.partition(';')[0]}"
        yield f"{moments.clock(end):>9}  the run ends{told}"


def _pods_on(pods: Sequence[ReplicaLife]) -> list[str]:
    return [
        f"{moments.clock(each.bound_at if each.bound_at is not None else each.created_at):>9}  {each.name}"
        + (f", ready {moments.clock(each.ready_at)}" if each.ready_at is not None else ", never ready")
        + (f", gone {moments.clock(each.gone_at)}" if each.gone_at is not None else "")
        for each in sorted(pods, key=lambda pod: (pod.bound_at or pod.created_at, pod.name))
    ]


# -- the journal --


def _scaling_before(result: Result, life: ReplicaLife) -> list[Event]:
    """The last word of the autoscaler before it was made."""
    about = {life.model, life.workload} - {""}
    said = [each for each in result.journal if each.kind == "scale" and each.subject in about]
    return [each for each in said if life.created_at - AROUND_S <= each.at <= life.created_at][-1:]


def _overlaps(event: Event, life: ReplicaLife, result: Result) -> bool:
    end = result.ended_at_s if life.gone_at is None else life.gone_at
    return event.subject == life.name or (
        life.created_at - AROUND_S <= event.at <= end and event.kind in ("node", "interruption", "disrupt")
    )


def _heading(near: Sequence[Event]) -> str:
    if not near:
        return "Nothing was decided within a minute of it"
    return f"What was decided, from {moments.clock(near[0].at)} to {moments.clock(near[-1].at)}"


def _nearest_events(journal: Sequence[Event], at: float) -> Iterator[str]:
    before = [each for each in journal if each.at < at]
    after = [each for each in journal if each.at > at]
    for word, event in (("before", before[-1:]), ("after", after[:1])):
        for each in event:
            ago = moments.span(abs(each.at - at))
            yield f"{moments.clock(each.at):>9}  {ago} {word}: {each.kind}  {each.subject}: {each.text}"


def _events(events: Sequence[Event]) -> list[str]:
    """At most the first so many; each with what it was decided by."""
    lines: list[str] = []
    for each in events[:_MOST_EVENTS]:
        lines.append(f"  {moments.clock(each.at):>9}  {each.kind:<13} {each.subject}: {each.text}")
        if each.data:
            lines.append(f"{'':>13}{'':<14} {said(each.data)}")
    if len(events) > _MOST_EVENTS:
        lines.append(f"  and {len(events) - _MOST_EVENTS:,} more")
    return lines or ["  nothing"]


def said(data: Any) -> str:
    """`waiting 30, target 10`"""
    plain = report.plain(data)
    return ", ".join(f"{key} {_value(value)}" for key, value in plain.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_value(each)}" for key, each in value.items()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:g}"
    return str(value)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {each}" for each in lines]


def _unknown(kind: str, name: str, known: Sequence[str]) -> NotFound:
    """Names are alike by their letters, and by how they begin."""
    alike = difflib.get_close_matches(name, known, n=_NEAR, cutoff=0.4)
    alike += [each for each in sorted(known) if each.startswith(name) and each not in alike]
    near = ", ".join((alike or sorted(known))[:_NEAR])
    hint = f"there are {near}" if near else f"this run had no {kind}s"
    if alike:
        hint = f"did you mean {near}?"
    return NotFound(f"there was no {kind} {name[:100]!r} in this run", hint=hint)

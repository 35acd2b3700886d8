"""What stood in the way of requests, from when to when, and what would help: out of the lives and the journal of a run.

Everything here has happened in the run; a hint is a way that is known to help against its kind, not a promise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stoker.simulate import lives, moments
from stoker.simulate.lives import Span
from stoker.simulate.result import IN_FLIGHT, SERVED, TIMED_OUT, Event, ReplicaLife, Result

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Kind = Literal["never placed", "no replica", "maximum", "limit", "unplaced", "no capacity", "cold start", "too few"]
ORDER: tuple[Kind, ...] = (
    "never placed",
    "no replica",
    "maximum",
    "limit",
    "no capacity",
    "unplaced",
    "cold start",
    "too few",
)
"""The gravest first."""
LEAST_S = 30.0
"""Shorter ones are no trouble."""
MOST_OF_A_KIND = 50

_HINTS_OF_PHASES: Mapping[str, str] = {
    "decide": "more room: the pods waited for a node that had some",
    "node": "nodes that are there already: a higher minimum, or a few pods of low priority that keep room for these",
    "boot": "nodes that are there already: a higher minimum, or a few pods of low priority that keep room for these",
    "image": "images that are there already: a volume made from a snapshot that has them, images that are read as they "
    "are needed (SOCI), or more throughput for the nodes' volumes",
    "weights": "weights that come faster: streamed from S3, on a volume made from a snapshot, or with more throughput",
    "start": "an engine that starts faster: a compilation cache on a volume, or fewer graphs to capture",
}
_AGAINST_ONE = "a minimum of 2 replicas with a PodDisruptionBudget, which has a node wait until another pod is ready"
_HINTS_OF_ENDS: tuple[tuple[str, str], ...] = (
    ("expired", f"{_AGAINST_ONE}; expireAfter of the NodePool says when nodes go, and without a budget a drain "
     "waits for nothing"),
    ("drifted", f"{_AGAINST_ONE}; a disruption budget of the NodePool for Drifted, with a schedule, says when"),
    ("underutilized", f"{_AGAINST_ONE}; karpenter.sh/do-not-disrupt on the pods, or a longer consolidateAfter, or a "
     "disruption budget of the NodePool for Underutilized"),
    ("empty", "consolidateAfter of the NodePool says how long a node without pods stays"),
    ("unneeded", f"{_AGAINST_ONE}; the Cluster Autoscaler's scale-down settings say when nodes go"),
    ("spot", "a minimum of 2 replicas, on different nodes, or on-demand nodes for the first one"),
    ("recorded market", "a minimum of 2 replicas, on different nodes, or on-demand nodes for the first one"),
    ("preempted", "a priority for these pods that is not below that of those that took their place"),
)  # fmt: skip
_FROM_ZERO = "a minimum of 1 replica (minReplicaCount), or a cron trigger for the hours in which requests come"


@dataclass(frozen=True, slots=True)
class Trouble:
    """`subject`: the model, the pod or the pool; which of them `about` says."""

    kind: Kind
    about: Literal["model", "pod", "pool"]
    subject: str
    from_s: float
    to_s: float
    text: str
    hint: str

    @property
    def lasted_s(self) -> float:
        return self.to_s - self.from_s


def troubles(result: Result) -> list[Trouble]:
    """The gravest kinds first, within a kind by time, and of each kind at most so many."""
    found = [
        *_without_replica(result),
        *_at_maximum(result),
        *_without_place(result),
        *_without_capacity(result),
        *_waits(result),
    ]
    found.sort(key=lambda each: (ORDER.index(each.kind), each.from_s, each.subject))
    counts: dict[str, int] = {}
    kept = []
    for each in found:
        counts[each.kind] = counts.get(each.kind, 0) + 1
        if counts[each.kind] <= MOST_OF_A_KIND:
            kept.append(each)
    return kept


def as_json(found: Sequence[Trouble]) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.kind,
            each.about: each.subject,
            "from_s": round(each.from_s, 3),
            "to_s": round(each.to_s, 3),
            "text": each.text,
            "hint": each.hint,
        }
        for each in found
    ]


# -- no replica was ready --


def _without_replica(result: Result) -> Iterator[Trouble]:
    end = result.ended_at_s
    for model, made in lives.of_models(result).items():
        for start, stop in _gaps(made, end):
            if stop - start > LEAST_S:
                why, hint = _why_none(result, made, start)
                after = _successor(result, made, stop)
                text = f"{model} had no replica ready for {moments.span(stop - start)}: {why}{after}"
                yield Trouble("no replica", "model", model, start, stop, text, hint)


def _gaps(made: Sequence[ReplicaLife], end: float) -> list[Span]:
    """When one was wanted, and none ready."""
    wanted = merged([span for each in made if (span := _there(each, end)) is not None])
    ready = merged([span for each in made if (span := lives.serving(each, end)) is not None])
    return without(wanted, ready)


def _there(life: ReplicaLife, end: float) -> Span | None:
    """When it was wanted: from being made to being told to leave."""
    ends = [each for each in (life.leaving_at, life.gone_at) if each is not None]
    start, stop = max(life.created_at, 0.0), min([end, *ends])
    return (start, stop) if stop > start else None


def _why_none(result: Result, made: Sequence[ReplicaLife], start: float) -> tuple[str, str]:
    last = [each for each in made if (span := lives.serving(each, result.ended_at_s)) and span[1] == start]
    if not last:
        broken = [
            each for each in result.journal if each.kind == "broken" and each.subject in {m.workload for m in made}
        ]
        if broken and not any(each.ready_at is not None for each in made):
            hint = str(broken[0].data.get("hint", "nodes and weights that go together"))
            return f"{broken[0].subject} can never serve: {broken[0].text}", hint
        if start == 0.0:
            return "none had come up as the run began", "a warm start (without --cold), or a minimum of 1 replica"
        return "it was at none, and the first one had to come up", _FROM_ZERO
    why = last[-1].why_gone or _told_to_leave(result, last[-1].name)
    hint = next((hint for word, hint in _HINTS_OF_ENDS if word in why), _AGAINST_ONE)
    return f"its last one, {last[-1].name}, had to leave ({why})", hint


def _told_to_leave(result: Result, pod: str) -> str:
    told = (each.text for each in result.journal if each.kind == "pod" and each.subject == pod)
    return next((text.partition(": ")[2] for text in told if text.startswith("told to leave")), "it was told to")


def _successor(result: Result, made: Sequence[ReplicaLife], stop: float) -> str:
    nodes = {each.name: each for each in result.nodes}
    for each in made:
        if each.ready_at == stop:
            phases = lives.phases_of(each, nodes.get(each.node or ""))[0]
            name, spent = max(((key, value or 0.0) for key, value in phases.items()), key=lambda both: both[1])
            return f"; of the next one, {each.name}, {lives.PHASE_NAMES[name]} took {moments.span(spent)}"
    return ""


# -- the scaler's maximum --


def _at_maximum(result: Result) -> Iterator[Trouble]:
    models = {each.workload: each.model for each in result.replicas}
    for each in result.spells:
        start, stop = max(each.from_s, 0.0), min(each.to_s, result.ended_at_s)
        if stop - start > LEAST_S:
            model = models.get(each.subject, each.subject)
            text = (
                f"{model} was at its maximum of {each.limit} replicas for {moments.span(stop - start)}; "
                f"its metrics asked for up to {each.asked}"
            )
            hint = f"a higher maximum of {each.scaler} than {each.limit}, if the queue is not worth the wait"
            yield Trouble("maximum", "model", model, start, stop, text, hint)


# -- pods without a node --


def _without_place(result: Result) -> Iterator[Trouble]:
    """Those that were never placed, by pod; those that were in the end, by workload."""
    end = result.ended_at_s
    said: dict[str, list[Event]] = {}
    last: dict[str, str] = {}
    for event in result.journal:
        if event.kind == "provision" and event.text.startswith("no node for it"):
            said.setdefault(event.subject, []).append(event)
        if event.kind in ("provision", "unschedulable"):
            last[event.subject] = event.text
    late: dict[tuple[str, Kind], list[tuple[ReplicaLife, Span, str]]] = {}
    never: dict[tuple[str, str], list[tuple[ReplicaLife, Span]]] = {}
    for pod in result.replicas:
        stop = min(each for each in (pod.bound_at, pod.leaving_at, pod.gone_at, end) if each is not None)
        if pod.bound_at is None and pod.gone_at is None:
            why = said[pod.name][-1].text if pod.name in said else last.get(pod.name, "")
            start = max(pod.created_at, 0.0)
            if pod.name in said or stop - start > 10 * LEAST_S:  # else it was just about to have one
                never.setdefault((pod.workload, _first_of(why)), []).append((pod, (start, stop)))
        elif pod.name in said:
            start = max(said[pod.name][0].at, 0.0)
            if stop - start > LEAST_S:
                why = said[pod.name][0].text
                late.setdefault((pod.workload, _kind_of(why)), []).append((pod, (start, stop), why))
    for (_, why), waiting in never.items():
        pod, (start, _) = waiting[0]
        more = f" and {len(waiting) - 1} more of {pod.workload}" if len(waiting) > 1 else f" of {pod.workload}"
        told = said[pod.name][-1].text if pod.name in said else why
        yield Trouble("never placed", "pod", pod.name, start, end, f"{pod.name}{more} had no node at the end: "
                      f"{_of_pools(told)}", _hint_of(told))  # fmt: skip
    for (workload, kind), pods in late.items():
        if kind == "no capacity":
            continue  # said once, of the pool
        begins, ends = min(span[0] for _, span, _ in pods), max(span[1] for _, span, _ in pods)
        pod = pods[0][0]
        count = f"{len(pods)} pods" if len(pods) > 1 else "a pod"
        text = f"{count} of {workload} found no node for up to {moments.span(max(b - a for _, (a, b), _ in pods))}"
        yield Trouble(kind, "pod", pod.name, begins, ends, f"{text}: {_of_pools(pods[0][2])}", _hint_of(pods[0][2]))


def _of_pools(text: str) -> str:
    """The reasons, pool by pool, those first that say something about the pool's room."""
    lines = text.removeprefix("no node for it: ").split("\n")
    return "; ".join(sorted(lines, key=_how_near))


def _first_of(text: str) -> str:
    return _of_pools(text).partition("; ")[0]


def _how_near(line: str) -> int:
    marks = ("limit", "is to be had", "spread", "comes closest", "wanted")
    return next((i for i, mark in enumerate(marks) if mark in line), len(marks))


def _kind_of(text: str) -> Kind:
    first = _first_of(text)
    return "limit" if "limit" in first else "no capacity" if "is to be had" in first else "unplaced"


def _hint_of(text: str) -> str:
    first = _first_of(text)
    pool = first.partition(":")[0]
    if "limit" in first:
        return f"a higher limit (spec.limits) of NodePool {pool}, or a lower maximum of what it is for"
    if "is to be had" in first:
        return f"more instance types, zones or capacity types for NodePool {pool}"
    if "spread" in first:
        return "ScheduleAnyway instead of DoNotSchedule, or more zones for the pool"
    return f"`stoker lint` says of each NodePool what is against these pods; {pool or 'a pool'} comes closest"


# -- EC2 had none --


def _without_capacity(result: Result) -> Iterator[Trouble]:
    """By pool: from a refusal to the next node of the pool."""
    refusals: dict[str, list[Event]] = {}
    for event in result.journal:
        if event.kind == "no capacity" and event.at >= 0:
            refusals.setdefault(event.subject, []).append(event)
    for pool, events in refusals.items():
        asked = sorted(each.asked_at for each in result.nodes if each.pool == pool)
        groups: dict[float, list[Event]] = {}
        for event in events:
            groups.setdefault(next((at for at in asked if at > event.at), result.ended_at_s), []).append(event)
        for stop, of_one in groups.items():
            yield from _capacity(pool, of_one[0].at, len(of_one), of_one[0].text, stop)


def _capacity(pool: str, start: float, count: int, text: str, stop: float) -> Iterator[Trouble]:
    if stop - start > LEAST_S:
        times = f"{count} time{'s' * (count != 1)}"
        told = f"NodePool {pool} got no node for {moments.span(stop - start)}, asked {times}: {text}"
        hint = "more instance types, zones or capacity types, so that one refusal does not leave nothing"
        yield Trouble("no capacity", "pool", pool, start, stop, told, hint)


# -- requests that waited for replicas to come up --


def _waits(result: Result) -> Iterator[Trouble]:
    """While replicas came up, or while as many were there as anybody wanted."""
    outcomes, at, end = result.outcomes, result.trace.at_s, result.ended_at_s
    gave_up = outcomes.state == TIMED_OUT
    still = (outcomes.state == IN_FLIGHT) & np.isnan(outcomes.first_at)
    until = np.where(gave_up, at + LEAST_S, np.where(still, end, outcomes.first_at))
    long = (at <= end) & (gave_up | ((until - at > LEAST_S) & (still | (outcomes.state == SERVED))))
    ups = lives.scale_ups(result)
    made = lives.of_models(result)
    for i, model in enumerate(result.models):
        mine = long & (outcomes.model == i)
        of_it = [each for each in ups if each.life.model == model]
        coming = _touched(at, until, merged([_coming(each.life, end) for each in of_it]))
        workloads = {each.workload for each in made[model]}
        capped = _touched(at, until, [(each.from_s, each.to_s) for each in result.spells if each.subject in workloads])
        away = _touched(at, until, _gaps(made[model], end))
        if (cold := mine & coming).any():
            spent, hint = _phases_of(of_it)
            text = f"{_waited(model, cold, gave_up, until - at)} while replicas came up{spent}"
            last = float(until[cold].max())
            yield Trouble("cold start", "model", model, float(at[cold].min()), last, text, hint)
        if (few := mine & ~coming & ~capped & ~away).any():
            yield _too_few(result, model, workloads, (few, gave_up, until))


def _too_few(result: Result, model: str, workloads: set[str], waits: tuple[Bools, Bools, Floats]) -> Trouble:
    few, gave_up, until = waits
    at = result.trace.at_s
    line = result.timeline
    places = np.clip(np.searchsorted(line.at, at[few], side="right") - 1, 0, None)
    there = int(line.ready[model][places].max()) if len(line.at) else 0
    had = "1 replica had all that it takes" if there == 1 else f"{there} replicas had all that they take"
    is_scaled = any(each.kind == "scale" and each.subject in workloads for each in result.journal)
    text = f"{_waited(model, few, gave_up, until - at)} while {had}"
    hint = (
        "a lower target of its scaler, which asked for no more replicas" if is_scaled else "a scaler: nothing scales it"
    )
    hint += "; or more requests at once (--max-num-seqs, concurrency), where the GPU has room for them"
    return Trouble("too few", "model", model, float(at[few].min()), float(until[few].max()), text, hint)


def _waited(model: str, who: Bools, gave_up: Bools, waits: Floats) -> str:
    """A request that gave up waited as long as it may, which is not told."""
    many, lost = int(np.count_nonzero(who)), int(np.count_nonzero(who & gave_up))
    known = np.sort(waits[who & ~gave_up])
    if many == len(known) == 1:
        return f"1 request of {model} waited {moments.span(float(known[0]))} for its first token,"
    half = f" (half of them {moments.span(float(known[len(known) // 2]))} or more)" if len(known) else ""
    half += f", and {lost:,} of them gave up," if lost else ","
    return f"{many:,} requests of {model} waited more than {LEAST_S:.0f} s for their first token{half}"


def _phases_of(ups: Sequence[lives.ScaleUp]) -> tuple[str, str]:
    """What coming up took, and what would help against most of it."""
    took = [each for each in ups if each.total_s is not None]
    more = "; or a higher minimum, so that fewer have to come up"
    if not took:
        return "", _HINTS_OF_PHASES["node"] + more
    means = {name: float(np.mean([each.phases[name] or 0.0 for each in took])) for name in lives.PHASES}
    phase = max(means, key=lambda name: means[name])
    total = float(np.median([each.total_s for each in took if each.total_s is not None]))
    spent = (
        f"; a replica took {moments.span(total)} to come up, most of it {lives.PHASE_NAMES[phase]} "
        f"({moments.span(means[phase])})"
    )
    return spent, _HINTS_OF_PHASES[phase] + more


def _touched(starts: Floats, stops: Floats, spans: Sequence[Span]) -> Bools:
    """Which of the times from `starts` to `stops` have a moment in one of the spans, which are in order and apart."""
    if not spans:
        return np.zeros(len(starts), np.bool_)
    begins, ends = (np.array([span[k] for span in spans]) for k in (0, 1))
    first = np.minimum(np.searchsorted(ends, starts, side="right"), len(ends) - 1)
    found: Bools = (begins[first] < stops) & (ends[first] > starts)
    return found


def _coming(life: ReplicaLife, end: float) -> Span:
    ends = [each for each in (life.ready_at, life.leaving_at, life.gone_at, end) if each is not None]
    return life.created_at, min(ends)


# -- spans --


def merged(spans: Sequence[Span]) -> list[Span]:
    """By time; those that touch are one."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def without(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What is left of `spans`; both are merged."""
    found = []
    for start, stop in spans:
        at = start
        for begin, end in others:
            if end <= at or begin >= stop:
                continue
            if begin > at:
                found.append((at, begin))
            at = max(at, end)
        if at < stop:
            found.append((at, stop))
    return found

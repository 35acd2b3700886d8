"""One look at one model: KEDA's poll and, where that changes nothing and something runs, the HPA's sync.

In a cluster the two have clocks of their own, and the simulator calls `keda.decide` and `hpa.decide` by these. The
autoscaler of `stoker up` has one clock and calls `decide` here. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stoker.policy import hpa, keda
from stoker.policy.downscale import Candidate, in_order


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen. `most` is how many the machine has room for; None: any number. `by_hand`: how many a person wants,
    whatever the load; None: nobody said."""

    replicas: hpa.Replicas
    values: keda.Values
    most: int | None = None
    by_hand: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    polls: keda.State
    syncs: hpa.State = field(default_factory=hpa.State)


@dataclass(frozen=True, slots=True)
class Decision:
    """From `before` to `after`. `poll` is what KEDA said, `sync` the HPA where it was asked. `is_cut`: the machine has
    room for fewer than were decided. `by_hand`: a person decided, and neither of the two was followed."""

    before: int
    after: int
    poll: keda.Decision
    sync: hpa.Decision | None = None
    is_cut: bool = False
    by_hand: bool = False


def begin(now: float) -> State:
    return State(keda.State(created_at=now))


def decide(scaled: keda.ScaledObject, state: State, observed: Observed, now: float) -> tuple[State, Decision]:
    """What a person wants goes before all else; the two go on looking meanwhile, so that they know the load when they
    are asked again."""
    state, decision = _by_load(scaled, state, observed, now)
    if observed.by_hand is not None:
        decision = replace(decision, after=observed.by_hand, by_hand=True)
    return state, _within(observed, decision)


def _by_load(scaled: keda.ScaledObject, state: State, observed: Observed, now: float) -> tuple[State, Decision]:
    current = observed.replicas.wanted
    polled, by_keda = keda.decide(scaled, state.polls, current, observed.values, now)
    state = replace(state, polls=polled)
    if by_keda.after != current:
        return state, Decision(current, by_keda.after, by_keda)
    metrics = keda.metrics(scaled, state.polls, current, observed.replicas.ready, observed.values)
    synced, by_hpa = hpa.decide(scaled.autoscaler, state.syncs, observed.replicas, metrics, now)
    said = by_hpa if current else None  # at zero it only remembers that it looked
    return replace(state, syncs=synced), Decision(current, by_hpa.after, by_keda, said)


def _within(observed: Observed, decision: Decision) -> Decision:
    """What runs is not stopped because the machine is full; only more of it is not started."""
    if observed.most is None or decision.after <= max(observed.most, decision.before):
        return decision
    return replace(decision, after=max(observed.most, decision.before), is_cut=True)


def reason(decision: Decision) -> str:
    """Why, as a person reads it: `waiting 30 at 4 each: 8, at most 3`."""
    if decision.by_hand:
        words = "by hand"
    else:
        words = reason_of_hpa(decision.sync) if decision.sync is not None else _reason_of_keda(decision.poll)
    return f"{words}; this machine has room for {decision.after}" if decision.is_cut else words


def _reason_of_keda(decision: keda.Decision) -> str:
    match decision.reason:
        case "activated":
            return f"woken by {', '.join(decision.by)}"
        case "fallback":
            return f"fallback, since {', '.join(decision.failed)} cannot be read"
        case "failed":
            return f"{', '.join(decision.failed)} cannot be read"
        case "cooled down":
            return "nothing to do for longer than the cooldown"
        case _:
            return decision.reason


_LIMITS: Mapping[hpa.Limit, str] = {
    "stabilization down": "kept at {} by what was asked for before",
    "stabilization up": "kept at {} by what was asked for before",
    "rate up": "no faster than to {}",
    "rate down": "no faster than to {}",
    "maximum": "at most {}",
    "minimum": "at least {}",
}


def reason_of_hpa(decision: hpa.Decision) -> str:
    if decision.reason == "no metric":
        failed = [one.metric for one in decision.proposals if one.replicas is None]
        return f"{', '.join(failed)} cannot be read"
    if decision.reason != "metric":
        return f"{decision.reason} ({decision.after})"
    asked = next(one for one in decision.proposals if one.metric == decision.by)
    load = f"{asked.metric} {number(asked.value or 0)}"
    words = f"{load} is near enough to {number(asked.target)} each: {decision.asked}"
    if not asked.is_within_tolerance:
        words = f"{load} at {number(asked.target)} each: {decision.asked}"
    return ", ".join([words, *(_LIMITS[limit].format(decision.after) for limit in decision.limits[-1:])])


def number(thousandths: int) -> str:
    return f"{thousandths / 1000:g}"


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica, as far as it matters who leaves first. Times are of one clock; `ready_at` None: it is not ready."""

    name: str
    created_at: float
    ready_at: float | None
    restarts: int = 0


def first_to_leave(pods: Sequence[Pod], count: int) -> list[str]:
    """Which `count` of them a ReplicaSet stops: those that are not ready first, then those that became ready last, that
    restarted more often, that were created last. (Who is not bound to a node, or shares one, does not happen here.)"""
    candidates = (Candidate(pod.name, pod.created_at, pod.ready_at, pod.restarts) for pod in pods)
    return [each.name for each in in_order(candidates)[:count]]

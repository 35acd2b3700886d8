"""One look at one model: KEDA's poll and, where that changes nothing and something runs, the HPA's sync.

In a cluster the two have clocks of their own, and the simulator calls `keda.decide` and `hpa.decide` by these. The
autoscaler of `stoker up` has one clock and calls `decide` here. Pure.
"""

from dataclasses import dataclass, field, replace

from stoker.policy import hpa, keda


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen. `most` is how many the machine has room for; None: any number."""

    replicas: hpa.Replicas
    values: keda.Values
    most: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    keda: keda.State
    hpa: hpa.State = field(default_factory=hpa.State)


@dataclass(frozen=True, slots=True)
class Decision:
    """From `before` to `after`. `keda` always has its say; `hpa` where it was asked. `is_cut`: the machine has room for
    fewer than were decided."""

    before: int
    after: int
    keda: keda.Decision
    hpa: hpa.Decision | None = None
    is_cut: bool = False


def begin(now: float) -> State:
    return State(keda.State(created_at=now))


def decide(scaled: keda.ScaledObject, state: State, observed: Observed, now: float) -> tuple[State, Decision]:
    current = observed.replicas.wanted
    polled, by_keda = keda.decide(scaled, state.keda, current, observed.values, now)
    state = replace(state, keda=polled)
    if by_keda.after != current:
        return state, _within(observed, Decision(current, by_keda.after, by_keda))
    metrics = keda.metrics(scaled, state.keda, current, observed.replicas.ready, observed.values)
    synced, by_hpa = hpa.decide(scaled.autoscaler, state.hpa, observed.replicas, metrics, now)
    said = by_hpa if current else None  # at zero it only remembers that it looked
    return replace(state, hpa=synced), _within(observed, Decision(current, by_hpa.after, by_keda, said))


def _within(observed: Observed, decision: Decision) -> Decision:
    """What runs is not stopped because the machine is full; only more of it is not started."""
    if observed.most is None or decision.after <= max(observed.most, decision.before):
        return decision
    return replace(decision, after=max(observed.most, decision.before), is_cut=True)


def reason(decision: Decision) -> str:
    """Why, as a person reads it: `waiting 30 at 4 each: 8, at most 3 (maximum)`."""
    words = _reason_of_hpa(decision.hpa) if decision.hpa is not None else _reason_of_keda(decision.keda)
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


def _reason_of_hpa(decision: hpa.Decision) -> str:
    if decision.reason != "metric":
        return decision.reason
    asked = next(one for one in decision.proposals if one.metric == decision.by)
    about = "about right for" if asked.is_within_tolerance else f"at {number(asked.target)} each:"
    words = f"{asked.metric} {number(asked.value or 0)} {about} {decision.asked}"
    return ", ".join([words, *(f"{limit} limits it to {decision.after}" for limit in decision.limits[-1:])])


def number(thousandths: int) -> str:
    return f"{thousandths / 1000:g}"

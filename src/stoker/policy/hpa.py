"""How many replicas the HorizontalPodAutoscaler (autoscaling/v2) would run: its arithmetic, whole.

`stoker up` scales by it, and the simulator predicts with it. Kubernetes computes with binary floats where this computes
with integers and fractions, so they differ where a float misses an exact multiple, and nowhere else.

One sync, in order: guards, what each metric asks for, the largest of these, stabilisation, rate limits, [min, max].
Metrics are in thousandths, as they travel in Kubernetes. `Metric` is an external one; `PodMetric` is of the pods
themselves (`Resource`, `ContainerResource`, `Pods`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

SYNC_S = 15.0
"""How often the controller looks (`--horizontal-pod-autoscaler-sync-period`)."""
STABILIZATION_S = 300.0
"""How long a recommendation holds a scale-down back (`--horizontal-pod-autoscaler-downscale-stabilization`)."""
TOLERANCE = Fraction(1, 10)
"""How far off its target a metric may be without a change (`--horizontal-pod-autoscaler-tolerance`)."""

CPU_INITIALIZATION_S = 300.0
"""How long after its start a pod's CPU counts only while it is ready (`...-cpu-initialization-period`)."""
INITIAL_READINESS_S = 30.0
"""A pod whose readiness last changed sooner after its start never was ready (`...-initial-readiness-delay`)."""

Select = Literal["Max", "Min", "Disabled"]
MetricType = Literal["AverageValue", "Value"]


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `value` pods, or per cent of the replicas, in `period_s`."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction."""

    stabilization_s: float
    policies: tuple[Policy, ...]
    select: Select = "Max"
    tolerance: Fraction = TOLERANCE


UP = Rules(0.0, (Policy("Pods", 4, 15.0), Policy("Percent", 100, 15.0)))
DOWN = Rules(STABILIZATION_S, (Policy("Percent", 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Behavior:
    up: Rules = UP
    down: Rules = DOWN


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """`behavior` None is the older algorithm: no policies, at most twice as many (or 4) in one step. `minimum` 0 lets
    it stop the last replica (gate HPAScaleToZero); KEDA's has 1 or more, and KEDA stops the last one."""

    minimum: int
    maximum: int
    behavior: Behavior | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum {self.minimum} and maximum {self.maximum} leave no number of replicas")


@dataclass(frozen=True, slots=True)
class Metric:
    """One external metric as it was read. `value` is the sum of all series; None: it could not be read."""

    name: str
    value: int | None
    """In thousandths."""
    target: int
    """In thousandths; for AverageValue, of one replica."""
    type: MetricType = "AverageValue"


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod of the target, and what was measured of it. Times are of the clock of `now`."""

    value: int | None
    """In thousandths; None: nothing was measured."""
    request: int = 0
    """Of what is measured, in thousandths: Utilization is a share of it."""
    is_ready: bool = True
    ready_changed_at: float = 0.0
    """When it last became ready, or no longer was."""
    started_at: float | None = 0.0
    measured_at: float = 0.0
    window_s: float = 0.0
    """The measurement is over so long, up to `measured_at`."""
    is_pending: bool = False
    """No node, or images that are still pulled."""
    is_leaving: bool = False
    """Being deleted, or failed: not counted at all."""


@dataclass(frozen=True, slots=True)
class PodMetric:
    """One metric of the pods. `target` in thousandths; of Utilization in thousandths of a per cent."""

    name: str
    pods: Sequence[PodSample]
    target: int
    type: Literal["AverageValue", "Utilization"] = "AverageValue"
    is_cpu: bool = False


@dataclass(frozen=True, slots=True)
class Replicas:
    """`wanted` is `spec.replicas`, `there` is `status.replicas` (ready or not), `ready` those that serve."""

    wanted: int
    there: int
    ready: int


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered from sync to sync: (time, number). None: nothing was recommended yet."""

    recommendations: tuple[tuple[float, int], ...] | None = None
    added: tuple[tuple[float, int], ...] = ()
    removed: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one metric asks for."""

    metric: str
    value: int | None
    target: int
    replicas: int | None
    """None: it could not be read."""
    is_within_tolerance: bool = False


Reason = Literal[
    "at zero",  # no replica is wanted, and only KEDA starts the first
    "above maximum",
    "below minimum",
    "no metric",  # none could be read, or one could not and the others ask for fewer
    "metric",
]
Limit = Literal[
    "stabilization down",  # a higher recommendation of the last while holds it up
    "stabilization up",  # a lower one holds it down
    "rate up",
    "rate down",
    "maximum",
    "minimum",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """From `before` to `after` replicas. `asked`: what the metrics ask for, before `limits`, which are those that
    changed it, in order. `by`: the metric that asked for most."""

    before: int
    after: int
    reason: Reason
    asked: int | None = None
    by: str | None = None
    proposals: tuple[Proposal, ...] = ()
    limits: tuple[Limit, ...] = ()


def decide(
    scaler: Autoscaler, state: State, replicas: Replicas, metrics: Sequence[Metric | PodMetric], now: float
) -> tuple[State, Decision]:
    """One sync at `now` (seconds that never go back)."""
    current = replicas.wanted
    if state.recommendations is None:  # so that a controller that has just started does not scale down at once
        state = replace(state, recommendations=((now, current),))
    if current == 0 and scaler.minimum != 0:
        return state, Decision(current, 0, "at zero")
    if current > scaler.maximum:
        return _moved(scaler, state, Decision(current, scaler.maximum, "above maximum", limits=("maximum",)), now)
    if current < scaler.minimum:
        return _moved(scaler, state, Decision(current, scaler.minimum, "below minimum", limits=("minimum",)), now)
    proposals = tuple(
        propose(scaler, replicas, metric)
        if isinstance(metric, Metric)
        else propose_by_pods(scaler, current, metric, now)
        for metric in metrics
    )
    asked = [one.replicas for one in proposals if one.replicas is not None]
    is_partial = len(asked) < len(proposals)
    if not asked or (is_partial and max(asked) < current):
        return state, Decision(current, current, "no metric", proposals=proposals)
    most = max(asked)
    by = next(one.metric for one in proposals if one.replicas == most)
    if scaler.behavior is None:
        state, after, limits = _limit_simply(scaler, state, current, most, now)
    else:
        state, after, limits = _limit(scaler, scaler.behavior, state, current, most, now)
    return _moved(scaler, state, Decision(current, after, "metric", most, by, proposals, limits), now)


def propose(scaler: Autoscaler, replicas: Replicas, metric: Metric) -> Proposal:
    """What one metric alone asks for."""
    if metric.value is None:
        return Proposal(metric.name, None, metric.target, None)
    behavior = scaler.behavior or Behavior()
    if metric.type == "AverageValue":
        many = replicas.there
        is_near = many > 0 and _is_within(Fraction(metric.value, metric.target * many), behavior)
        wanted = many if is_near else ceil_div(metric.value, metric.target)
    else:
        many = replicas.wanted
        is_near = many > 0 and _is_within(Fraction(metric.value, metric.target), behavior)
        wanted = many if is_near else ceil_div(metric.value * (replicas.ready if many else 1), metric.target)
    return Proposal(metric.name, metric.value, metric.target, wanted, is_near)


def propose_by_pods(scaler: Autoscaler, current: int, metric: PodMetric, now: float) -> Proposal:
    """What the pods' own measurements ask for (kubernetes, podautoscaler/replica_calculator.go). `current` is
    `spec.replicas`. Who was not measured, or is not ready, is put in so that it dampens the change: at the target on
    the way down, at nothing on the way up; where that turns the direction round, nothing changes."""
    behavior = scaler.behavior or Behavior()
    counted, unready, missing = _grouped(metric, now)
    usage = [(each.value or 0, each.request) for each in counted]
    ratio, value = _ratio(metric, usage)
    if ratio is None:
        return Proposal(metric.name, None, metric.target, None)
    is_up_with_unready = bool(unready) and ratio > 1
    if not is_up_with_unready and not missing:
        is_near = _is_within(ratio, behavior)
        wanted = current if is_near else math.ceil(ratio * len(counted))
        return Proposal(metric.name, value, metric.target, wanted, is_near)
    if ratio < 1:
        usage += [(_assumed(metric, each), each.request) for each in missing]
    elif ratio > 1 or metric.type == "AverageValue":
        usage += [(0, each.request) for each in missing]
    if is_up_with_unready:
        usage += [(0, each.request) for each in unready]
    again, _ = _ratio(metric, usage)
    if again is None or _is_within(again, behavior) or (ratio < 1 < again) or (again < 1 < ratio):
        return Proposal(metric.name, value, metric.target, current, True)
    wanted = math.ceil(again * len(usage))
    if (again < 1 and wanted > current) or (again > 1 and wanted < current):
        wanted = current
    return Proposal(metric.name, value, metric.target, wanted)


def _grouped(metric: PodMetric, now: float) -> tuple[list[PodSample], list[PodSample], list[PodSample]]:
    """Those that count, those that are not ready, those that were not measured (groupPods)."""
    counted: list[PodSample] = []
    unready: list[PodSample] = []
    missing: list[PodSample] = []
    for pod in metric.pods:
        if pod.is_leaving:
            continue
        if pod.is_pending:
            unready.append(pod)
        elif pod.value is None:
            missing.append(pod)
        elif metric.is_cpu and _is_starting(pod, now):
            unready.append(pod)
        else:
            counted.append(pod)
    return counted, unready, missing


def _is_starting(pod: PodSample, now: float) -> bool:
    """Whether what it uses may still be its start. Of CPU alone: other metrics count from the first."""
    if pod.started_at is None:
        return True
    if pod.started_at + CPU_INITIALIZATION_S > now:
        return not pod.is_ready or pod.measured_at < pod.ready_changed_at + pod.window_s
    return not pod.is_ready and pod.started_at + INITIAL_READINESS_S > pod.ready_changed_at


def _ratio(metric: PodMetric, usage: Sequence[tuple[int, int]]) -> tuple[Fraction | None, int | None]:
    """Of the mean to the target, and the mean: whole per cent of the requests, or whole thousandths. None where nothing
    was measured, or nothing is requested that it could be a share of."""
    total, requests = sum(value for value, _ in usage), sum(request for _, request in usage)
    if not usage or (metric.type == "Utilization" and requests <= 0):
        return None, None
    mean = total * 100 // requests * 1000 if metric.type == "Utilization" else total // len(usage)
    return Fraction(mean, metric.target), mean


def _assumed(metric: PodMetric, pod: PodSample) -> int:
    """Of one that was not measured, when fewer are asked for: its target; of a share all that it requests at least."""
    if metric.type == "AverageValue":
        return metric.target
    return pod.request * max(100_000, metric.target) // 100_000


def ceil_div(value: int, by: int) -> int:
    return -(-value // by)


def _is_within(ratio: Fraction, behavior: Behavior) -> bool:
    return 1 - behavior.down.tolerance <= ratio <= 1 + behavior.up.tolerance


def _moved(scaler: Autoscaler, state: State, decision: Decision, now: float) -> tuple[State, Decision]:
    """Remember the change, where there are policies to ask for it."""
    change = decision.after - decision.before
    if change == 0 or scaler.behavior is None:
        return state, decision
    rules = scaler.behavior.up, scaler.behavior.down
    longest_s = max((policy.period_s for rule in rules for policy in rule.policies), default=0.0)

    def recent(events: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
        return tuple(event for event in events if event[0] > now - longest_s)

    added, removed = recent(state.added), recent(state.removed)
    if change > 0:
        return replace(state, added=(*added, (now, change)), removed=removed), decision
    return replace(state, added=added, removed=(*removed, (now, -change))), decision


# --- the older algorithm ----------------------------------------------------------------------------------------------


def _limit_simply(
    scaler: Autoscaler, state: State, current: int, asked: int, now: float
) -> tuple[State, int, tuple[Limit, ...]]:
    limits: list[Limit] = []
    kept = tuple(one for one in state.recommendations or () if one[0] >= now - STABILIZATION_S)
    stable = max((asked, *(number for _, number in kept)))
    if stable != asked:
        limits.append("stabilization down")
    after, rate = stable, max(2 * current, 4)
    if after > min(rate, scaler.maximum):
        after = min(rate, scaler.maximum)
        limits.append("maximum" if scaler.maximum <= rate else "rate up")
    if after < scaler.minimum:
        after = scaler.minimum
        limits.append("minimum")
    return replace(state, recommendations=(*kept, (now, asked))), after, tuple(limits)


# --- with a behavior --------------------------------------------------------------------------------------------------


def _limit(
    scaler: Autoscaler, behavior: Behavior, state: State, current: int, asked: int, now: float
) -> tuple[State, int, tuple[Limit, ...]]:
    limits: list[Limit] = []
    known = state.recommendations or ()
    stable = stabilized(behavior, known, current, asked, now)
    if stable != asked:
        limits.append("stabilization down" if stable > asked else "stabilization up")
    after = stable
    if stable > current:
        rate = max(current, up_limit(behavior.up, state, current, now))
        after = min(stable, rate, scaler.maximum)
        if after < stable:
            limits.append("maximum" if scaler.maximum <= rate else "rate up")
    elif stable < current:
        rate = min(current, down_limit(behavior.down, state, current, now))
        after = max(stable, rate, scaler.minimum)
        if after > stable:
            limits.append("minimum" if scaler.minimum >= rate else "rate down")
    longest_s = max(behavior.up.stabilization_s, behavior.down.stabilization_s)
    kept = tuple(one for one in known if one[0] > now - longest_s)
    return replace(state, recommendations=(*kept, (now, asked))), after, tuple(limits)


def stabilized(behavior: Behavior, known: Sequence[tuple[float, int]], current: int, asked: int, now: float) -> int:
    """`current`, moved no further than what was asked for of late: up to the least of `up.stabilization_s`, down to the
    most of `down.stabilization_s`."""
    least = min((asked, *(number for at, number in known if at > now - behavior.up.stabilization_s)))
    most = max((asked, *(number for at, number in known if at > now - behavior.down.stabilization_s)))
    return min(max(current, least), most)


def up_limit(rules: Rules, state: State, current: int, now: float) -> int:
    """The most that policies allow; may be less than `current`, when it rose by more than that lately."""
    if rules.select == "Disabled":
        return current
    return _selected(rules, [_up(policy, _began(state, current, policy, now)) for policy in rules.policies], current)


def down_limit(rules: Rules, state: State, current: int, now: float) -> int:
    """The fewest that policies allow; may be more than `current`."""
    if rules.select == "Disabled":
        return current
    # The largest change is the least number here.
    down = [-_down(policy, _began(state, current, policy, now)) for policy in rules.policies]
    return -_selected(rules, down, -current)


def _selected(rules: Rules, numbers: Sequence[int], otherwise: int) -> int:
    if not numbers:
        return otherwise
    return max(numbers) if rules.select == "Max" else min(numbers)


def _began(state: State, current: int, policy: Policy, now: float) -> int:
    """How many there were when the policy's period began."""
    added = sum(number for at, number in state.added if at > now - policy.period_s)
    removed = sum(number for at, number in state.removed if at > now - policy.period_s)
    return current - added + removed


def _up(policy: Policy, began: int) -> int:
    return began + policy.value if policy.type == "Pods" else ceil_div(began * (100 + policy.value), 100)


def _down(policy: Policy, began: int) -> int:
    if policy.type == "Pods":
        return began - policy.value
    left = began * (100 - policy.value)
    return left // 100 if left >= 0 else -(-left // 100)

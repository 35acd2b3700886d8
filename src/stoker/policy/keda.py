"""What KEDA does about a ScaledObject: what is active, the steps from and to zero, what the HPA is told.

KEDA polls, and decides between none and some; how many some are is the HPA's (`hpa`). `scaling` puts both together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from stoker.policy import hpa, keda_formulas

FallbackBehavior = Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """`target` and `activation` in thousandths. Active is a value strictly above `activation`."""

    name: str
    target: int
    activation: int = 0
    type: hpa.MetricType = "AverageValue"

    def __post_init__(self) -> None:
        if self.target <= 0:
            raise ValueError(f"trigger {self.name} has the target {self.target}; it must be above 0")


@dataclass(frozen=True, slots=True)
class Fallback:
    """In force for a trigger once it has failed more than `failure_threshold` times in a row."""

    failure_threshold: int
    replicas: int
    behavior: FallbackBehavior = "static"


@dataclass(frozen=True, slots=True)
class Modifiers:
    """`scalingModifiers`: one number made of all triggers, which stands for them. `target` and `activation` in
    thousandths."""

    formula: keda_formulas.Formula
    target: int
    activation: int = 0
    type: hpa.MetricType = "AverageValue"

    def __post_init__(self) -> None:
        if self.target <= 0:
            raise ValueError(f"scalingModifiers have the target {self.target}; it must be above 0")


COMPOSITE = "composite-metric"
"""What KEDA calls that number."""


@dataclass(frozen=True, slots=True)
class ScaledObject:
    triggers: tuple[Trigger, ...]
    minimum: int = 0
    maximum: int = 100
    idle: int | None = None
    polling_s: float = 30.0
    cooldown_s: float = 300.0
    initial_cooldown_s: float = 0.0
    fallback: Fallback | None = None
    behavior: hpa.Behavior | None = None
    modifiers: Modifiers | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise ValueError(f"minimum {self.minimum} and maximum {self.maximum} leave no number of replicas")
        if self.idle is not None and self.idle >= self.minimum:
            raise ValueError(f"idle {self.idle} must be less than minimum {self.minimum}")

    @property
    def autoscaler(self) -> hpa.Autoscaler:
        """The HPA that KEDA makes of it."""
        return hpa.Autoscaler(self.minimum or 1, self.maximum, self.behavior)


@dataclass(frozen=True, slots=True)
class State:
    """`created_at` is when the ScaledObject was; `failures` counts in a row, by trigger."""

    created_at: float
    last_active_at: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)


Values = Mapping[str, int | None]
"""By trigger, what it read, in thousandths; None: it failed."""

Reason = Literal[
    "active",  # and as many run as should: the rest is the HPA's
    "activated",  # from none (or idle) to the first
    "fallback",  # as activated, since triggers fail
    "failed",  # all that could say that something is active failed: nothing is done
    "cooling down",
    "cooled down",  # to none (or idle)
    "below minimum",
    "idle",  # nothing is active, and nothing has to be done
]


@dataclass(frozen=True, slots=True)
class Decision:
    """`by`: the triggers that are active. `until`: when what cools down will be cold."""

    before: int
    after: int
    reason: Reason
    by: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    until: float | None = None


def read(state: State, values: Values) -> State:
    """Count the failures of one reading, be it KEDA's own poll or the HPA's."""
    failures = {name: state.failures.get(name, 0) + 1 for name, value in values.items() if value is None}
    return replace(state, failures=failures)


def decide(scaled: ScaledObject, state: State, current: int, values: Values, now: float) -> tuple[State, Decision]:
    """One poll, whose readings are `values`."""
    state = read(state, values)
    failed = tuple(one.name for one in scaled.triggers if values.get(one.name) is None)
    active = _active(scaled, values)
    is_fallback = any(_is_in_force(scaled, state, name) for name in failed)
    if active or is_fallback:
        least = max(scaled.minimum, 1)
        if current == 0 or (scaled.idle is not None and current < scaled.minimum):
            reason: Reason = "activated" if active else "fallback"
            return replace(state, last_active_at=now), Decision(current, least, reason, active, failed)
        if not failed:
            state = replace(state, last_active_at=now)
        return state, Decision(current, current, "active", active, failed)
    if failed and (scaled.fallback is None or scaled.fallback.replicas != 0):
        return state, Decision(current, current, "failed", failed=failed)
    return state, _rest(scaled, state, current, failed, now)


def metrics(scaled: ScaledObject, state: State, current: int, ready: int, values: Values) -> Sequence[hpa.Metric]:
    """What KEDA answers when the HPA asks. Where a fallback is in force it is what makes the HPA want that many."""
    if scaled.modifiers is not None:
        return [_composite_metric(scaled, scaled.modifiers, state, current, ready, values)]
    return [_metric(scaled, state, current, ready, trigger, values.get(trigger.name)) for trigger in scaled.triggers]


def stream_value(
    *,
    lag: int | None,
    pending: int | None,
    length: int,
    consumer_group: str | None,
    lag_count: int | None,
) -> int | None:
    """What the redis-streams scaler reads, in thousandths; None: an error. `lag` and `pending` are those of the group,
    None where there is no such group (or Redis cannot say the lag: then it counts as none, and `pending` is known).

    1. with a group and `lagCount`: entries that the group was not given yet; all there are while it is not there
    2. with a group alone: entries that were delivered and not acknowledged
    3. without a group: all entries
    """
    if consumer_group is None:
        return length * 1000
    if lag_count:
        has_no_group = lag is None and pending is None
        return (length if has_no_group else max(0, lag or 0)) * 1000
    return None if pending is None else pending * 1000


def _active(scaled: ScaledObject, values: Values) -> tuple[str, ...]:
    """Who says that there is something to do. With a formula, only what it makes of them all counts."""
    if scaled.modifiers is not None:
        value = _composite(scaled.modifiers, values)
        return (COMPOSITE,) if value is not None and value > scaled.modifiers.activation else ()
    return tuple(one.name for one in scaled.triggers if _is_active(one, values.get(one.name)))


def _is_active(trigger: Trigger, value: int | None) -> bool:
    return value is not None and value > trigger.activation


def _composite(modifiers: Modifiers, values: Values) -> int | None:
    """In thousandths, the rest cut off; a trigger that failed is nil (pkg/scaling/modifiers)."""
    numbers = {name: None if value is None else Fraction(value, 1000) for name, value in values.items()}
    value = keda_formulas.value(modifiers.formula, numbers)
    return None if value is None else math.trunc(value * 1000)


def _composite_metric(
    scaled: ScaledObject, modifiers: Modifiers, state: State, current: int, ready: int, values: Values
) -> hpa.Metric:
    value = _composite(modifiers, values)
    is_fallback = any(_is_in_force(scaled, state, name) for name, read in values.items() if read is None)
    if value is None and scaled.fallback is not None and is_fallback:
        value = _as_if(_fallback_replicas(scaled.fallback, current), modifiers.target, modifiers.type, ready)
    return hpa.Metric(COMPOSITE, None if value is None else max(0, value), modifiers.target, modifiers.type)


def _as_if(replicas: int, target: int, type_: hpa.MetricType, ready: int) -> int:
    """What makes the HPA want `replicas`; of Value, so that its multiplication by the ready ones cancels."""
    return target * replicas // max(1, ready) if type_ == "Value" else target * replicas


def _is_in_force(scaled: ScaledObject, state: State, name: str) -> bool:
    return scaled.fallback is not None and state.failures.get(name, 0) > scaled.fallback.failure_threshold


def _rest(scaled: ScaledObject, state: State, current: int, failed: tuple[str, ...], now: float) -> Decision:
    """Nothing is active."""
    floor = scaled.minimum if scaled.idle is None else scaled.idle
    may_go_down = current > floor if scaled.idle is not None else current > 0 and scaled.minimum == 0
    if may_go_down:
        if state.last_active_at is None:
            until = state.created_at + scaled.initial_cooldown_s
        else:
            until = state.last_active_at + scaled.cooldown_s
        if until < now:
            return Decision(current, floor, "cooled down", failed=failed)
        return Decision(current, current, "cooling down", failed=failed, until=until)
    if scaled.idle is None and current < scaled.minimum:
        return Decision(current, scaled.minimum, "below minimum", failed=failed)
    return Decision(current, current, "idle", failed=failed)


def _metric(
    scaled: ScaledObject, state: State, current: int, ready: int, trigger: Trigger, value: int | None
) -> hpa.Metric:
    if value is None and scaled.fallback is not None and _is_in_force(scaled, state, trigger.name):
        value = _as_if(_fallback_replicas(scaled.fallback, current), trigger.target, trigger.type, ready)
    told = None if value is None else max(0, value)
    return hpa.Metric(trigger.name, told, trigger.target, trigger.type)


def _fallback_replicas(fallback: Fallback, current: int) -> int:
    match fallback.behavior:
        case "static":
            return fallback.replicas
        case "currentReplicas":
            return current
        case "currentReplicasIfHigher":
            return max(current, fallback.replicas)
        case "currentReplicasIfLower":
            return min(current, fallback.replicas)

"""`platform.yaml` into what KEDA and the HPA are told of one model, or of the workers of agents (`AGENT_STEPS`): the
numbers of its ScaledObject.

The autoscaler of `stoker up` and the simulator go by it, and what is rendered for a cluster says the same.
"""

from fractions import Fraction
from typing import Literal

from stoker.policy import hpa, keda
from stoker.spec import AGENT_STEPS, Platform, Replicas
from stoker.spec.guide import ScaleDown, ScaleUp

WAITING = "waiting"
"""Tasks that wait: redis-streams with `lagCount` on the model's stream and its group."""
PENDING = "pending"
"""Tasks that run: redis-streams without `lagCount`."""
RUNNING = "running"
"""Requests that replicas run for gateways, and tasks that run: prometheus, `stoker_requests_in_flight` of all gateways
and `stoker_queue_pending` of one, since each says the same of the queue."""
FULL = Fraction(3, 4)
"""Of what a replica runs at once: more than that on average, and another comes beside it."""

Place = Literal["here", "cluster"]


def scaled_object(platform: Platform, model: str, place: Place = "here") -> keda.ScaledObject:
    """What scales `model`, which may be AGENT_STEPS; replicas of a model here and in a cluster may differ."""
    said = platform.keda
    replicas = replicas_of(platform, model, place)
    fallback = None
    if said.fallback is not None:
        fallback = keda.Fallback(said.fallback.failure_threshold, said.fallback.replicas, said.fallback.behavior)
    behavior = said.advanced.horizontal_pod_autoscaler_config.behavior
    return keda.ScaledObject(
        triggers=triggers(platform, model, place),
        minimum=replicas.min,
        maximum=replicas.max,
        polling_s=said.polling_interval,
        cooldown_s=said.cooldown_period,
        initial_cooldown_s=said.initial_cooldown_period,
        fallback=fallback,
        behavior=hpa.Behavior(_rules(behavior.scale_up), _rules(behavior.scale_down)),
    )


def triggers(platform: Platform, model: str, place: Place = "here") -> tuple[keda.Trigger, ...]:
    if model == AGENT_STEPS:
        return _triggers_of_agents(platform)
    limits = platform.llm.models[model].limits if place == "here" else platform.cluster_limits(model)
    said, at_once = platform.keda, limits.concurrency
    found = []
    if said.scalers.redis:
        waiting = at_once if said.lag_count is None else said.lag_count
        found.append(keda.Trigger(WAITING, milli(waiting), milli(said.activation_lag_count)))
        if said.pending_entries_count is not None:
            found.append(keda.Trigger(PENDING, milli(said.pending_entries_count)))
    running = FULL * at_once if said.running_count is None else said.running_count
    return (*found, keda.Trigger(RUNNING, milli(running)))


def _triggers_of_agents(platform: Platform) -> tuple[keda.Trigger, ...]:
    """Steps that wait and steps that run: no gateway sends them anywhere, so the queue knows all there is."""
    at_once = platform.agents.workers.steps_at_once
    return keda.Trigger(WAITING, milli(at_once)), keda.Trigger(PENDING, milli(FULL * at_once))


def scales_agents(platform: Platform) -> bool:
    """Whether the workers of agents come and go with load. Redis alone knows of their steps."""
    replicas = platform.agents.workers.replicas
    return platform.keda.enabled and platform.keda.scalers.redis and replicas.min < replicas.max


def agent_workers(platform: Platform) -> int:
    """How many run at rest. With nobody who would start the first one, `min: 0` runs one."""
    least = platform.agents.workers.replicas.min
    return least if scales_agents(platform) else max(1, least)


def replicas_of(platform: Platform, model: str, place: Place) -> Replicas:
    if model == AGENT_STEPS:
        return platform.agents.workers.replicas
    return platform.local_replicas(model) if place == "here" else platform.cluster_replicas(model)


def milli(number: float | Fraction) -> int:
    """Thousandths, rounded up as Kubernetes does; a target is at least one of them."""
    exact = number if isinstance(number, Fraction) else Fraction(repr(number))
    return hpa.ceil_div(exact.numerator * 1000, exact.denominator)


def _rules(said: ScaleUp | ScaleDown) -> hpa.Rules:
    policies = tuple(hpa.Policy(one.type, one.value, one.period_seconds) for one in said.policies)
    tolerance = Fraction(repr(said.tolerance))
    return hpa.Rules(said.stabilization_window_seconds, policies, said.select_policy, tolerance)

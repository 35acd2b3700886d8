"""A model's whole way, by KEDA and the HPA together; the numbers that platform.yaml gives them; who leaves first."""

import pytest

from stoker.policy import hpa, keda, scaled, scaling
from stoker.policy.scaled import milli, scaled_object
from stoker.policy.scaling import Observed, Pod, State, begin, decide, first_to_leave, reason
from stoker.spec import AGENT_STEPS, loads

SMALL = scaled_object(
    loads("llm: {models: {general: {replicas: {min: 0, max: 3}, limits: {concurrency: 4}}}}"), "general"
)


def seen(replicas: int, waiting: int | None, running: int | None, most: int | None = None) -> Observed:
    values = {
        name: None if value is None else value * 1000 for name, value in (("waiting", waiting), ("running", running))
    }
    return Observed(hpa.Replicas(replicas, replicas, replicas), values, most)


def follow(looks: list[tuple[float, int | None, int | None]], most: int | None = None) -> list[tuple[int, int, str]]:
    """Each look (when, waiting, running) of a model that begins at zero: before, after, and why."""
    state, current, found = begin(0.0), 0, []
    for at, waiting, running in looks:
        state, decision = decide(SMALL, state, seen(current, waiting, running, most), at)
        found.append((decision.before, decision.after, reason(decision)))
        current = decision.after
    return found


def test_from_zero_to_the_most_and_back() -> None:
    assert follow(
        [
            (0.0, 0, 0),
            (4.0, 30, 0),
            (10.0, 26, 4),
            (20.0, 18, 12),
            (30.0, 0, 12),
            (40.0, 0, 2),
            (320.0, 0, 0),
            (330.1, 0, 0),
            (340.1, 0, 0),
            (350.0, 0, 0),
        ]
    ) == [
        (0, 0, "idle"),
        (0, 1, "woken by waiting"),
        (1, 3, "waiting 26 at 4 each: 7, at most 3"),
        (3, 3, "waiting 18 at 4 each: 5, at most 3"),
        (3, 3, "running 12 at 3 each: 4, at most 3"),
        (3, 3, "running 2 at 3 each: 1, kept at 3 by what was asked for before"),
        (3, 3, "waiting 0 at 4 each: 0, kept at 3 by what was asked for before"),
        (3, 1, "waiting 0 at 4 each: 0, kept at 1 by what was asked for before"),
        (1, 0, "nothing to do for longer than the cooldown"),
        (0, 0, "idle"),
    ]


def test_a_replica_that_is_full_gets_another_beside_it() -> None:
    """4 run where 4 can, and 3 of 4 is the target; 3 are what there should be."""
    assert follow([(0.0, 1, 0), (10.0, 0, 4), (20.0, 0, 6), (30.0, 0, 8)])[1:] == [
        (1, 2, "running 4 at 3 each: 2"),
        (2, 2, "running 6 is near enough to 3 each: 2"),
        (2, 3, "running 8 at 3 each: 3"),
    ]


def test_no_more_than_the_machine_has_room_for_and_nothing_is_stopped_for_it() -> None:
    assert follow([(0.0, 30, 0), (10.0, 30, 0), (20.0, 30, 0)], most=2)[1:] == [
        (1, 2, "waiting 30 at 4 each: 8, at most 3; this machine has room for 2"),
        (2, 2, "waiting 30 at 4 each: 8, at most 3; this machine has room for 2"),
    ]
    assert follow([(0.0, 30, 0)], most=0) == [(0, 0, "woken by waiting; this machine has room for 0")]
    state = begin(0.0)
    full = decide(SMALL, state, seen(3, 30, 0, most=1), 10.0)[1]
    assert (full.after, full.is_cut) == (3, False)


def test_what_cannot_be_read_changes_nothing_and_is_named() -> None:
    assert follow([(0.0, 30, 0), (10.0, 30, 0), (20.0, None, None), (400.0, None, 0)])[2:] == [
        (3, 3, "waiting, running cannot be read"),
        (3, 3, "waiting cannot be read"),
    ]


def test_the_hpa_remembers_what_it_asked_for_before_a_rest_at_zero() -> None:
    """As in a cluster: the HPA is there all the time, and its window goes on while nothing runs."""
    quick = scaled_object(
        loads("{keda: {cooldownPeriod: 5}, llm: {models: {general: {replicas: {min: 0, max: 3}}}}}"), "general"
    )
    state: State = begin(0.0)
    for at, current, waiting in ((0.0, 0, 30), (10.0, 1, 30), (20.0, 3, 0), (30.0, 0, 1)):
        state, decision = decide(quick, state, seen(current, waiting, 0), at)
    assert (decision.before, decision.after) == (0, 1)
    _, decision = decide(quick, state, seen(1, 1, 0), 40.0)
    assert decision.sync is not None
    assert (decision.after, decision.sync.asked, decision.sync.limits) == (1, 1, ())


# --- platform.yaml ----------------------------------------------------------------------------------------------------


def test_the_defaults_of_a_model() -> None:
    """8 at once: as many wait for each replica, and three quarters of it run, before there is one more."""
    found = scaled_object(loads("llm: {models: {general: {replicas: {min: 1, max: 4}}}}"), "general")
    assert found == keda.ScaledObject(
        triggers=(keda.Trigger("waiting", 8000), keda.Trigger("running", 6000)),
        minimum=1,
        maximum=4,
        polling_s=10,
        cooldown_s=300,
        initial_cooldown_s=0,
        behavior=hpa.Behavior(),
    )


def test_what_is_written_under_keda_is_what_scales() -> None:
    platform = loads(
        """
keda:
  minReplicaCount: 0
  maxReplicaCount: 6
  pollingInterval: 5
  cooldownPeriod: 60
  initialCooldownPeriod: 7
  lagCount: 2
  activationLagCount: 1
  pendingEntriesCount: 3
  runningCount: 2.5
  fallback: {failureThreshold: 2, replicas: 4, behavior: currentReplicasIfHigher}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          policies: [{type: Pods, value: 2, periodSeconds: 30}]
          selectPolicy: Min
          tolerance: 0.05
        scaleDown: {stabilizationWindowSeconds: 60}
"""
    )
    found = scaled_object(platform, "code", "cluster")
    assert found.triggers == (
        keda.Trigger("waiting", 2000, 1000),
        keda.Trigger("pending", 3000),
        keda.Trigger("running", 2500),
    )
    assert (found.minimum, found.maximum, found.polling_s, found.cooldown_s, found.initial_cooldown_s) == (
        0,
        6,
        5,
        60,
        7,
    )
    assert found.fallback == keda.Fallback(2, 4, "currentReplicasIfHigher")
    assert found.behavior is not None
    up = found.behavior.up
    assert (up.policies, up.select, up.tolerance) == ((hpa.Policy("Pods", 2, 30),), "Min", hpa.Fraction(1, 20))
    assert found.behavior.down == hpa.Rules(60, hpa.DOWN.policies)


@pytest.mark.parametrize("place", ["here", "cluster"])
def test_workers_of_agents_are_scaled_by_their_steps_and_the_rules_of_models(place: scaled.Place) -> None:
    """Not by the counts of models: a step is not a request."""
    platform = loads(
        "keda: {lagCount: 2, activationLagCount: 1, pendingEntriesCount: 3, cooldownPeriod: 60}\n"
        "agents: {workers: {stepsAtOnce: 10, replicas: {min: 0, max: 5}}}"
    )
    found = scaled_object(platform, AGENT_STEPS, place)
    assert found.triggers == (keda.Trigger("waiting", 10_000), keda.Trigger("pending", 7_500))
    assert (found.minimum, found.maximum, found.cooldown_s) == (0, 5, 60)


def test_without_the_redis_scaler_only_what_runs_counts() -> None:
    found = scaled_object(loads("keda: {scalers: {redis: false}}"), "code", "cluster")
    assert [one.name for one in found.triggers] == ["running"]


@pytest.mark.parametrize(("number", "expected"), [(8, 8000), (0.5, 500), (0.1, 100), (0.00001, 1), (2.0005, 2001)])
def test_thousandths_are_rounded_up(number: float, expected: int) -> None:
    assert milli(number) == expected


# --- who leaves -------------------------------------------------------------------------------------------------------


def test_who_leaves_first() -> None:
    old, young = Pod("old", 0.0, 10.0), Pod("young", 0.0, 50.0)
    starting, late = Pod("starting", 5.0, None), Pod("late", 60.0, None)
    fallen = Pod("fallen", 0.0, 50.0, restarts=2)
    everyone = [old, young, starting, late, fallen]
    assert first_to_leave(everyone, 5) == ["late", "starting", "fallen", "young", "old"]
    assert first_to_leave(everyone, 2) == ["late", "starting"]
    assert scaling.first_to_leave([], 3) == []

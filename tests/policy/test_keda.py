"""KEDA's part: what is active, the steps from and to zero, fallback, and what a stream says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy import hpa, keda
from stoker.policy.keda import Fallback, ScaledObject, State, Trigger, Values, decide, metrics, stream_value

WAITING = Trigger("waiting", 4000)
RUNNING = Trigger("running", 3000)


def scaled(**changes: object) -> ScaledObject:
    given_: dict[str, object] = {"triggers": (WAITING, RUNNING), "maximum": 10}
    return ScaledObject(**{**given_, **changes})  # type: ignore[arg-type]


def load(waiting: int | None = 0, running: int | None = 0) -> Values:
    return {
        name: None if value is None else value * 1000 for name, value in (("waiting", waiting), ("running", running))
    }


BORN = State(created_at=0.0)


def after(found: ScaledObject, state: State, current: int, values: Values, now: float) -> tuple[int, str]:
    decision = decide(found, state, current, values, now)[1]
    return decision.after, decision.reason


# --- from zero --------------------------------------------------------------------------------------------------------


def test_the_first_task_wakes_one_replica_and_says_who_it_was() -> None:
    state, decision = decide(scaled(), BORN, 0, load(waiting=30), 7.0)
    assert decision == keda.Decision(0, 1, "activated", ("waiting",))
    assert state.last_active_at == 7.0


def test_active_is_strictly_above_the_activation_threshold() -> None:
    lazy = scaled(triggers=(Trigger("waiting", 4000, activation=5000),))
    assert after(lazy, BORN, 0, {"waiting": 5000}, 1.0) == (0, "idle")
    assert after(lazy, BORN, 0, {"waiting": 5001}, 1.0) == (1, "activated")


def test_any_of_several_triggers_is_enough_also_where_another_fails() -> None:
    assert after(scaled(), BORN, 0, load(running=1), 1.0) == (1, "activated")
    assert after(scaled(), BORN, 0, load(waiting=None, running=1), 1.0) == (1, "activated")


def test_what_is_woken_comes_to_its_minimum() -> None:
    assert after(scaled(minimum=3, idle=0), BORN, 0, load(1), 1.0) == (3, "activated")
    assert after(scaled(minimum=3, idle=0), BORN, 2, load(1), 1.0) == (3, "activated")
    assert after(scaled(minimum=3), BORN, 2, load(0), 1.0) == (3, "below minimum")


def test_from_one_on_it_is_the_hpas() -> None:
    assert after(scaled(), BORN, 1, load(waiting=1000), 1.0) == (1, "active")


# --- to zero ----------------------------------------------------------------------------------------------------------


def test_to_zero_in_one_step_once_the_cooldown_is_over() -> None:
    state, _ = decide(scaled(), BORN, 4, load(running=2), 100.0)
    assert state.last_active_at == 100.0
    decision = decide(scaled(), state, 4, load(), 400.0)[1]
    assert (decision.after, decision.reason, decision.until) == (4, "cooling down", 400.0)
    assert after(scaled(), state, 4, load(), 400.1) == (0, "cooled down")


def test_what_was_never_active_has_a_cooldown_of_its_own() -> None:
    patient = scaled(initial_cooldown_s=60.0)
    assert after(patient, BORN, 1, load(), 60.0) == (1, "cooling down")
    assert after(patient, BORN, 1, load(), 60.1) == (0, "cooled down")
    assert after(scaled(), BORN, 1, load(), 0.1) == (0, "cooled down")


def test_with_a_minimum_there_is_no_step_to_zero_but_to_idle() -> None:
    assert after(scaled(minimum=1), BORN, 1, load(), 1e9) == (1, "idle")
    assert after(scaled(minimum=2, idle=0), BORN, 5, load(), 1e9) == (0, "cooled down")
    assert after(scaled(minimum=2, idle=1), BORN, 1, load(), 1e9) == (1, "idle")


def test_one_failing_trigger_freezes_the_time_from_which_the_cooldown_counts() -> None:
    state, _ = decide(scaled(), BORN, 1, load(running=1), 10.0)
    state, decision = decide(scaled(), state, 1, load(waiting=None, running=1), 200.0)
    assert (decision.reason, decision.failed, state.last_active_at) == ("active", ("waiting",), 10.0)
    assert after(scaled(), state, 1, load(), 311.0) == (0, "cooled down")


def test_nothing_is_stopped_while_the_triggers_fail() -> None:
    assert after(scaled(), BORN, 3, load(None, None), 1e9) == (3, "failed")
    assert after(scaled(), BORN, 3, load(None, 0), 1e9) == (3, "failed")


# --- fallback ---------------------------------------------------------------------------------------------------------


def failing(found: ScaledObject, times: int, current: int = 2) -> State:
    state = BORN
    for number in range(times):
        state, _ = decide(found, state, current, load(waiting=None), float(number))
    return state


def test_a_fallback_is_in_force_after_more_failures_than_its_threshold() -> None:
    found = scaled(triggers=(WAITING,), fallback=Fallback(failure_threshold=3, replicas=6))
    three, four = failing(found, 3), failing(found, 4)
    assert metrics(found, three, 2, 2, {"waiting": None}) == [hpa.Metric("waiting", None, 4000)]
    assert metrics(found, four, 2, 2, {"waiting": None}) == [hpa.Metric("waiting", 24_000, 4000)]
    assert after(found, three, 0, {"waiting": None}, 9.0) == (1, "fallback")  # this reading is the fourth
    assert after(found, failing(found, 2), 0, {"waiting": None}, 9.0) == (0, "failed")


def test_a_reading_that_succeeds_ends_it() -> None:
    found = scaled(fallback=Fallback(3, 6))
    state, _ = decide(found, failing(found, 9), 2, load(1), 9.0)
    assert state.failures == {}


@pytest.mark.parametrize(
    ("behavior", "current", "expected"),
    [
        ("static", 2, 6),
        ("currentReplicas", 2, 2),
        ("currentReplicasIfHigher", 2, 6),
        ("currentReplicasIfHigher", 8, 8),
        ("currentReplicasIfLower", 2, 2),
        ("currentReplicasIfLower", 8, 6),
    ],
)
def test_the_hpa_comes_to_what_the_fallback_says(behavior: keda.FallbackBehavior, current: int, expected: int) -> None:
    for kind in ("AverageValue", "Value"):
        found = ScaledObject(
            (Trigger("waiting", 4000, type=kind),),  # type: ignore[arg-type]
            fallback=Fallback(3, 6, behavior),
            behavior=hpa.Behavior(hpa.Rules(0.0, (hpa.Policy("Pods", 99, 15.0),)), hpa.Rules(0.0, hpa.DOWN.policies)),
        )
        told = metrics(found, failing(found, 4), current, 2, {"waiting": None})
        replicas = hpa.Replicas(current, current, 2)
        assert hpa.decide(found.autoscaler, hpa.State(()), replicas, told, 0.0)[1].after == expected, kind


# --- what a stream says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lag", "pending", "length", "group", "lag_count", "expected"),
    [
        (30, 7, 37, "workers", 4, 30_000),  # lag: what the group was not given yet
        (None, 7, 37, "workers", 4, 0),  # Redis cannot say it
        (-2, 7, 37, "workers", 4, 0),
        (None, None, 37, "workers", 4, 37_000),  # no such group yet
        (None, None, 0, "workers", 4, 0),  # no such stream yet
        (30, 7, 37, "workers", None, 7000),  # pending: what was delivered and not acknowledged
        (30, 7, 37, "workers", 0, 7000),
        (None, None, 37, "workers", None, None),  # NOGROUP
        (30, 7, 37, None, 4, 37_000),  # length: all there are
    ],
)
def test_which_counter_of_a_stream_is_read(
    lag: int | None, pending: int | None, length: int, group: str | None, lag_count: int | None, expected: int | None
) -> None:
    found = stream_value(lag=lag, pending=pending, length=length, consumer_group=group, lag_count=lag_count)
    assert found == expected


def test_the_hpa_that_keda_makes_never_goes_to_zero() -> None:
    assert scaled().autoscaler == hpa.Autoscaler(1, 10)
    assert scaled(minimum=3).autoscaler == hpa.Autoscaler(3, 10)


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="minimum 3 and maximum 2"):
        scaled(minimum=3, maximum=2)
    with pytest.raises(ValueError, match="idle 2 must be less than minimum 2"):
        scaled(minimum=2, idle=2)
    with pytest.raises(ValueError, match="trigger waiting has the target 0"):
        Trigger("waiting", 0)


# --- what always holds ------------------------------------------------------------------------------------------------

READINGS = st.none() | st.integers(0, 9)


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(1, 400), READINGS, READINGS), max_size=30),
    st.booleans(),
)
def test_the_last_replica_stops_only_after_a_whole_cooldown_without_anything_active(
    minimum: int, looks: list[tuple[int, int | None, int | None]], has_fallback: bool
) -> None:
    found = scaled(minimum=minimum, fallback=Fallback(1, 2) if has_fallback else None)
    state, current, now, active_at = BORN, max(1, minimum), 0.0, None
    for wait_s, waiting, running in looks:
        now += wait_s
        state, decision = decide(found, state, current, load(waiting, running), now)
        failed = waiting is None or running is None
        if (waiting or running) and (not failed or current == 0):
            active_at = now
        if decision.after == 0 and current > 0:
            assert minimum == 0
            assert not failed
            assert active_at is None or now > active_at + found.cooldown_s
        assert decision.after in (current, max(1, minimum), 0)
        current = decision.after

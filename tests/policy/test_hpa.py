"""The HPA's arithmetic: the cases of its own tests, the trace of a whole scale-up, and what always holds."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy import hpa
from stoker.policy.hpa import Autoscaler, Behavior, Metric, Policy, Replicas, Rules, State, decide, propose

NOW = 100_000.0
AT_ONCE = Rules(0.0, (Policy("Percent", 100, 15.0),))


def asks(replicas: int) -> Metric:
    """A metric that asks for exactly so many replicas, and is never near enough to what there is."""
    return Metric("load", replicas * 1000, 1000)


def exactly(maximum: int = 10_000, *, minimum: int = 0, up: Rules = hpa.UP, down: Rules = AT_ONCE) -> Autoscaler:
    """One without tolerance, so that what a metric asks for is what is limited."""
    no = Fraction(0)
    return Autoscaler(
        minimum,
        maximum,
        Behavior(
            Rules(up.stabilization_s, up.policies, up.select, no),
            Rules(down.stabilization_s, down.policies, down.select, no),
        ),
    )


def run(scaler: Autoscaler, current: int, desired: int, state: State | None = None) -> int:
    many = Replicas(current, current, current)
    return decide(scaler, state or State(recommendations=()), many, [asks(desired)], NOW)[1].after


def rules(*policies: Policy, select: hpa.Select = "Max", window_s: float = 0.0) -> Rules:
    return Rules(window_s, policies, select)


def pods(value: int, period_s: float = 15.0) -> Policy:
    return Policy("Pods", value, period_s)


def percent(value: int, period_s: float = 15.0) -> Policy:
    return Policy("Percent", value, period_s)


# --- what one metric asks for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "replicas", "value", "target", "expected"),
    [
        pytest.param("AverageValue", Replicas(3, 3, 3), 8600, 2150, 4, id="case 1"),
        pytest.param("AverageValue", Replicas(5, 5, 5), 8600, 2867, 3, id="case 2"),
        pytest.param("Value", Replicas(1, 1, 1), 8600, 4400, 2, id="case 3"),
        pytest.param("Value", Replicas(3, 3, 1), 8600, 4400, 2, id="case 4"),  # 6 if those that are not ready counted
        pytest.param("Value", Replicas(5, 5, 5), 8600, 14334, 3, id="case 5"),
        pytest.param("AverageValue", Replicas(1, 0, 0), 8600, 2150, 4, id="nothing there yet to be near to"),
        pytest.param("AverageValue", Replicas(1, 0, 0), 0, 2150, 0, id="nothing there and nothing asked"),
        pytest.param("Value", Replicas(0, 0, 0), 8600, 4400, 2, id="at zero"),
    ],
)
def test_what_a_metric_asks_for(
    kind: hpa.MetricType, replicas: Replicas, value: int, target: int, expected: int
) -> None:
    assert propose(Autoscaler(1, 100), replicas, Metric("m", value, target, kind)).replicas == expected


@pytest.mark.parametrize(
    ("current", "total", "expected"),
    [
        pytest.param(35, 3700, 37, id="case 6"),
        pytest.param(37, 3800, 37, id="case 7"),
        pytest.param(37, 1000, 10, id="case 8"),
        pytest.param(10, 800, 10, id="case 9"),
    ],
)
def test_tolerances_of_both_directions(current: int, total: int, expected: int) -> None:
    """100 for each replica; 5 % more and 50 % less change nothing."""
    behavior = Behavior(
        Rules(0.0, hpa.UP.policies, tolerance=Fraction(5, 100)),
        Rules(0.0, hpa.DOWN.policies, tolerance=Fraction(1, 2)),
    )
    many = Replicas(current, current, current)
    metric = Metric("m", total * 1000, 100_000)
    assert propose(Autoscaler(1, 100, behavior), many, metric).replicas == expected
    assert decide(Autoscaler(1, 100, behavior), State(()), many, [metric], NOW)[1].after == expected


@pytest.mark.parametrize(
    ("value", "expected", "is_near"), [(11_000, 10, True), (11_001, 12, False), (9_000, 10, True), (8_999, 9, False)]
)
def test_the_edges_of_the_tolerance_belong_to_it(value: int, expected: int, is_near: bool) -> None:
    found = propose(Autoscaler(1, 100), Replicas(10, 10, 10), Metric("m", value, 1000))
    assert (found.replicas, found.is_within_tolerance) == (expected, is_near)


# --- stabilisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "desired", "expected"),
    [
        pytest.param([(120, 4), (60, 5)], 3, 5, id="case 10"),
        pytest.param([(60, 1), (60, 2)], 3, 3, id="case 11"),
        pytest.param([(600, 10), (540, 9)], 3, 3, id="case 12"),
        pytest.param([(600, 10), (60, 4), (120, 5), (540, 9)], 3, 5, id="case 13"),
    ],
)
def test_stabilisation_without_a_behavior(known: list[tuple[float, int]], desired: int, expected: int) -> None:
    state = State(tuple((NOW - age, number) for age, number in known))
    assert run(Autoscaler(1, 100), 100, desired, state) == expected


@pytest.mark.parametrize(
    ("known", "up_s", "down_s", "current", "desired", "expected"),
    [
        pytest.param([(0, 4), (0, 5)], 150, 0, 1, 7, 4, id="case 14"),
        pytest.param([(0, 4), (0, 5)], 150, 0, 1, 3, 3, id="case 15"),
        pytest.param([(60, 6), (120, 5), (180, 9), (6000, 10)], 150, 0, 1, 100, 5, id="case 16"),
        pytest.param([(120, 8), (240, 7)], 300, 0, 5, 10, 7, id="case 17"),
        pytest.param([(300, 5), (480, 4)], 0, 600, 8, 3, 5, id="case 18"),
    ],
)
def test_stabilisation_with_a_behavior(
    known: list[tuple[float, int]], up_s: float, down_s: float, current: int, desired: int, expected: int
) -> None:
    behavior = Behavior(rules(percent(10_000), window_s=up_s), rules(percent(100), window_s=down_s))
    at = [(NOW - age, number) for age, number in known]
    assert hpa.stabilized(behavior, at, current, desired, NOW) == expected


def test_what_was_asked_for_is_remembered_and_not_what_it_was_limited_to() -> None:
    state, _ = decide(exactly(3), State(()), Replicas(1, 1, 1), [asks(50)], NOW)
    assert state.recommendations == ((NOW, 50),)


def test_a_controller_that_has_just_started_does_not_scale_down_at_once() -> None:
    scaler = Autoscaler(1, 100)
    state, decision = decide(scaler, State(), Replicas(7, 7, 7), [asks(1)], 0.0)
    assert (decision.after, decision.asked, decision.limits) == (7, 1, ("stabilization down",))
    assert decide(scaler, state, Replicas(7, 7, 7), [asks(1)], 300.0)[1].after == 7
    assert decide(scaler, state, Replicas(7, 7, 7), [asks(1)], 300.1)[1].after == 1


# --- rate limits ------------------------------------------------------------------------------------------------------

UP_EVENTS = State((), added=tuple((NOW - 60, number) for number in (1, 5, 9)))


def down_events(*numbers: int) -> State:
    return State((), removed=tuple((NOW - 60, number) for number in numbers))


@pytest.mark.parametrize(
    ("policies", "current", "desired", "expected", "state"),
    [
        pytest.param(hpa.UP.policies, 10, 50, 20, None, id="case 19"),
        pytest.param((pods(100), percent(100)), 10, 500, 110, None, id="case 20"),
        pytest.param((pods(2), percent(100)), 10, 500, 20, None, id="case 21"),
        pytest.param((pods(30),), 10, 50, 40, None, id="case 22"),
        pytest.param((percent(200),), 10, 50, 30, None, id="case 23"),
        pytest.param((pods(150, 120.0),), 100, 500, 235, UP_EVENTS, id="case 28"),
        pytest.param((percent(200, 120.0),), 100, 500, 255, UP_EVENTS, id="case 29"),
        # It rose by more than that already, and does not fall for it.
        pytest.param((pods(5, 120.0),), 100, 500, 100, UP_EVENTS, id="case 30"),
        pytest.param((percent(1),), 3, 1000, 4, None, id="case 36"),
        pytest.param((percent(10),), 10, 1000, 11, None, id="exactly, where a float says 12"),
    ],
)
def test_how_fast_up(
    policies: tuple[Policy, ...], current: int, desired: int, expected: int, state: State | None
) -> None:
    assert run(exactly(up=rules(*policies)), current, desired, state) == expected


@pytest.mark.parametrize(
    ("policies", "current", "desired", "expected", "state"),
    [
        pytest.param((pods(20), percent(1)), 100, 2, 80, None, id="case 24"),
        pytest.param((pods(2), percent(1)), 100, 2, 98, None, id="case 25"),
        pytest.param((pods(5),), 10, 2, 5, None, id="case 26"),
        pytest.param((percent(50),), 10, 5, 5, None, id="case 27"),
        pytest.param((pods(5, 120.0),), 100, 2, 100, down_events(1, 5, 9), id="case 32"),
        pytest.param((percent(50, 120.0),), 100, 0, 56, down_events(2, 4, 6), id="case 33"),
        pytest.param((percent(10, 120.0),), 100, 2, 100, down_events(10, 10, 10), id="case 34"),
        pytest.param((percent(1000, 120.0),), 10, 5, 5, None, id="case 35"),
    ],
)
def test_how_fast_down(
    policies: tuple[Policy, ...], current: int, desired: int, expected: int, state: State | None
) -> None:
    assert run(exactly(down=rules(*policies)), current, desired, state) == expected


@pytest.mark.parametrize(
    ("limit", "current", "expected"),
    [pytest.param(hpa.up_limit, 1, 2, id="case 37"), pytest.param(hpa.down_limit, 5, 3, id="case 38")],
)
def test_the_policy_that_allows_least(
    limit: Callable[[Rules, State, int, float], int], current: int, expected: int
) -> None:
    assert limit(rules(pods(2), percent(50), select="Min"), State(()), current, NOW) == expected


def test_a_direction_that_is_disabled_is_not_taken() -> None:
    up, down = rules(pods(4), select="Disabled"), rules(percent(100), select="Disabled")
    assert run(exactly(up=up), 3, 9) == 3
    assert run(exactly(down=down), 3, 1) == 3


@pytest.mark.parametrize(("current", "maximum", "expected"), [pytest.param(100, 200, 200, id="case 31")])
def test_the_maximum_goes_before_a_policy_that_allows_more(current: int, maximum: int, expected: int) -> None:
    scaler = exactly(maximum, up=rules(pods(300)))
    _, decision = decide(scaler, State(()), Replicas(current, current, current), [asks(500)], NOW)
    assert (decision.after, decision.asked, decision.limits) == (expected, 500, ("maximum",))


@pytest.mark.parametrize(
    ("current", "desired", "minimum", "maximum", "expected"),
    [
        pytest.param(3, 1000, 1, 2000, 6, id="case 39, no faster than twice"),
        pytest.param(20, 1000, 1, 10, 10, id="case 39, the maximum"),
        pytest.param(1, 0, 0, 10, 0, id="case 39, to none"),
    ],
)
def test_how_fast_without_a_behavior(current: int, desired: int, minimum: int, maximum: int, expected: int) -> None:
    assert run(Autoscaler(minimum, maximum), current, desired) == expected


def test_a_whole_scale_up_with_the_defaults() -> None:
    """50 are asked for all the time; each sync of 15 s finds the events of the one before just expired."""
    scaler, state, current, seen = Autoscaler(1, 100, Behavior()), State(), 1, []
    for sync in range(5):
        state, decision = decide(scaler, state, Replicas(current, current, current), [asks(50)], sync * 15.0)
        current = decision.after
        seen.append((decision.after, decision.limits))
    assert seen == [(5, ("rate up",)), (10, ("rate up",)), (20, ("rate up",)), (40, ("rate up",)), (50, ())]


def test_a_sync_that_comes_early_adds_what_is_left_of_the_period() -> None:
    scaler = Autoscaler(1, 100, Behavior())
    state, first = decide(scaler, State(), Replicas(10, 10, 10), [asks(50)], 0.0)
    _, second = decide(scaler, state, Replicas(20, 20, 20), [asks(50)], 14.0)
    _, third = decide(scaler, state, Replicas(20, 20, 20), [asks(50)], 15.0)
    assert (first.after, second.after, third.after) == (20, 20, 40)


# --- guards and several metrics ---------------------------------------------------------------------------------------


def test_at_zero_only_keda_starts_the_first() -> None:
    _, decision = decide(Autoscaler(1, 10), State(), Replicas(0, 0, 0), [asks(5)], NOW)
    assert (decision.after, decision.reason) == (0, "at zero")


@pytest.mark.parametrize(
    ("current", "after", "reason"), [(20, 10, "above maximum"), (1, 2, "below minimum"), (10, 10, "metric")]
)
def test_who_is_out_of_range_comes_back_whatever_is_asked_for(current: int, after: int, reason: str) -> None:
    _, decision = decide(Autoscaler(2, 10), State(), Replicas(current, current, current), [asks(10)], NOW)
    assert (decision.after, decision.reason) == (after, reason)


def test_the_metric_that_asks_for_most_counts_and_is_named() -> None:
    metrics = [Metric("waiting", 8_000, 4_000), Metric("running", 9_000, 3_000)]
    _, decision = decide(exactly(), State(()), Replicas(1, 1, 1), metrics, NOW)
    assert (decision.after, decision.by) == (3, "running")
    assert [one.replicas for one in decision.proposals] == [2, 3]


def test_a_metric_that_cannot_be_read_keeps_replicas_but_does_not_stop_more() -> None:
    broken = Metric("waiting", None, 1000)
    two = Replicas(2, 2, 2)
    assert decide(exactly(), State(()), two, [broken], NOW)[1].reason == "no metric"
    fewer = decide(exactly(), State(()), two, [broken, asks(1)], NOW)[1]
    more = decide(exactly(), State(()), two, [broken, asks(4)], NOW)[1]
    assert (fewer.after, fewer.reason, more.after, more.reason) == (2, "no metric", 4, "metric")


# --- what always holds ------------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 60)
POLICIES = st.lists(
    st.builds(Policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.sampled_from([15.0, 60.0])),
    min_size=1,
    max_size=3,
).map(tuple)
RULES = st.builds(Rules, st.sampled_from([0.0, 60.0, 300.0]), POLICIES, st.sampled_from(["Max", "Min", "Disabled"]))
SCALERS = st.builds(
    lambda ends, behavior: Autoscaler(min(ends), max(*ends, 1), behavior),
    st.tuples(st.integers(0, 20), st.integers(1, 40)),
    st.none() | st.builds(Behavior, RULES, RULES),
)
LOADS = st.lists(st.tuples(st.integers(1, 40), st.none() | NUMBERS), min_size=1, max_size=25)


def states(scaler: Autoscaler, loads: list[tuple[int, int | None]], current: int) -> tuple[State, int, float]:
    state, now = State(), 0.0
    for wait_s, load in loads:
        now += wait_s
        metric = Metric("load", None if load is None else load * 1000, 1000)
        state, decision = decide(scaler, state, Replicas(current, current, current), [metric], now)
        assert scaler.minimum <= decision.after <= scaler.maximum or (current == 0 and decision.after == 0)
        current = decision.after
    return state, current, now


@given(SCALERS, LOADS, NUMBERS)
def test_replicas_are_never_out_of_range(scaler: Autoscaler, loads: list[tuple[int, int | None]], current: int) -> None:
    states(scaler, loads, current)


@given(SCALERS, LOADS, NUMBERS, st.tuples(NUMBERS, NUMBERS), st.integers(1, 40))
def test_more_load_never_means_fewer_replicas(
    scaler: Autoscaler,
    loads: list[tuple[int, int | None]],
    current: int,
    last: tuple[int, int],
    wait_s: int,
) -> None:
    state, current, now = states(scaler, loads, current)
    many = Replicas(current, current, current)
    after = [decide(scaler, state, many, [asks(load)], now + wait_s)[1].after for load in sorted(last)]
    assert after[0] <= after[1]


@given(LOADS, st.sampled_from([30.0, 300.0, 900.0]))
def test_a_scale_down_waits_until_what_was_asked_for_is_older_than_the_window(
    loads: list[tuple[int, int | None]], window_s: float
) -> None:
    """Whatever comes, replicas do not fall below anything that was asked for less than the window ago."""
    scaler = exactly(100, minimum=1, up=rules(pods(1000)), down=rules(percent(100), window_s=window_s))
    state, current, now, asked = State(), 1, 0.0, []
    for wait_s, load in loads:
        now += wait_s
        metric = Metric("load", None if load is None else load * 1000, 1000)
        state, decision = decide(scaler, state, Replicas(current, current, current), [metric], now)
        if load is not None:
            asked.append((now, max(1, load)))
        if decision.after < current:
            assert decision.after >= max(number for at, number in asked if at > now - window_s)
        current = decision.after

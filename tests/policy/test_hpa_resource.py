"""The HPA's arithmetic on what pods use themselves: those that are not ready, those that nobody measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.hpa import (
    Autoscaler,
    Metric,
    PodMetric,
    PodSample,
    Replicas,
    State,
    decide,
    propose_by_pods,
)

NOW = 10_000.0
SCALER = Autoscaler(1, 100)


def used(*cores: float | None, request: int = 1000, **changes: object) -> list[PodSample]:
    """Pods that have run for long, and use so many cores."""
    return [
        PodSample(None if each is None else int(each * 1000), request, **changes)  # type: ignore[arg-type]
        for each in cores
    ]


def share(pods: list[PodSample], target: int, *, is_cpu: bool = True) -> PodMetric:
    return PodMetric("cpu", pods, target * 1000, "Utilization", is_cpu)


def asked(metric: PodMetric, current: int) -> int | None:
    return propose_by_pods(SCALER, current, metric, NOW).replicas


def test_a_share_is_of_what_the_pods_request() -> None:
    """0.3, 0.5 and 0.7 of 1 core: 50 per cent of 3, against 30: 5."""
    found = propose_by_pods(SCALER, 3, share(used(0.3, 0.5, 0.7), 30), NOW)
    assert (found.replicas, found.value) == (5, 50_000)


def test_a_share_is_cut_to_a_whole_per_cent_before_it_is_compared() -> None:
    """659 of 1000 is 65 per cent, and 65 is within a tenth of 60; 66 would not be exactly so: 1.1."""
    assert asked(share(used(0.659), 60), 1) == 1
    assert asked(share(used(0.669), 60), 1) == 2 - 1  # 66 / 60 is 1.1, the edge of the tolerance
    assert asked(share(used(0.67), 60), 1) == 2


def test_a_value_of_pods_is_compared_with_its_mean() -> None:
    metric = PodMetric("waiting", used(12, 12, 12, request=0), 5000)
    assert asked(metric, 3) == 8  # 3 x 12 / 5 = 7.2


def test_pods_that_are_not_ready_count_as_idle_on_the_way_up() -> None:
    pods = [*used(0.9, 0.9), *used(0.9, is_ready=False, started_at=NOW - 60)]
    assert asked(share(pods, 50), 3) == 4  # 1.8 of 3 cores: 60 per cent, 3 x 1.2; not 6
    assert asked(share(used(0.9, 0.9, 0.9), 50), 3) == 6


def test_where_that_turns_it_round_nothing_changes() -> None:
    pods = [*used(0.6), *used(0.6, 0.6, is_pending=True)]
    assert asked(share(pods, 50), 3) == 3  # 20 per cent with the idle ones: fewer would be asked for


def test_pods_that_are_not_ready_do_not_count_on_the_way_down() -> None:
    pods = [*used(0.2, 0.2), *used(1.0, is_pending=True)]
    assert asked(share(pods, 50), 3) == 1  # of the two that run: 2 x 0.4


@pytest.mark.parametrize(
    ("measured", "missing", "target", "expected"),
    [
        pytest.param((0.2, 0.2), 1, 60, 3, id="on the way down it uses all it requests"),  # 46 of 60: 3 x 0.77
        pytest.param((0.1, 0.1, 0.1), 1, 60, 3, id="and so holds one more"),  # 32 of 60: 4 x 0.53 = 2.1 -> 3
        pytest.param((1.2, 1.2), 1, 50, 5, id="on the way up, nothing"),  # 80 of 50: 3 x 1.6 = 4.8
        pytest.param((0.8,), 2, 50, 3, id="unless that turns it round"),  # 26 of 50
    ],
)
def test_pods_that_nobody_measured(measured: tuple[float, ...], missing: int, target: int, expected: int) -> None:
    pods = [*used(*measured), *used(*[None] * missing)]
    assert asked(share(pods, target), len(pods)) == expected


def test_a_target_above_what_is_requested_is_what_a_missing_one_is_thought_to_use() -> None:
    """2 x 0.5 and one at 150 per cent: 83 of 150, 3 x 0.55."""
    assert asked(share([*used(0.5, 0.5), *used(None)], 150), 3) == 2


def test_of_a_plain_value_a_missing_pod_is_at_the_target_on_the_way_down() -> None:
    metric = PodMetric("waiting", [*used(1, 1, request=0), *used(None, request=0)], 4000)
    assert asked(metric, 3) == 2  # (1 + 1 + 4) / 3 = 2 of 4: 3 x 0.5


@pytest.mark.parametrize(
    ("pod", "counts"),
    [
        pytest.param(PodSample(900, 1000, started_at=NOW - 299, ready_changed_at=NOW - 100), True, id="ready early"),
        pytest.param(
            PodSample(900, 1000, started_at=NOW - 299, ready_changed_at=NOW - 20, measured_at=NOW, window_s=30),
            False,
            id="measured while it started",
        ),
        pytest.param(
            PodSample(900, 1000, started_at=NOW - 299, ready_changed_at=NOW - 30, measured_at=NOW, window_s=30),
            True,
            id="measured since it was ready",
        ),
        pytest.param(PodSample(900, 1000, is_ready=False, started_at=NOW - 299), False, id="not ready, and young"),
        pytest.param(
            PodSample(900, 1000, is_ready=False, started_at=NOW - 301, ready_changed_at=NOW - 280),
            False,
            id="never was ready",
        ),
        pytest.param(
            PodSample(900, 1000, is_ready=False, started_at=NOW - 301, ready_changed_at=NOW - 271),
            True,
            id="was ready, and is no longer",
        ),
        pytest.param(PodSample(900, 1000, started_at=None), False, id="not started"),
    ],
)
def test_whose_cpu_counts(pod: PodSample, counts: bool) -> None:
    """Beside one at 90 per cent of which 50 are wanted: 4 if both count, else 45 over two, which is near enough."""
    if pod.measured_at == 0:
        pod = PodSample(pod.value, 1000, pod.is_ready, pod.ready_changed_at, pod.started_at, NOW)
    pods = [*used(0.9), pod]
    assert asked(share(pods, 50), 2) == (4 if counts else 2)
    assert asked(share(pods, 50, is_cpu=False), 2) == 4  # of any other metric all count


def test_pods_that_leave_are_not_there() -> None:
    assert asked(share([*used(0.9, 0.9), *used(0.0, is_leaving=True)], 50), 2) == 4


@pytest.mark.parametrize("pods", [[], used(None), used(0.5, is_pending=True), used(0.5, request=0)])
def test_without_a_measurement_nothing_is_asked_for(pods: list[PodSample]) -> None:
    assert asked(share(pods, 50), 2) is None
    _, decision = decide(SCALER, State(()), Replicas(2, 2, 2), [share(pods, 50)], NOW)
    assert (decision.after, decision.reason) == (2, "no metric")


def test_it_stands_beside_external_metrics_and_the_largest_counts() -> None:
    metrics = [Metric("waiting", 8000, 4000), share(used(0.9, 0.9), 60)]
    _, decision = decide(SCALER, State(()), Replicas(2, 2, 2), metrics, NOW)
    assert (decision.after, decision.by) == (3, "cpu")


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 3000)), min_size=1, max_size=8),
    st.integers(1, 200),
    st.integers(1, 20),
)
def test_pods_that_are_missing_never_turn_the_direction_round(
    values: list[int | None], target: int, current: int
) -> None:
    known = [each for each in values if each is not None]
    pods = [PodSample(each, 1000) for each in values]
    found = propose_by_pods(SCALER, len(pods), share(pods, target), NOW)
    if found.replicas is None:
        assert not known
    elif sum(known) * 100 // (1000 * len(known)) > target:
        assert found.replicas >= len(pods)
    else:
        assert found.replicas <= len(pods)

"""How many Jobs a ScaledJob makes: the cases of KEDA's documentation, and each strategy."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.keda_jobs import Calculation, Kind, Queue, ScaledJob, Strategy, created, wanted


def queue(length: int, target: int = 1, *, is_active: bool = True) -> Queue:
    return Queue(length * 1000, target * 1000, is_active)


def job(maximum: int = 100, kind: Kind = "default", **changes: object) -> ScaledJob:
    return ScaledJob(maximum=maximum, strategy=Strategy(kind), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "maximum", "target", "running", "expected"),
    [
        pytest.param(10, 3, 1, 0, 3, id="doc 1"),
        pytest.param(10, 3, 2, 0, 3, id="doc 2"),
        pytest.param(10, 3, 1, 1, 2, id="doc 3"),
        pytest.param(10, 100, 1, 0, 10, id="doc 4"),
        pytest.param(4, 3, 5, 0, 1, id="doc 5"),
    ],
)
def test_the_cases_of_the_documentation(length: int, maximum: int, target: int, running: int, expected: int) -> None:
    assert created(job(maximum), [queue(length, target)], running) == expected


@pytest.mark.parametrize(
    ("calculation", "expected"), [("max", (6, 12)), ("min", (1, 2)), ("avg", (4, 7)), ("sum", (7, 14))]
)
def test_several_queues_are_put_together(calculation: Calculation, expected: tuple[int, int]) -> None:
    found = wanted(ScaledJob(calculation=calculation), [queue(12, 2), queue(2, 2)])
    assert (found.jobs, found.queued) == expected


def test_a_queue_that_is_not_active_does_not_count() -> None:
    queues = [queue(12, 2, is_active=False), queue(2, 2)]
    assert created(job(), queues, 0) == 1
    assert created(job(), [queue(12, is_active=False)], 0) == 0


def test_each_queue_asks_for_no_more_than_the_maximum_before_they_are_added() -> None:
    assert wanted(ScaledJob(maximum=5, calculation="avg"), [queue(100), queue(1)]).jobs == 3


def test_custom_takes_off_a_number_and_a_share_of_those_that_run() -> None:
    strategy = Strategy("custom", deduction=2, running_percent=Fraction(1, 2))
    assert created(ScaledJob(maximum=50, strategy=strategy), [queue(20)], 7) == 15  # 20 - 2 - 3


@pytest.mark.parametrize(
    ("running", "pending", "expected"),
    [
        pytest.param(2, 0, 3, id="those that run have taken theirs out of the queue"),
        pytest.param(2, 1, 2, id="and those that do not yet have not"),
        pytest.param(8, 0, 2, id="but no more than the maximum at once"),
    ],
)
def test_accurate(running: int, pending: int, expected: int) -> None:
    assert created(job(10, "accurate"), [queue(3)], running, pending) == expected


def test_eager_fills_up_to_the_maximum_and_looks_at_the_queue_no_more() -> None:
    assert created(job(10, "eager"), [queue(3)], 3) == 3
    assert created(job(10, "eager"), [queue(3)], 8, 1) == 1
    assert created(job(10, "eager"), [queue(30)], 2, 2) == 6


def test_the_minimum_is_made_first_and_then_does_not_count() -> None:
    scaled = job(10, minimum=3)
    assert created(scaled, [], 1) == 2
    assert created(scaled, [], 3) == 0
    assert created(scaled, [queue(2)], 3) == 2


def test_there_are_never_more_jobs_than_messages() -> None:
    assert created(ScaledJob(), [Queue(500, 100)], 0) == 1  # half a message asks for 5


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="target 0"):
        Queue(1, 0)
    with pytest.raises(ValueError, match="minimum 3 and maximum 2"):
        ScaledJob(minimum=3, maximum=2)


@given(
    st.integers(0, 200),
    st.integers(1, 20),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from(["default", "accurate", "eager"]),
)
def test_never_more_than_the_maximum_at_once(length: int, target: int, running: int, pending: int, kind: Kind) -> None:
    """Of those that run, no more than all can be pending."""
    number = created(job(20, kind), [queue(length, target)], running, min(pending, running))
    assert number >= 0
    assert running + number <= max(20, running)

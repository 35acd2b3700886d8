"""What autoscalers read: as old as their sources are, and as smooth."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.simulate.scenario import Signal
from stoker.simulate.serving import Counts
from stoker.simulate.signals import History, value, zone_of


def counts(**changes: int) -> Counts:
    nothing = Counts(0, 0, 0, 0, 0, 0, 0, 0)
    return nothing._replace(**changes)


def waiting(*numbers: int, every_s: float = 10.0) -> History:
    """A sample each 10 s from 0 on."""
    history = History()
    for index, number in enumerate(numbers):
        history.append(index * every_s, counts(waiting=number))
    return history


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("waiting", 7_000),
        ("pending", 5_000),
        ("in_flight", 5_000),
        ("length", 12_000),
        ("running", 3_000),
        ("engine_waiting", 2_000),
    ],
)
def test_counts_at_that_moment(kind: str, expected: int) -> None:
    history = History()
    history.append(0.0, counts(waiting=7, pending=5, running=3, engine_waiting=2))
    assert value(Signal(kind), history, 0.0) == expected  # type: ignore[arg-type]


def test_the_last_sample_holds_and_before_the_first_there_was_nothing() -> None:
    history = History()
    history.append(10.0, counts(waiting=4))
    assert [value(Signal("waiting"), history, now) for now in (9.9, 10.0, 99.0)] == [0, 4000, 4000]


def test_a_delay_shows_the_last_multiple() -> None:
    """A scrape every 30 s: at 59 s still what was there at 30."""
    history = waiting(0, 1, 2, 3, 4, 5, 6)
    old = Signal("waiting", delay_s=30.0)
    assert [value(old, history, now) for now in (29.0, 30.0, 59.9, 60.0)] == [0, 3000, 3000, 6000]


def test_a_window_is_a_mean_over_time_and_not_over_samples() -> None:
    history = History()
    history.append(0.0, counts(waiting=10))
    history.append(45.0, counts(waiting=30))
    history.append(60.0, counts(waiting=0))
    assert value(Signal("waiting", window_s=60.0), history, 60.0) == 15_000  # 45 s of 10, 15 s of 30
    assert value(Signal("waiting", window_s=60.0, delay_s=60.0), history, 119.0) == 15_000


def test_a_rate_is_what_grew_in_the_window() -> None:
    history = History()
    for second in range(0, 301, 15):
        history.append(second, counts(served=second * 2, tokens=second * 300))
    assert value(Signal("requests_per_s", window_s=60.0), history, 300.0) == 2_000
    assert value(Signal("tokens_per_s", window_s=120.0), history, 300.0) == 300_000
    assert value(Signal("requests_per_s"), history, 300.0) == 2_000  # since the sample before


def test_a_rate_over_more_than_there_is_grows_from_nothing() -> None:
    history = History()
    history.append(0.0, counts())
    history.append(30.0, counts(served=60))
    assert value(Signal("requests_per_s", window_s=300.0), history, 30.0) == 200
    assert value(Signal("requests_per_s"), History(), 30.0) == 0


def test_a_utilisation_is_the_share_of_the_time_of_those_that_were_ready() -> None:
    """Two replicas for 60 s, the second for the last 30: 90 s, of which 45 were busy."""
    history = History()
    history.append(0.0, counts(), ready=1, busy_s=0.0)
    history.append(30.0, counts(), ready=2, busy_s=15.0)
    history.append(60.0, counts(), ready=2, busy_s=45.0)
    assert value(Signal("gpu_utilization", window_s=60.0), history, 60.0) == 50_000
    assert value(Signal("gpu_utilization"), history, 60.0) == 50_000  # 30 of 60 since the sample before
    assert value(Signal("gpu_utilization", across="sum"), history, 60.0) == 100_000
    assert value(Signal("cpu_utilization", factor=Fraction(1, 4)), history, 60.0) == 12_500


def test_without_replicas_nothing_is_used() -> None:
    history = History()
    history.append(0.0, counts())
    history.append(30.0, counts())
    assert value(Signal("gpu_utilization"), history, 30.0) == 0
    assert value(Signal("running", across="mean"), history, 30.0) == 0


def test_over_replicas() -> None:
    history = History()
    history.append(0.0, counts(running=9), ready=4, kv_usage=0.5)
    assert value(Signal("running", across="mean"), history, 0.0) == 2_250
    assert value(Signal("kv_usage"), history, 0.0) == 500
    assert value(Signal("kv_usage", across="sum"), history, 0.0) == 2_000
    assert value(Signal("running", factor=Fraction(1, 8)), history, 0.0) == 1_125


def test_a_share_is_not_cut_by_what_a_binary_fraction_lacks() -> None:
    for thousandths in range(1001):
        history = History()
        history.append(0.0, counts(), ready=1, kv_usage=thousandths / 1000)
        assert value(Signal("kv_usage"), history, 0.0) == thousandths


def test_what_is_unknown_cannot_be_read_or_is_always_the_same() -> None:
    assert value(Signal("unknown"), History(), 5.0) is None
    assert value(Signal("unknown", otherwise=500_000), History(), 5.0) == 500_000


@pytest.mark.parametrize(
    ("hour", "expected"),
    [(7.99, 0), (8.0, 5_000), (12.0, 5_000), (17.99, 5_000), (18.0, 0), (24 + 9.0, 5_000), (5 * 24 + 9.0, 0)],
)
def test_a_cron_trigger_asks_for_its_replicas_from_start_to_end(hour: float, expected: int) -> None:
    """8 to 18 of New York's clock, Monday to Friday; the trace began on a Monday at midnight there."""
    began = datetime(2026, 1, 5, 5, 0, tzinfo=UTC)
    office = Signal("time", cron=("0 8 * * 1-5", "0 18 * * 1-5", "America/New_York", 5))
    assert value(office, History(began_at=began), hour * 3600) == expected


def test_a_schedule_that_never_begins_or_never_ends() -> None:
    never, daily = "0 0 30 2 *", "0 8 * * *"
    history = History()
    assert value(Signal("time", cron=(never, daily, "UTC", 5)), history, 0.0) == 0
    assert value(Signal("time", cron=(daily, never, "UTC", 5)), history, 0.0) == 5_000
    with pytest.raises(ValueError, match="Mars/Crater is no time zone"):
        zone_of("Mars/Crater")


def test_time_does_not_go_back_and_one_moment_has_one_sample() -> None:
    history = waiting(1, 2)
    history.append(10.0, counts(waiting=5))
    assert value(Signal("waiting"), history, 10.0) == 5_000
    with pytest.raises(ValueError, match="time does not go back"):
        history.append(9.0, counts())


def test_what_is_older_than_anybody_looks_is_forgotten() -> None:
    history = History(keep_s=60.0)
    for second in range(100_000):
        history.append(float(second), counts(waiting=second % 7))
    sample = history.at(99_939.0)
    assert sample is not None
    assert sample.at == 99_939.0
    assert history.at(90_000.0) is None


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 300), st.integers(0, 400))
def test_a_mean_is_between_the_least_and_the_most(numbers: list[int], window: int, now: int) -> None:
    found = value(Signal("waiting", window_s=float(window)), waiting(*numbers), float(now))
    assert found is not None
    assert 0 <= found <= max(numbers) * 1000

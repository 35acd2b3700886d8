"""When a schedule fires, and whether a budget with it is in force."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.cron import NEVER, fault, is_active, next_after

# A Friday; the Sunday after is the 1st of March.
FRIDAY = datetime(2026, 2, 27, 8, 59, 30, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [
        ("*/5 * * * *", ""),
        ("0 9-17 * jan,feb mon-fri", ""),
        ("@daily", ""),
        ("@every 1h30m", ""),
        ("@every soon", "@every soon is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"),
        ("0 0 * * 7", "the day of the week, 7: 7 is not from 0 to 6"),
        ("60 * * * *", "the minute, 60: 60 is not from 0 to 59"),
        ("*/0 * * * *", "the minute, */0: the step 0 is no whole number above 0"),
        ("5-1 * * * *", "the minute, 5-1: 5-1 ends before it begins"),
        ("* * * *", "has 4 fields; five are wanted: minute, hour, day, month, day of the week"),
        ("@noon", "@noon is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"),
    ],
)
def test_schedules(schedule: str, wrong: str) -> None:
    assert fault(schedule) == wrong


@pytest.mark.parametrize(
    ("schedule", "following"),
    [
        ("* * * * *", "2026-02-27 09:00"),
        ("0 9 * * mon-fri", "2026-02-27 09:00"),
        ("0 8 * * MON-FRI", "2026-03-02 08:00"),
        ("0 9 * * sun", "2026-03-01 09:00"),
        ("30 8 28 * *", "2026-02-28 08:30"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("*/20 * * * *", "2026-02-27 09:00"),
        ("5/20 * * * *", "2026-02-27 09:05"),
        ("5-30/20 10 * * ?", "2026-02-27 10:05"),
        ("0 3/7 * * *", "2026-02-27 10:00"),  # from 3 on: 3, 10, 17
        ("45,15 * * * *", "2026-02-27 09:15"),
        ("0 22-23,3 * * *", "2026-02-27 22:00"),
        ("0 0 1 jan *", "2027-01-01 00:00"),
        ("59 8 * * *", "2026-02-28 08:59"),  # it is past the minute
        # Restricted both: one of the two is enough. The 13th is a Friday only in March.
        ("0 0 13 * mon", "2026-03-02 00:00"),
        ("0 0 2 * wed", "2026-03-02 00:00"),
        # A star in one of them: both must match; with a step it is no star.
        ("0 0 13 * *", "2026-03-13 00:00"),
        ("0 0 * * wed", "2026-03-04 00:00"),
        ("0 0 */2 * sat", "2026-02-28 00:00"),  # a Saturday, and not an odd day
        ("0 0 */1 * sat", "2026-02-28 00:00"),
        ("@hourly", "2026-02-27 09:00"),
        ("@daily", "2026-02-28 00:00"),
        ("@midnight", "2026-02-28 00:00"),
        ("@weekly", "2026-03-01 00:00"),
        ("@monthly", "2026-03-01 00:00"),
        ("@yearly", "2027-01-01 00:00"),
        ("@annually", "2027-01-01 00:00"),
        ("@every 90s", "2026-02-27 09:01"),
        ("@every 10ms", "2026-02-27 08:59:31"),
    ],
)
def test_the_next_firing_after_a_friday_morning(schedule: str, following: str) -> None:
    assert next_after(schedule, FRIDAY) == at(following)


def test_the_moment_itself_does_not_count_and_a_fraction_before_it_does() -> None:
    assert next_after("0 9 * * *", at("2026-02-27 09:00")) == at("2026-02-28 09:00")
    assert next_after("0 9 * * *", at("2026-02-27 08:59:59.999999")) == at("2026-02-27 09:00")


def test_other_time_zones_are_read_as_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert next_after("0 9 * * *", datetime(2026, 2, 27, 10, 59, tzinfo=east)) == at("2026-02-27 09:00")
    assert next_after("0 9 * * *", datetime(2026, 2, 27, 8, 59)) == at("2026-02-27 09:00")


def test_a_day_that_never_comes_has_no_firing_and_is_active_all_the_same_as_in_karpenter() -> None:
    assert next_after("0 0 30 2 *", FRIDAY) == NEVER
    assert is_active("0 0 30 2 *", 60, FRIDAY)


def test_a_leap_day_within_five_years_is_found_and_one_beyond_is_not() -> None:
    assert next_after("0 0 29 2 *", at("2096-02-29 00:00")) == NEVER  # 2100 is no leap year
    assert next_after("0 0 29 2 *", at("2099-01-01 00:00")) == at("2104-02-29 00:00")


def test_a_schedule_with_a_fault_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the schedule '0 9 \* \*' has 4 fields"):
        next_after("0 9 * *", FRIDAY)


@pytest.mark.parametrize(
    ("moment", "active"),
    [
        ("2026-02-27 08:59:59", False),
        ("2026-02-27 09:00:00", True),
        ("2026-02-27 16:59:59", True),
        ("2026-02-27 17:00:00", False),  # the next firing after 09:00 is tomorrow's
        ("2026-02-28 12:00:00", False),  # a Saturday
    ],
)
def test_a_budget_of_eight_hours_is_on_from_its_firing_until_they_are_over(moment: str, active: bool) -> None:
    assert is_active("0 9 * * mon-fri", 8 * 3600, at(moment)) is active


def test_without_a_duration_a_schedule_is_never_on() -> None:
    assert not is_active("* * * * *", 0, at("2026-02-27 09:00"))


def test_every_minute_for_a_minute_is_always_on() -> None:
    assert all(is_active("* * * * *", 60, FRIDAY + timedelta(seconds=n)) for n in range(120))


def _listed(least: int, most: int, listed_most: int | None = None) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """A list of numbers as text, and the numbers; or a star."""
    numbers = st.frozensets(st.integers(least, listed_most or most), min_size=1, max_size=3)
    star = st.just(("*", frozenset(range(least, most + 1))))
    return st.one_of(star, numbers.map(lambda each: (",".join(map(str, sorted(each))), each)))


@given(
    minute=_listed(0, 59),
    hour=_listed(0, 23),
    day=_listed(1, 31, 28),
    weekday=_listed(0, 6),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)
def test_the_next_firing_is_the_first_minute_that_matches(
    minute: tuple[str, frozenset[int]],
    hour: tuple[str, frozenset[int]],
    day: tuple[str, frozenset[int]],
    weekday: tuple[str, frozenset[int]],
    start: datetime,
) -> None:
    def matches(moment: datetime) -> bool:
        days = moment.day in day[1], (moment.weekday() + 1) % 7 in weekday[1]
        on_day = all(days) if "*" in (day[0], weekday[0]) else any(days)
        return on_day and moment.hour in hour[1] and moment.minute in minute[1]

    found = next_after(f"{minute[0]} {hour[0]} {day[0]} * {weekday[0]}", start)

    assert found > start.replace(tzinfo=UTC)
    assert matches(found)
    walk = start.replace(second=0, microsecond=0, tzinfo=UTC) + timedelta(minutes=1)
    # Hours without a match are skipped, so that the walk is short.
    while walk < found:
        assert not matches(walk)
        same_hour = walk.hour in hour[1]
        walk += timedelta(minutes=1) if same_hour else timedelta(minutes=60 - walk.minute)

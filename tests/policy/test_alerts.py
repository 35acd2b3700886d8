"""When a budget's threshold is reached, and when nothing will be left of it."""

import pytest

from stoker.policy.alerts import Budget, budget_of, crossed, used_up_at
from stoker.policy.budgets import Limit, Plan, Scope, Unit, Window

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
EACH = [HALF, MOST, ALL] = [500_000, 800_000, 1_000_000]


@pytest.mark.parametrize(
    ("spent", "reached"),
    [
        (0, []),
        (499, []),
        (500, [HALF]),
        (799, [HALF]),
        (800, [HALF, MOST]),
        (1000, [HALF, MOST, ALL]),
        (1200, [HALF, MOST, ALL]),
    ],
)
def test_thresholds_are_reached_exactly_and_all_below_with_them(spent: int, reached: list[int]) -> None:
    assert crossed(spent, 1000, [ALL, HALF, MOST]) == reached


def test_large_amounts_are_exact_and_of_a_limit_of_nothing_all_is_used() -> None:
    assert crossed(2**52 - 1, 2**52, [ALL]) == []
    assert crossed(2**52, 2**52, [ALL]) == [ALL]
    assert crossed(0, 0, [HALF, ALL]) == [HALF, ALL]


@pytest.mark.parametrize("window", [Window.DAY, Window.MONTH, Window.TOTAL])
@pytest.mark.parametrize("unit", [Unit.TOKENS, Unit.NANO_USD])
def test_the_window_of_a_counter_is_read_from_its_name(window: Window, unit: Unit) -> None:
    [counter] = Plan([Limit(Scope("team", "acme/ops"), unit, window, 5)]).at(NOON)
    found = budget_of(counter.name)
    assert found is not None
    assert (found.kind, found.unit, found.window, found.ends_at) == ("team", unit, window, counter.renews_at)


def test_the_last_month_of_a_year_ends_with_it() -> None:
    assert budget_of("key:k:tokens:month:2026-12") == Budget(
        "key", Unit.TOKENS, Window.MONTH, 1_796_083_200.0, 1_798_761_600.0
    )


@pytest.mark.parametrize(
    "counter",
    [
        "session:acme/s:tokens:total",
        "run:acme/r:nano_usd:total",
        "tenant:acme:concurrent:total",
        "tenant:acme:requests:minute:2027-01-15T1200",
        "tenant:acme:tokens:minute:2027-01-15T1200",
    ],
)
def test_nobody_is_told_of_minutes_slots_sessions_and_runs(counter: str) -> None:
    assert budget_of(counter) is None


def test_the_forecast_goes_on_as_lately_until_the_window_ends() -> None:
    later = {"now": NOON, "lately_s": 3600.0, "ends_at": NOON + 43_200}
    assert used_up_at(left=500, spent_lately=250, **later) == NOON + 7200
    assert used_up_at(left=500, spent_lately=10, **later) is None
    assert used_up_at(left=500, spent_lately=10, now=NOON, lately_s=3600.0, ends_at=None) == NOON + 180_000
    assert used_up_at(left=500, spent_lately=0, **later) is None
    assert used_up_at(left=0, spent_lately=0, **later) == NOON

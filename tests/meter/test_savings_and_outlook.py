"""What was saved, what the month will cost, and the days that stand out: stories with exact figures."""

from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from stoker.meter import outlook, savings
from stoker.meter.bill_lines import Bill, Hours
from stoker.meter.lives import MachineLife, PriceStep
from stoker.meter.outlook import Day

HOUR = 3600.0
DAY = 24 * HOUR
FIRST = date(2026, 11, 1)
LAST = date(2026, 11, 22)
AT_FIRST = 1793491200.0


def machine(
    name: str, began_h: float, ended_h: float | None, capacity: str = "spot", usd: float = 0.25, why: str = ""
) -> MachineLife:
    return MachineLife(
        id=name,
        pool="gpu",
        capacity=capacity,
        type="g5.xlarge",
        zone="us-east-1a",
        nano_usd_per_hour=round(usd * 1e9),
        began_at=began_h * HOUR,
        seen_at=(10 if ended_h is None else ended_h) * HOUR,
        ended_at=None if ended_h is None else ended_h * HOUR,
        why=why,
    )


def one_dollar(_type: str, _zone: str) -> int:
    return 10**9


def test_spot_is_held_beside_the_on_demand_price_of_the_same_hours() -> None:
    found = savings.of_machines(
        [machine("a", 0, 4), machine("b", 2, 4, "on-demand", 1.0)], [], one_dollar, since=0, until=10 * HOUR
    )
    spot = found["spot"]
    assert (spot["hours"], spot["paid_usd"], spot["on_demand_usd"], spot["saved_usd"]) == (4, 1.0, 4.0, 3.0)
    assert spot["saved_percent"] == 75.0
    # At its peak the pool costs $1.25 an hour: $12.50 for ten hours, and $3 was paid.
    assert (found["scaling"]["at_peak_usd"], found["scaling"]["saved_usd"]) == (12.5, 9.5)
    # Nobody says why they ended.
    assert found["consolidation"]["saved_usd"] is None


def consolidation(*machines: MachineLife) -> dict[str, Any]:
    return savings.of_machines(machines, [], one_dollar, since=0, until=10 * HOUR)["consolidation"]


def test_what_was_taken_away_as_empty_would_have_been_there_until_its_pool_grew() -> None:
    one = machine("a", 0, 2, "on-demand", 1.0, "Empty")
    assert consolidation(one)["saved_usd"] == 8.0
    grown = machine("b", 5, None, "on-demand", 1.0)
    found = consolidation(one, grown)
    assert (found["saved_usd"], found["rows"]) == (3.0, [{"nodepool": "gpu", "machines": 1, "saved_usd": 3.0}])
    # Two went, and one came again: the other would be there still.
    assert consolidation(one, machine("c", 0, 3, "on-demand", 1.0, "Empty"), grown)["saved_usd"] == 3.0 + 7.0
    # What was interrupted or drifted was not taken away to save.
    assert consolidation(machine("a", 0, 2, "on-demand", 1.0, "Drifted"))["saved_usd"] == 0.0


def test_what_was_replaced_saves_the_difference_as_long_as_its_replacement_is_there() -> None:
    large = machine("a", 0, 2, "on-demand", 1.0, "Underutilized")
    assert consolidation(large, machine("b", 1.9, None, "on-demand", 0.25))["saved_usd"] == 8 * 0.75
    assert consolidation(large, machine("b", 1.9, 6, "on-demand", 0.25, "Drifted"))["saved_usd"] == 4 * 0.75
    # Two became one: one at the difference, the other whole; and what started long before replaced nothing.
    other = machine("c", 0, 2, "on-demand", 1.0, "Underutilized")
    assert consolidation(large, other, machine("b", 1.9, None, "on-demand", 0.25))["saved_usd"] == 6.0 + 8.0
    assert consolidation(large, machine("b", 1.5, None, "on-demand", 0.25))["saved_usd"] == 8.0


def test_a_type_without_a_price_saves_nothing_and_is_named() -> None:
    found = savings.of_machines([machine("a", 0, 4)], [], lambda *_: None, since=0, until=4 * HOUR)
    assert (found["spot"]["saved_usd"], found["spot"]["without_a_price"]) == (0.0, ["g5.xlarge"])


def test_savings_of_a_bill_are_of_its_hours() -> None:
    of = (("spot", "g5.xlarge", 10.0), ("on-demand", "m5.large", 5.0))
    bill = Bill("x", [], hours=[Hours(AT_FIRST, *each, Decimal(4)) for each in of])
    assert savings.of_bill(bill, one_dollar)["spot"]["saved_usd"] == 6.0


def steady(usd: float, days: int, **more: float) -> dict[date, Day]:
    return {FIRST + timedelta(days=i): Day(usd, **more) for i in range(days)}  # type: ignore[arg-type]


def test_the_rest_of_a_steady_month_costs_as_its_days_did() -> None:
    found = outlook.forecast({**steady(10, 20), date(2026, 11, 21): Day(5)}, AT_FIRST + 20.5 * DAY)
    assert (found["so_far_usd"], found["forecast_usd"]) == (205.0, 300.0)
    assert (found["low_usd"], found["high_usd"]) == (300.0, 300.0)
    # Twenty days hold no two weeks and the week that would have been forecast from them.
    assert (found["method"], found["back_test_error_percent"]) == ("weekdays", None)


def test_the_method_is_tried_on_weeks_that_are_over() -> None:
    usd = {on: day.usd for on, day in steady(10, 28).items()}
    assert outlook.back_test(usd) == 0.0
    # All weeks ahead cost 12.5 a day, and 10 were expected: a fifth too little.
    usd |= {on: 12.5 for on in usd if on >= FIRST + timedelta(days=14)}
    assert outlook.back_test({on: usd[on] for on in list(usd)[:21]}) == 0.2


def test_weekends_are_forecast_as_weekends() -> None:
    days = {
        day: Day(2.0 if day.weekday() >= 5 else 10.0)
        for i in range(21)
        if (day := date(2026, 11, 1) + timedelta(days=i))
    }
    # From Sunday the 22nd on: two weekends' days at $2 and one more Sunday, and six days at $10.
    ahead = [date(2026, 11, 22) + timedelta(days=i) for i in range(9)]
    expected = sum(2.0 if day.weekday() >= 5 else 10.0 for day in ahead)
    found = outlook.forecast(days, AT_FIRST + 21 * DAY)
    assert found["forecast_usd"] == found["so_far_usd"] + expected


def test_the_range_holds_most_months_that_are_noisy() -> None:
    random, held = Random(7), 0
    for _ in range(100):
        days = {FIRST + timedelta(days=i): Day(random.gauss(10, 2)) for i in range(30)}
        found = outlook.forecast({on: d for on, d in days.items() if on.day <= 20}, AT_FIRST + 20 * DAY)
        held += found["low_usd"] <= sum(d.usd for d in days.values()) <= found["high_usd"]
    assert 80 <= held <= 98


def test_without_a_day_there_is_no_forecast() -> None:
    assert outlook.forecast({}, AT_FIRST)["forecast_usd"] is None


def test_a_tenant_that_doubles_stands_out_with_its_tokens() -> None:
    days = {on: Day(10, requests=100, tokens=1_000_000) for on in steady(10, 20)}
    on = FIRST + timedelta(days=20)
    days[on] = Day(20, requests=100, tokens=2_000_000)
    (found,) = outlook.anomalies({"acme": days, "quiet": steady(1, 21)}, since=FIRST, until=LAST)
    assert (found["key"], found["day"], found["more_usd"]) == ("acme", "2026-11-21", 10.0)
    assert [(each["what"], each["is"], each["usual"]) for each in found["changed"]] == [
        ("tokens", 2_000_000, 1_000_000),
        ("work_usd", 20.0, 10.0),
    ]


def test_a_pool_that_stays_up_is_idle() -> None:
    days = {**steady(10, 20, idle_usd=2), FIRST + timedelta(days=20): Day(18, idle_usd=10)}
    (found,) = outlook.anomalies({"gpu": days}, since=FIRST, until=LAST)
    assert found["changed"] == [{"what": "idle_usd", "is": 10, "usual": 2}]


def test_a_price_that_jumps_is_told_as_a_price() -> None:
    days = {on: Day(10, requests=10, tokens=1_000_000) for on in steady(10, 20)}
    days[FIRST + timedelta(days=20)] = Day(30, requests=10, tokens=1_000_000)
    (found,) = outlook.anomalies({"general": days}, since=FIRST, until=LAST)
    assert found["changed"][0] == {"what": "usd_per_million_tokens", "is": 30.0, "usual": 10.0}


def test_there_is_nothing_to_say_of_a_quiet_month_nor_of_cents() -> None:
    random = Random(1)
    quiet = {FIRST + timedelta(days=i): Day(random.gauss(100, 3)) for i in range(30)}
    cents = {**steady(0.01, 29), FIRST + timedelta(days=29): Day(0.5)}
    assert outlook.anomalies({"a": quiet, "b": cents}, since=FIRST, until=date(2026, 12, 1)) == []


def test_a_platform_that_stopped_costing_stands_out_and_today_does_not() -> None:
    found = outlook.anomalies({"gpu": steady(40, 10)}, since=FIRST, until=FIRST + timedelta(days=12))
    assert [(each["day"], each["more_usd"]) for each in found] == [("2026-11-11", -40), ("2026-11-12", -40)]
    today = {**steady(40, 10), FIRST + timedelta(days=10): Day(1)}
    assert outlook.anomalies({"gpu": today}, since=FIRST, until=FIRST + timedelta(days=10)) == []


def test_weekends_stand_out_until_they_are_known() -> None:
    days = {on: Day(72 if on.weekday() > 4 else 24) for on in steady(1, 30)}
    found = outlook.anomalies({"gpu": days}, since=FIRST + timedelta(days=15), until=FIRST + timedelta(days=30))
    assert found == []
    days[FIRST + timedelta(days=27)] = Day(150)  # a Saturday
    (found,) = outlook.anomalies({"gpu": days}, since=FIRST + timedelta(days=15), until=FIRST + timedelta(days=30))
    assert (found["day"], found["usual_usd"]) == ("2026-11-28", 24)


def test_the_platforms_own_on_demand_price_comes_first() -> None:
    own = PriceStep(type="g5.xlarge", zone="us-east-1a", capacity="on-demand", at=0, nano_usd_per_hour=5)
    price = savings.list_prices([own])
    assert (price("g5.xlarge", "us-east-1a"), price("g5.xlarge", "us-east-1b")) == (5, 1_006_000_000)
    assert price("nothing.large", "us-east-1a") is None

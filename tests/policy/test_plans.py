"""A caller's plan makes each counter once for its window."""

from datetime import UTC, datetime

from stoker.policy.budgets import Limit, Plan, Scope, Unit, Window

KEY = Scope("key", "key_1")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


def test_only_the_counter_whose_window_is_over_is_made_anew() -> None:
    plan = Plan(
        [
            Limit(KEY, Unit.REQUESTS, Window.MINUTE, 5),
            Limit(KEY, Unit.TOKENS, Window.DAY, 100),
            Limit(KEY, Unit.NANO_USD, Window.TOTAL, 7),
        ]
    )
    minute, day, total = plan.at(NOON)
    next_minute, same_day, same_total = plan.at(NOON + 60)
    assert (minute.name, next_minute.name) == (
        "key:key_1:requests:minute:2026-11-23T1200",
        "key:key_1:requests:minute:2026-11-23T1201",
    )
    assert same_day is day
    assert same_total is total
    assert plan.at(NOON)[0].name == minute.name
    _, next_day, _ = plan.at(NOON + 12 * 3600)
    assert (day.name, next_day.name) == ("key:key_1:tokens:day:2026-11-23", "key:key_1:tokens:day:2026-11-24")


def test_of_two_limits_on_one_counter_the_lower_one_counts_where_the_first_stood() -> None:
    plan = Plan(
        [
            Limit(KEY, Unit.TOKENS, Window.TOTAL, 9),
            Limit(KEY, Unit.NANO_USD, Window.TOTAL, 7),
            Limit(Scope("key", "key_1"), Unit.TOKENS, Window.TOTAL, 3),
        ]
    )
    assert [(counter.name, counter.limit) for counter in plan.at(NOON)] == [
        ("key:key_1:tokens:total", 3),
        ("key:key_1:nano_usd:total", 7),
    ]

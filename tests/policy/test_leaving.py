"""Until when work may go on after a notice, and how long a notice stands."""

import math

import pytest

from stoker.policy.leaving import Action, Notice, Standing, finish_by, looked, unanswered

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("action", "at", "reserve_s", "finish"),
    [
        ("terminate", NOW + 120, 10.0, NOW + 110),
        ("stop", NOW + 120, 10.0, NOW + 110),
        ("terminate", NOW + 120, 0.0, NOW + 120),
        ("terminate", NOW + 10, 10.0, NOW),
        ("terminate", NOW + 3, 10.0, NOW),  # seen late
        ("terminate", NOW - 600, 10.0, NOW),  # a clock that is wrong, or an instance that goes on living
        ("stop", None, 10.0, NOW),  # a time that nobody can read
        ("hibernate", NOW + 120, 10.0, NOW),  # it has begun
        ("hibernate", None, 10.0, NOW),
        ("rebalance", None, 10.0, math.inf),
    ],
)
def test_until_when_tasks_may_go_on(action: Action, at: float | None, reserve_s: float, finish: float) -> None:
    assert finish_by(Notice(action, at), now=NOW, reserve_s=reserve_s) == finish


FIRST, OTHER = Notice("terminate", NOW + 120), Notice("hibernate", NOW + 60)


@pytest.mark.parametrize(
    ("looks", "stands"),
    [
        ("", None),
        ("-", None),
        ("F", FIRST),
        ("FO", OTHER),
        ("F-", FIRST),  # a glitch
        ("F-F-", FIRST),  # another one
        ("F--", None),
        ("F--F", FIRST),
        ("F?", FIRST),
        ("F???", FIRST),  # silence withdraws nothing
        ("F-?-", FIRST),  # nor does it count as a look that found none
        ("F-?--", None),
        ("?", None),
        ("???", None),  # and gives no notice
    ],
)
def test_a_notice_stands_until_two_looks_in_a_row_do_not_find_it(looks: str, stands: Notice | None) -> None:
    standing = Standing()
    for look in looks:
        standing = unanswered(standing) if look == "?" else looked(standing, {"F": FIRST, "O": OTHER, "-": None}[look])
    assert standing.notice == stands

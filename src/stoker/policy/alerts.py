"""When somebody is told that a budget is being used up: the pure part.

A budget here is a counter whose window is a day, a month or none: those of a minute are rate limits, which renew before
anybody has read of them. Sessions and agent runs are too many to tell of.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from stoker.policy.budgets import Unit, Window

KINDS = ("tenant", "team", "key", "agent")
"""Scopes that somebody is told of."""
MILLIONTHS = 1_000_000
PARTS = {"0-0.5": 500_000, "0.5-0.8": 800_000, "0.8-0.95": 950_000, "0.95-1": MILLIONTHS, "all": None}
"""How much of a budget is spent, in few words -> the millionths below which it is so."""


class Budget(NamedTuple):
    """What the name of a counter says. `ends_at`: when its window is over, seconds since the epoch; None: never."""

    kind: str
    unit: Unit
    window: Window
    began_at: float | None
    ends_at: float | None


def is_told_of(unit: str, window: str) -> bool:
    return unit in (Unit.TOKENS, Unit.NANO_USD) and window in (Window.DAY, Window.MONTH, Window.TOTAL)


def budget_of(counter: str) -> Budget | None:
    """None for a counter that nobody is told of."""
    kind, _, unit, window, *begin = counter.split(":")
    if kind not in KINDS or not is_told_of(unit, window):
        return None
    if window == Window.TOTAL:
        return Budget(kind, Unit(unit), Window.TOTAL, None, None)
    if not begin:
        return None
    is_day = window == Window.DAY
    first = datetime.strptime(begin[0], "%Y-%m-%d" if is_day else "%Y-%m").replace(tzinfo=UTC)
    end = first + timedelta(days=1) if is_day else (first + timedelta(days=32)).replace(day=1)
    return Budget(kind, Unit(unit), Window(window), first.timestamp(), end.timestamp())


def crossed(spent: int, limit: int, thresholds: Sequence[int]) -> list[int]:
    """The thresholds, in millionths of the limit, that are reached; the lowest first. Of a limit of 0 all are."""
    return [each for each in sorted(thresholds) if spent * MILLIONTHS >= each * limit]


def part_used(spent: int, limit: int) -> str:
    """The word of `PARTS`. Of a limit of 0 all is."""
    return next(part for part, below in PARTS.items() if below is None or spent * MILLIONTHS < below * limit)


def used_up_at(*, now: float, left: int, spent_lately: int, lately_s: float, ends_at: float | None) -> float | None:
    """When nothing is left if as much is spent as lately. None: not before the window is over, or never."""
    if left <= 0:
        return now
    if spent_lately <= 0 or lately_s <= 0:
        return None
    at = now + left * lately_s / spent_lately
    return None if ends_at is not None and at >= ends_at else at

"""Schedules as Kubernetes writes them (CronJobs, Karpenter's disruption budgets): what is wrong with one, when it
fires next, and whether the time that it opens is on. All in UTC.

The parser is robfig/cron's standard one: five fields or `@daily` and the like.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from stoker.base.durations import is_duration, seconds_of

_MONTHS = {
    name: i
    for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_DAYS = {name: i for i, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "
_STARS = ("*", "?")
_YEARS = 5
"""A schedule that does not fire within these never does."""
NEVER = datetime.min.replace(tzinfo=UTC)
"""The next firing of a schedule that has none. It is before every moment, as Go's zero time is, so that Karpenter takes
a budget with such a schedule for active at all times."""


def fault(schedule: str) -> str:
    """What is wrong with a schedule; an empty text where nothing is."""
    if schedule.startswith("@"):
        if schedule in _WORDS or (schedule.startswith(_EVERY) and is_duration(schedule.removeprefix(_EVERY))):
            return ""
        return f"{schedule} is not one of {', '.join(_WORDS)}"
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"has {len(fields)} fields; five are wanted: minute, hour, day, month, day of the week"
    for text, (what, least, most, words) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            wrong = _part(part, least, most, words)
            if wrong:
                return f"the {what}, {text}: {wrong}"
    return ""


def next_after(schedule: str, moment: datetime) -> datetime:
    """The first firing after `moment`, to the minute; NEVER where there is none within five years. A moment without a
    time zone is UTC. Raises ValueError for a schedule that has a fault."""
    plan, at = _parsed(schedule), _utc(moment)
    if isinstance(plan, timedelta):
        return at.replace(microsecond=0) + plan
    return plan.next_after(at)


def is_active(schedule: str, duration_s: float, moment: datetime) -> bool:
    """Whether a budget that begins with the schedule and lasts this long is in force: Karpenter looks whether the next
    firing after `duration_s` ago has come. The beginning counts, the end does not.
    (karpenter pkg/apis/v1/nodepool.go, IsActive)"""
    at = _utc(moment)
    return next_after(schedule, at - timedelta(seconds=duration_s)) <= at


@dataclass(frozen=True, slots=True)
class _Plan:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    both_days: bool
    """Day of the month and day of the week must both match, since one of them is a star; else one of them is enough."""

    def next_after(self, moment: datetime) -> datetime:
        start = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        last_year = (moment + timedelta(seconds=1)).year + _YEARS
        day, least = start.date(), (start.hour, start.minute)
        while day.year <= last_year:
            if day.month not in self.months:
                day, least = _next_month(day), (0, 0)
                continue
            if self._has(day):
                found = self._first(least)
                if found is not None:
                    return datetime(day.year, day.month, day.day, *found, tzinfo=UTC)
            day, least = day + timedelta(days=1), (0, 0)
        return NEVER

    def _has(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (in_month and in_week) if self.both_days else (in_month or in_week)

    def _first(self, least: tuple[int, int]) -> tuple[int, int] | None:
        hour, minute = least
        for each in self.hours:
            if each > hour:
                return each, self.minutes[0]
            if each == hour:
                later = next((n for n in self.minutes if n >= minute), None)
                if later is not None:
                    return each, later
        return None


@lru_cache(maxsize=256)
def _parsed(schedule: str) -> _Plan | timedelta:
    """A timedelta for `@every`: whole seconds, at least one."""
    wrong = fault(schedule)
    if wrong:
        raise ValueError(f"the schedule {schedule!r} {wrong}")
    if schedule.startswith(_EVERY):
        return timedelta(seconds=max(int(seconds_of(schedule.removeprefix(_EVERY))), 1))
    fields = _WORDS.get(schedule, schedule).split()
    values = [
        frozenset(n for part in text.split(",") for n in _values(part, least, most, words))
        for text, (_, least, most, words) in zip(fields, _FIELDS, strict=True)
    ]
    minutes, hours, days, months, weekdays = values
    return _Plan(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=weekdays,
        both_days=_has_star(fields[2]) or _has_star(fields[4]),
    )


def _values(part: str, least: int, most: int, words: dict[str, int]) -> Iterable[int]:
    """`5/15` goes on to the end of the field. (robfig/cron parser.go, getRange)"""
    span, slash, step = part.partition("/")
    if span in _STARS:
        low, high = least, most
    else:
        first, dash, last = span.partition("-")
        low = _number(first, words)
        high = _number(last, words) if dash else most if slash else low
    return range(low, high + 1, int(step) if slash else 1)


def _has_star(text: str) -> bool:
    """With a step above 1 a star is a restriction as any other. (robfig/cron v3 parser.go, getRange)"""
    parts = (part.partition("/") for part in text.split(","))
    return any(span in _STARS and (not slash or int(step) == 1) for span, slash, step in parts)


def _number(text: str, words: dict[str, int]) -> int:
    return words[text.lower()] if text.lower() in words else int(text)


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _part(text: str, least: int, most: int, words: dict[str, int]) -> str:
    span, slash, step = text.partition("/")
    if slash and (re.fullmatch(r"[0-9]{1,8}", step) is None or int(step) == 0):
        return f"the step {step or 'after /'} is no whole number above 0"
    if span in _STARS:
        return ""
    low, dash, high = span.partition("-")
    ends = []
    for end in (low, high) if dash else (low,):
        number = words.get(end.lower(), int(end) if end.isascii() and end.isdecimal() and len(end) < 9 else None)
        if number is None:
            return f"{end or 'nothing'} is no number"
        if not least <= number <= most:
            return f"{end} is not from {least} to {most}"
        ends.append(number)
    return f"{span} ends before it begins" if len(ends) == 2 and ends[0] > ends[1] else ""

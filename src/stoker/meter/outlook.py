"""The month's bill ahead, and days that stand out: from dollars by day (UTC). Pure.

Forecast: what is paid so far, the rest of today, and each day to the end of the month at the mean of its weekday in the
last 28 whole days (of all days, where fewer than 14 are known). The range holds 90 % where days differ from that as
they did before: 1.645 standard deviations of a sum of days, with the mean's own error.

Anomaly: a day that differs from the median of up to 28 days before it by more than `least_usd`, a quarter of the
median, and 5 times the spread (1.4826 times the median absolute deviation: for normal noise, its
standard deviation); not where the same weekday of the weeks before, two at least, was like it: within `least_usd` or a
quarter of their median.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import fmean, median
from typing import Any

DAYS = 28
_LEAST_FOR_WEEKDAYS = 14
_LEAST_BEFORE = 7
_SIGMA_90 = 1.645
_SIGMAS = 5.0
_MAD = 1.4826
_PART = 0.25
_AHEAD = 7


@dataclass(frozen=True, slots=True)
class Day:
    """What one key cost on one day, and what explains it. `None`: not known of this key."""

    usd: float
    idle_usd: float = 0.0
    start_up_usd: float = 0.0
    requests: int | None = None
    tokens: int | None = None


Days = Mapping[date, Day]


def days_of(rows: Iterable[Mapping[str, Any]], by: Sequence[str]) -> dict[str, dict[date, Day]]:
    """By key, from rows of a report by day and `by`; what has no day is left out."""
    found: dict[str, dict[date, Day]] = {}
    for row in rows:
        if row["day"].startswith("("):
            continue
        has_tokens = "requests" in row
        key = row["key"].partition(", ")[2] if by else "all"
        found.setdefault(key, {})[date.fromisoformat(row["day"])] = Day(
            usd=row["nano_usd"] / 1e9,
            idle_usd=row["idle_usd"],
            start_up_usd=row["start_up_usd"],
            requests=row["requests"] if has_tokens else None,
            tokens=row["prompt_tokens"] + row["completion_tokens"] if has_tokens else None,
        )
    return found


def total(of: Iterable[Days]) -> dict[date, Day]:
    found: dict[date, Day] = {}
    for days in of:
        for day, each in days.items():
            found[day] = Day((found[day].usd if day in found else 0.0) + each.usd)
    return found


def forecast(days: Days, now: float) -> dict[str, Any]:
    """Of the month of `now` (UTC). Days without a cost count as 0 from the first that has one."""
    at = datetime.fromtimestamp(now, UTC)
    today = at.date()
    first = today.replace(day=1)
    last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    so_far = sum(day.usd for on, day in days.items() if first <= on <= today)
    before = _before(days, today)
    left = (datetime.combine(today + timedelta(days=1), datetime.min.time(), UTC) - at).total_seconds() / 86400
    ahead = [today + timedelta(days=i) for i in range(1, (last - today).days + 1)]
    expected = sum(_expected(before, day) for day in ahead) + _expected(before, today) * left
    spread = _spread(before) * math.sqrt(_variance(len(ahead) + left, len(before)))
    error = back_test({on: day.usd for on, day in before})
    return {
        "month": f"{first:%Y-%m}",
        "so_far_usd": round(so_far, 6),
        "forecast_usd": round(so_far + expected, 6) if before else None,
        "low_usd": round(so_far + max(0.0, expected - _SIGMA_90 * spread), 6) if before else None,
        "high_usd": round(so_far + expected + _SIGMA_90 * spread, 6) if before else None,
        "days_known": len(before),
        "method": "weekdays" if len(before) >= _LEAST_FOR_WEEKDAYS else "mean",
        "back_test_error_percent": None if error is None else round(100 * error, 2),
    }


def back_test(days: Mapping[date, float]) -> float | None:
    """How wrong this method was: the mean of the errors of each week ahead, as a part of what it then cost, over all
    days that have two weeks before them and one after. None where none has."""
    errors = []
    for cut in sorted(days):
        ahead = [cut + timedelta(days=i) for i in range(_AHEAD)]
        before = _before({on: Day(usd) for on, usd in days.items()}, cut)
        real = sum(days.get(day, 0.0) for day in ahead)
        if len(before) >= _LEAST_FOR_WEEKDAYS and ahead[-1] in days and real > 0:
            errors.append(abs(sum(_expected(before, day) for day in ahead) - real) / real)
    return fmean(errors) if errors else None


def _before(days: Days, today: date) -> list[tuple[date, Day]]:
    """The whole days before it, without gaps, from the first that is known."""
    known = [on for on in days if today - timedelta(days=DAYS) <= on < today]
    if not known:
        return []
    return [(on, days.get(on, Day(0.0))) for i in range((today - min(known)).days) if (on := min(known) + timedelta(i))]


def _expected(before: Sequence[tuple[date, Day]], day: date) -> float:
    of_weekday = [each.usd for on, each in before if on.weekday() == day.weekday()]
    if len(before) >= _LEAST_FOR_WEEKDAYS and of_weekday:
        return fmean(of_weekday)
    return fmean(each.usd for _, each in before) if before else 0.0


def _spread(before: Sequence[tuple[date, Day]]) -> float:
    if len(before) < 2:
        return before[0][1].usd if before else 0.0
    parameters = 7 if len(before) >= _LEAST_FOR_WEEKDAYS else 1
    return math.sqrt(sum((d.usd - _expected(before, on)) ** 2 for on, d in before) / (len(before) - parameters))


def _variance(ahead: float, known: int) -> float:
    return ahead + ahead**2 / known if known else 0.0


# --- days that stand out ----------------------------------------------------------------------------------------------


def anomalies(of: Mapping[str, Days], *, since: date, until: date, least_usd: float = 1.0) -> list[dict[str, Any]]:
    """The days from `since` to before `until` that stand out, the dearest difference first, each with what changed.
    A day without a cost counts as 0 from the first that has one."""
    known = min((on for days in of.values() for on in days), default=until)
    asked = [since + timedelta(days=i) for i in range((until - since).days)]
    found = []
    for key, days in sorted(of.items()):
        for on in asked:
            first = max(known, on - timedelta(days=DAYS))
            before = [days.get(first + timedelta(days=i), Day(0.0)) for i in range((on - first).days)]
            day = days.get(on, Day(0.0))
            if len(before) < _LEAST_BEFORE:
                continue
            usual = median(each.usd for each in before)
            spread = _MAD * median(abs(each.usd - usual) for each in before)
            is_far = abs(day.usd - usual) > max(least_usd, _PART * usual, _SIGMAS * spread)
            if is_far and not _is_usual_of_weekday(day, before[-7::-7], least_usd):
                found.append(
                    {
                        "day": on.isoformat(),
                        "key": key,
                        "usd": round(day.usd, 6),
                        "usual_usd": round(usual, 6),
                        "more_usd": round(day.usd - usual, 6),
                        "changed": _changed(day, before),
                    }
                )
    return sorted(found, key=lambda each: (-abs(each["more_usd"]), each["day"], each["key"]))


def _is_usual_of_weekday(day: Day, weeks_before: Sequence[Day], least_usd: float) -> bool:
    """Weekends are no news. One such day is no usual one."""
    if len(weeks_before) < 2:
        return False
    usual = median(each.usd for each in weeks_before)
    return abs(day.usd - usual) <= max(least_usd, _PART * usual)


def _changed(day: Day, before: Sequence[Day]) -> list[dict[str, Any]]:
    """What is beyond a quarter more or less than usual, with both figures."""
    found = []
    for name, now, then in (
        ("requests", day.requests, [each.requests or 0 for each in before]),
        ("tokens", day.tokens, [each.tokens or 0 for each in before]),
        ("usd_per_million_tokens", _per_million(day), [p for each in before if (p := _per_million(each)) is not None]),
        ("work_usd", _work(day), [_work(each) for each in before]),
        ("idle_usd", day.idle_usd, [each.idle_usd for each in before]),
        ("start_up_usd", day.start_up_usd, [each.start_up_usd for each in before]),
    ):
        if now is None or not then:
            continue
        usual = median(then)
        if abs(now - usual) > max(_PART * usual, 1e-9):
            found.append({"what": name, "is": round(now, 6), "usual": round(usual, 6)})
    return found


def _work(day: Day) -> float:
    return day.usd - day.idle_usd - day.start_up_usd


def _per_million(day: Day) -> float | None:
    return day.usd / day.tokens * 1e6 if day.tokens else None

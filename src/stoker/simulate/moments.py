"""Moments of a run: what a person types and reads, to and from seconds since the trace began."""

import re
from datetime import UTC, datetime, timedelta

from stoker.base.errors import InvalidInput

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_CLOCK = re.compile(r"(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")
_SECONDS = re.compile(r"\d+(?:\.\d+)?")


def parse(text: str, began_at: str | None, option: str = "--explain") -> float:
    """`2040`, `34m`, `1h30m`, `0:34:00` and `0:34` since the trace began, `-0:34` before it, or a date with time, UTC
    unless it says its zone; no dates where `began_at` is not known yet. Raises InvalidInput."""
    asked = text.strip()
    if asked[:1] == "-" and (_CLOCK.fullmatch(asked[1:]) or _SPAN.fullmatch(asked[1:])):
        return -parse(asked[1:], began_at, option)
    if _SECONDS.fullmatch(asked):
        return float(asked)
    if _SPAN.fullmatch(asked):
        return sum(float(each[:-1]) * _UNITS[each[-1]] for each in re.findall(r"[\d.]+[dhms]", asked))
    if clock := _CLOCK.fullmatch(asked):
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3] or 0)
    try:
        if began_at is None:
            raise ValueError("when it begins is not known")
        return (utc(asked) - utc(began_at)).total_seconds()
    except ValueError as error:
        raise InvalidInput(
            f"{option} is {text[:60]!r}, which is no moment",
            param=option,
            hint="seconds since the trace began (2040), a span (1h30m), hours:minutes[:seconds] (0:34:00)"
            + (", or a date with time (2026-01-05T08:34:00)" if began_at is not None else ""),
        ) from error


def utc(text: str) -> datetime:
    """Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def clock(seconds: float) -> str:
    """`0:34:00` since the trace began; `-0:05:00` before it."""
    whole = round(abs(seconds))
    sign = "-" if seconds < 0 and whole else ""
    return f"{sign}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def date(seconds: float, began_at: str) -> str:
    """`2026-01-05 08:34:00 UTC`"""
    return (utc(began_at) + timedelta(seconds=round(seconds))).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float | None) -> str:
    """How long something took, with as many digits as a person wants: `85 ms`, `2.41 s`, `5 min 25 s`, `2 h 03 min`."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    if seconds < 3599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"

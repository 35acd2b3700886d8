"""How limits, names and time spans are written on the command line. What a value may be is the platform's to say: its
words are those that platform.yaml has."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from stoker.base.errors import InvalidInput
from stoker.cli import show

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NOTHING = ("none", "null", "")
_EXACT = 2**53  # whole numbers up to here are exact as floats


def budget_option(name: str, what: str) -> Callable[..., Any]:
    """`--budget NAME=VALUE`, as often as wanted."""
    return click.option(
        f"--{name}",
        multiple=True,
        metavar="NAME=VALUE",
        help=f"A limit on what {what}, such as usdPerDay=5 or tokensPerMinute=10000; =none takes it away.",
    )


def budgets(option: str, given: Sequence[str]) -> dict[str, int | float | None]:
    """`usdPerDay=5` and the like as a merge patch. Raises InvalidInput for what is not NAME=NUMBER or NAME=none."""
    found: dict[str, int | float | None] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise _not_a_limit(option, one)
        if name in found:
            raise _twice(option, name)
        try:
            found[name] = number_or_none(value)
        except ValueError as error:
            raise _not_a_limit(option, one) from error
    return found


def add_total(found: dict[str, int | float | None], name: str, option: str, value: str | None) -> None:
    """What a short option (`--budget-usd 5`) says of the limit `name`. Raises InvalidInput."""
    if value is None:
        return
    if name in found:
        raise _twice(option, name)
    try:
        found[name] = number_or_none(value)
    except ValueError as error:
        raise _wrong(option, f"is {value!r}; it must be a number, or none") from error


def _twice(option: str, name: str) -> InvalidInput:
    return _wrong(option, f"says {name} twice; one limit has one value")


def _not_a_limit(option: str, given: str) -> InvalidInput:
    return _wrong(option, f"is {given!r}; it must be NAME=NUMBER, such as usdPerDay=5, or NAME=none")


def _wrong(option: str, why: str) -> InvalidInput:
    return InvalidInput(f"--{option} {why}", param=option, hint=show.help_hint())


def number_or_none(text: str) -> int | float | None:
    """A number as it was meant: 1e6 tokens are a whole number. Raises ValueError."""
    if text.lower() in _NOTHING:
        return None
    try:
        return int(text)
    except ValueError:
        value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def written(given: Mapping[str, Any]) -> str | None:
    """Limits as `--budget` takes them; None where there are none."""
    return ", ".join(f"{name}={value}" for name, value in given.items()) or None


def note_made(what: str, name: str, there: Sequence[str]) -> None:
    """Say that a tenant or team was made by naming it, and which one was meant if it was a slip."""
    import difflib

    near = difflib.get_close_matches(name, [one for one in there if one != name], n=1, cutoff=0.7)
    meant = f"; did you mean {near[0]}?" if near else ""
    show.note(f"note: {what} {name} was not there and was made, without limits of its own{meant}")


def names(option: str, text: str) -> list[str] | None:
    """`a,b` as a list; `all` as None. Raises InvalidInput."""
    if text == "all":
        return None
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise _wrong(option, f"is {text!r}; it must be names with commas between them, or all")
    return found


def span_s(option: str, text: str) -> float:
    """Seconds of `90s`, `30m`, `24h` or `30d`. Raises InvalidInput."""
    seconds = _seconds(text)
    if seconds is None:
        raise _wrong(option, f"is {text!r}; it must be a time span such as 90s, 30m, 24h or 30d")
    return seconds


def expiry(option: str, text: str, now: float) -> float | None:
    """When a span from `now` ends; None for `none`. Raises InvalidInput."""
    if text == "none":
        return None
    seconds = _seconds(text)
    if not seconds:
        raise _wrong(option, f"is {text!r}; it must be a time span above 0 such as 90s, 30m, 24h or 30d, or none")
    return round(now + seconds, 3)


def _seconds(text: str) -> float | None:
    amount, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not amount.isascii() or not amount.replace(".", "", 1).isdecimal():
        return None
    return float(amount) * _UNITS[unit]

"""How limits, names and time spans are written on the command line. What a value may be is the platform's to say: its
words are those that platform.yaml has."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from stoker.base.errors import InvalidInput

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NOTHING = ("none", "null", "")


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
            raise InvalidInput(f"--{option} says {name} twice; one limit has one value", param=option)
        try:
            found[name] = None if value.lower() in _NOTHING else number(value)
        except ValueError as error:
            raise _not_a_limit(option, one) from error
    return found


def _not_a_limit(option: str, given: str) -> InvalidInput:
    return InvalidInput(
        f"--{option} is {given!r}; it must be NAME=NUMBER, such as usdPerDay=5, or NAME=none", param=option
    )


def number(text: str) -> int | float:
    """Raises ValueError."""
    if text.isascii() and text.isdecimal():
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def names(text: str | None) -> list[str] | None:
    """`a,b` as a list; `all` as None."""
    if text is None or text == "all":
        return None
    return [name.strip() for name in text.split(",")]


def span_s(option: str, text: str) -> float:
    """Seconds of `90s`, `30m`, `24h` or `30d`. Raises InvalidInput."""
    amount, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not amount.isascii() or not amount.replace(".", "", 1).isdecimal():
        raise InvalidInput(f"--{option} is {text!r}; it must be a time span such as 90s, 30m, 24h or 30d", param=option)
    return float(amount) * _UNITS[unit]

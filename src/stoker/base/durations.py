"""Lengths of time as Go's `time.ParseDuration` reads them: `1h30m`, `100ms`, `1.5h`, `0`. Exact, to the nanosecond."""

import re
from fractions import Fraction

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PIECE = r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_PIECES = re.compile(_PIECE, re.ASCII)
_WRITTEN = re.compile(rf"[-+]?(?:0|(?:{_PIECE})+)", re.ASCII)
_LONGEST = 2**63
"""Nanoseconds in 64 bits, some 292 years, is all that Go holds."""


def seconds_of(text: str) -> Fraction:
    """Raises ValueError for what Go would not read."""
    if _WRITTEN.fullmatch(text) is None:
        raise ValueError(f"{text[:64]!r} is no duration: write one such as 90s, 1h30m or 100ms")
    whole = sum(int(Fraction(number.removesuffix(".")) * _UNITS[unit]) for number, unit in _PIECES.findall(text))
    if whole >= _LONGEST:
        raise ValueError(f"{text[:64]!r} is longer than a duration can be, some 292 years")
    return Fraction(-whole if text.startswith("-") else whole, 1_000_000_000)


def is_duration(text: str) -> bool:
    try:
        seconds_of(text)
    except ValueError:
        return False
    return True

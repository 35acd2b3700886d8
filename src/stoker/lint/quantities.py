"""Kubernetes quantities: `500m`, `1.5Gi`, `2e3`. Text to an exact number."""

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(m|n|u|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,3})?", re.ASCII)
_SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}
EXAMPLE = "a quantity such as 500m, 2, 1.5Gi"
MAX_LENGTH = 400


@lru_cache(maxsize=4096)
def _read(text: str) -> Fraction | None:
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    sign, digits, suffix = match[1], match[2], match[3] or ""
    number = Fraction(Decimal(digits))
    if suffix in _SUFFIXES:
        number *= _SUFFIXES[suffix]
    else:
        number *= Fraction(10) ** int(suffix[1:])
    return -number if sign == "-" else number


def amount(value: object) -> Fraction | None:
    """The number that a quantity is, written as text or as a number; None for what is no quantity."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        return Fraction(repr(value)) if value == value and abs(value) != float("inf") else None
    return _read(value) if isinstance(value, str) else None

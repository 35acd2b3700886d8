"""Kubernetes quantities (`500m`, `32Gi`, `1e3`) as exact numbers, and back as people write them.

Exact, because a pod that is short of a node by 1m does not fit. Where a whole number is asked for, it is rounded up, as
Kubernetes does.
"""

import math
import re
from fractions import Fraction
from functools import lru_cache

CPU = "cpu"
_BYTES = ("memory", "ephemeral-storage")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_WRITTEN = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)
_LONGEST = 64  # more digits than any quantity has; keeps a hostile one from costing time
_EXPONENT = 40
EXAMPLE = "a quantity such as 500m, 2, 1.5Gi"
_RIGHT = "write a number, or one with a suffix, such as 500m, 2, 1.5, 1k, 512Mi or 32Gi"


def parse(value: object) -> int | Fraction:
    """The exact number. Raises ValueError saying what the value is and what would be right."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no quantity: {_RIGHT}")  # noqa: TRY004  - one kind of error for callers
    if isinstance(value, int):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is no quantity: {_RIGHT}")
    return _parsed(repr(value) if isinstance(value, float) else value)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> int | Fraction:
    """Remembered: of a cluster with many models the same few are asked for again and again."""
    match = _WRITTEN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{_short(text)!r} is no quantity: {_RIGHT}")
    sign, digits, exponent, suffix = match.groups()
    if exponent is not None and abs(int(exponent)) > _EXPONENT:
        raise ValueError(f"{text!r} is no quantity that a cluster can hold: the exponent is beyond {_EXPONENT}")
    number = Fraction(digits.removesuffix(".")) * (-1 if sign == "-" else 1)
    if suffix in _BINARY:
        number *= 1024 ** _BINARY[suffix]
    else:
        number *= Fraction(10) ** (int(exponent) if exponent is not None else _DECIMAL[suffix or ""])
    return number.numerator if number.denominator == 1 else number


def amount(value: object) -> int | Fraction | None:
    """As `parse`; None for what is no quantity."""
    try:
        return parse(value)
    except ValueError:
        return None


def cpu_milli(value: object) -> int:
    """Cores in thousandths, rounded up."""
    return math.ceil(parse(value) * 1000)


def bytes_of(value: object) -> int:
    """Bytes, rounded up."""
    return math.ceil(parse(value))


def count(value: object) -> int:
    """A number of devices or pods. Parts of one are no quantity of these."""
    number = parse(value)
    if not isinstance(number, int):
        raise ValueError(f"{value!r} is no whole number: devices and pods are counted, write 1 or 2")  # noqa: TRY004
    return number


def in_base_units(resource: str, value: object) -> int:
    """An amount of a resource as `policy.placement` counts it: cpu in thousandths, what is measured in bytes in bytes,
    anything else one by one."""
    if resource == CPU:
        return cpu_milli(value)
    if is_bytes(resource):
        return bytes_of(value)
    return count(value)


def is_bytes(resource: str) -> bool:
    return resource in _BYTES or resource.startswith("hugepages-")


def format_cpu(milli: int) -> str:
    """`8` or `7910m`."""
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def format_bytes(size: int) -> str:
    """In the largest binary unit of which there is at least one, to a tenth: `32Gi`, `28.6Gi`, `500`."""
    unit = 0
    while unit < len(_BINARY) and abs(size) >= 1024 ** (unit + 1):
        unit += 1
    if unit == 0:
        return str(size)
    tenths = round(Fraction(size * 10, 1024**unit))
    whole, tenth = divmod(abs(tenths), 10)
    return f"{'-' if size < 0 else ''}{whole}{f'.{tenth}' if tenth else ''}{list(_BINARY)[unit - 1]}"


def format_amount(resource: str, amount: int) -> str:
    """An amount in base units as people write it."""
    if resource == CPU:
        return format_cpu(amount)
    return format_bytes(amount) if is_bytes(resource) else str(amount)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

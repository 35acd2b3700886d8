"""Money in parts that sum to it: nano-dollars by weight, by the largest remainder. And what parts of a bill are called
that are nobody's.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, TypeVar

STARTING = "(start-up)"
"""A machine before anything could run on it."""
IDLE = "(idle)"
"""What nobody had of a machine, and what a replica had of one while it computed nothing."""
PLATFORM = "(platform)"
"""What serves no model: gateway, queue, ledger, monitoring."""

Name = TypeVar("Name", bound="Comparable")


class Comparable(Hashable, Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


def split(total: int, weights: Mapping[Name, float]) -> dict[Name, int]:
    """`total` in parts by weight, in whole numbers that sum to it: each its floor, and what is left one by one to the
    largest remainders (then by name). Without weight, nobody has anything. Raises ValueError for a negative weight."""
    if any(weight < 0 for weight in weights.values()):
        raise ValueError(f"a weight below 0: {weights}")
    exact = {name: weight.as_integer_ratio() for name, weight in weights.items() if weight > 0}
    if not exact:
        return {}
    # Denominators of floats are powers of two: the largest is a multiple of each.
    scale = max(denominator for _, denominator in exact.values())
    whole = {name: numerator * (scale // denominator) for name, (numerator, denominator) in exact.items()}
    sum_of_all = sum(whole.values())
    found, rest = {}, {}
    for name, weight in whole.items():
        found[name], rest[name] = divmod(total * weight, sum_of_all)
    left = total - sum(found.values())
    for name in sorted(rest, key=lambda name: (-rest[name], name))[:left]:
        found[name] += 1
    return found

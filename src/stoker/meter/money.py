"""Nano-dollars to the dollars that are shown, so that what is shown sums.

Rule: the sum is rounded to the unit (a half goes up), each part is rounded down, and the units that are then missing go
one each to the parts with the largest remainders, of equal ones to the first by name.
"""

import math
from collections.abc import Mapping

MICRO = 1_000
"""Nano-dollars of a millionth: what JSON has."""
CENT = 10_000_000
"""Nano-dollars of a cent: what a person sees."""
SMALL = 0.1
"""Dollars: of less, cents tell too little."""
_NANO = 1_000_000_000


def in_units(nano: int, unit: int) -> int:
    return (2 * nano + unit) // (2 * unit)


def shared_out(parts: Mapping[str, int], unit: int) -> dict[str, int]:
    """The parts in whole units, which sum to the sum in whole units. Order is kept."""
    found = {name: nano // unit for name, nano in parts.items()}
    missing = in_units(sum(parts.values()), unit) - sum(found.values())
    for name in sorted(parts, key=lambda name: (-(parts[name] % unit), name))[:missing]:
        found[name] += 1
    return found


def dollars(nano: int, unit: int = MICRO) -> float:
    return in_units(nano, unit) * unit / _NANO


def dollars_by(parts: Mapping[str, int], unit: int = MICRO) -> dict[str, float]:
    """Largest first, then by name."""
    shown = shared_out(parts, unit)
    return {name: shown[name] * unit / _NANO for name in sorted(shown, key=lambda name: (-shown[name], name))}


def shown_by(parts: Mapping[str, int]) -> dict[str, float]:
    """As a person sees them, the largest first: cents that sum to the sum. What cents cannot tell (see `spoken`) keeps
    its own digits."""
    cents, own = dollars_by(parts, CENT), dollars_by(parts)
    return {name: cents[name] if abs(own[name]) >= SMALL else own[name] for name in own}


def spoken(usd: float) -> str:
    """`$12.34`. Below ten cents with four decimals, below a cent with two digits that count; no zeros at the end."""
    if not usd or abs(usd) >= SMALL:
        return f"${usd:,.2f}"
    decimals = max(4, 1 - math.floor(math.log10(abs(usd))))
    whole, _, decimal = f"{usd:.{decimals}f}".partition(".")
    return f"${whole}.{decimal.rstrip('0').ljust(2, '0')}"

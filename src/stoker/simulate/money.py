"""Nano-dollars to the dollars that are shown, so that what is shown sums.

Rule: the sum is rounded to the unit (a half goes up), each part is rounded down, and the units that are then missing go
one each to the parts with the largest remainders, of equal ones to the first by name.
"""

from collections.abc import Mapping

MICRO = 1_000
"""Nano-dollars of a millionth: what JSON has."""
CENT = 10_000_000
"""Nano-dollars of a cent: what a person sees."""
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


def spoken(usd: float) -> str:
    """`$12.34`; a price that cents cannot tell with four digits that count."""
    if usd and abs(usd) < 0.1:
        return f"${usd:.4f}" if abs(usd) >= 0.001 else f"${usd:.6f}"
    return f"${usd:,.2f}"

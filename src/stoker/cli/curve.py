"""Numbers as blocks of text, for a terminal of any width."""

import math
from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_BAR = "▏▎▍▌▋▊▉█"


def curve(values: Sequence[float], *, width: int = 60, height: int = 6) -> list[str]:
    """Lines of columns from the least to the most, with both at the left edge; neighbours are joined by their mean
    where there are more than `width`. What is no number is a gap, marked at the bottom."""
    if not values:
        return []
    columns = _joined(values, min(width, len(values)))
    known = [each for each in columns if each is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    room = most - least or 1.0
    # The least is one eighth high, so that it is seen.
    eighths = [None if each is None else 1 + round((8 * height - 1) * (each - least) / room) for each in columns]
    labels = {0: f"{most:.4g}", height - 1: f"{least:.4g}"} if most > least else {height - 1: f"{least:.4g}"}
    edge = max(map(len, labels.values()))
    lines = []
    for row in range(height):
        base = 8 * (height - 1 - row)
        cells = "".join(
            ("×" if base == 0 else " ") if each is None else _EIGHTHS[min(8, max(0, each - base))] for each in eighths
        )
        lines.append(f"{labels.get(row, ''):>{edge}} │{cells}".rstrip())
    return lines


def bar(part: float, *, width: int = 24) -> str:
    """Of a whole that is `width` wide."""
    eighths = round(8 * width * min(max(part, 0.0), 1.0))
    if not eighths and part > 0:
        eighths = 1
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_BAR[rest - 1] if rest else "")


def _joined(values: Sequence[float], count: int) -> list[float | None]:
    found: list[float | None] = []
    for i in range(count):
        span = values[i * len(values) // count : (i + 1) * len(values) // count]
        known = [each for each in span if math.isfinite(each)]
        found.append(sum(known) / len(known) if known else None)
    return found

"""The line that a person watches. On a terminal one line that is written anew; elsewhere a line now and then. No torch.

step 120/1000  loss 1.234  lr 1.8e-04  4.1k tok/s  ckpt 12 s ago  goodput 97 %  $0.42  3 min left
"""

import math
import shutil
from typing import TextIO

from stoker.base.clock import Clock
from stoker.train.live import Seen

ON_TERMINAL_S = 0.1
ELSEWHERE_S = 10.0


def line(seen: Seen) -> str:
    """What is not known is left out."""
    parts = [
        f"step {seen.step}/{seen.steps}",
        f"loss {seen.loss:.4g}",
        f"lr {seen.rate:.1e}",
        f"{short(seen.tokens_per_s)} tok/s",
    ]
    if seen.validation is not None:
        parts.append(f"val {seen.validation:.4g}")
    if seen.checkpoint_age_s is not None:
        parts.append(f"ckpt {span(seen.checkpoint_age_s)} ago")
    parts.append(f"goodput {100 * seen.goodput:.0f} %")
    if seen.usd is not None:
        parts.append(dollars(seen.usd))
    parts.append(f"{span(seen.left_s)} left" if seen.step < seen.steps else "done")
    return "  ".join(parts)


def short(number: float) -> str:
    """`4.1k`, three digits at most."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1}f}{letter}"
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def span(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `2 h 05 min`, `4 d 3 h`."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 99.5:
        return f"{max(0.0, seconds):.{1 if seconds < 9.95 else 0}f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def dollars(usd: float) -> str:
    """Two digits that count, and cents at least."""
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.2g}" if usd >= 1e-4 else f"${usd:.1e}"


class Progress:
    """Writes to `out` what `show` is given, not too often; the last step always. Whatever else is to be said goes
    through `tell`, so that lines do not mix."""

    def __init__(self, out: TextIO, clock: Clock, *, width: int | None = None, is_terminal: bool | None = None) -> None:
        self._out, self._clock = out, clock
        self._is_terminal = out.isatty() if is_terminal is None else is_terminal
        self._width = width
        self._shown_at: float | None = None
        self._is_open = False
        """A line is there that the next one replaces."""

    def show(self, seen: Seen) -> None:
        now = self._clock.monotonic()
        pause_s = ON_TERMINAL_S if self._is_terminal else ELSEWHERE_S
        if self._shown_at is not None and now - self._shown_at < pause_s and seen.step < seen.steps:
            return
        self._shown_at = now
        if self._is_terminal:
            columns = self._width or shutil.get_terminal_size().columns
            self._write(f"\r{line(seen)[: max(1, columns - 1)]}\x1b[K")
            self._is_open = True
        else:
            self._write(f"{line(seen)}\n")

    def tell(self, text: str) -> None:
        self._write(("\r\x1b[K" if self._is_open else "") + text + "\n")
        self._is_open = False

    def close(self) -> None:
        """The line stays."""
        if self._is_open:
            self._write("\n")
            self._is_open = False

    def _write(self, text: str) -> None:
        """Nobody may read it any more (a pipe that is closed): training goes on."""
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            self._is_open = False

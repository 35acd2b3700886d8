"""How long an engine may be silent in the middle of an answer, and how long the whole may take.

One timer for a stream, however many events it has: an `asyncio.timeout` around each costs more than passing it on.
"""

import asyncio
from collections.abc import Callable

from stoker.base.errors import TimedOut


class Watch:
    """Ends a stream by `abort` when nothing was `heard` for `silence_s`, or after `rest_s`."""

    def __init__(self, abort: Callable[[Exception], None], *, silence_s: float, rest_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._abort = abort
        self._silence_s = silence_s
        self._ends_at = self._loop.time() + rest_s
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(max(0.0, min(silence_s, rest_s)), self._look)

    def heard(self) -> None:
        self._heard_at = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        silent_s, left_s = self._heard_at + self._silence_s - now, self._ends_at - now
        if left_s <= 0:
            self._abort(too_long())
        elif silent_s <= 0:
            self._abort(silent("betweenTokensSeconds"))
        else:
            self._timer = self._loop.call_later(min(silent_s, left_s), self._look)


def too_long() -> TimedOut:
    return TimedOut("the answer did not end in time", hint="gateway.timeouts.totalSeconds bounds it")


def silent(bound: str) -> TimedOut:
    when = "before its first token" if bound == "firstTokenSeconds" else "in the middle of the answer"
    return TimedOut(f"the engine was silent for too long {when}", hint=f"gateway.timeouts.{bound} bounds it")

"""How long an engine may be silent in the middle of an answer, and how long the whole may take.

One timer for a stream, however many events it has: an `asyncio.timeout` around each costs more than passing it on.
"""

import asyncio
from collections.abc import Callable

from stoker.base.errors import TimedOut
from stoker.web.alarms import Alarm


class Watch:
    """Ends a stream by `abort` when nothing was `heard` for `silence_s`, or after `rest_s`."""

    def __init__(self, abort: Callable[[Exception], None], *, silence_s: float, rest_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._abort = abort
        self._silence_s = silence_s
        self._ends_at = self._loop.time() + rest_s
        self._alarm = Alarm(self._loop, self._end)
        self.heard()

    def heard(self) -> None:
        self._alarm.set(min(self._loop.time() + self._silence_s, self._ends_at))

    def stop(self) -> None:
        self._alarm.close()

    def _end(self) -> None:
        self._abort(too_long() if self._loop.time() >= self._ends_at else silent("betweenTokensSeconds"))


def too_long() -> TimedOut:
    return TimedOut("the answer did not end in time", hint="gateway.timeouts.totalSeconds bounds it")


def silent(bound: str) -> TimedOut:
    when = "before its first token" if bound == "firstTokenSeconds" else "in the middle of the answer"
    return TimedOut(f"the engine was silent for too long {when}", hint=f"gateway.timeouts.{bound} bounds it")

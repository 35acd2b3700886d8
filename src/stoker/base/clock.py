"""Time is handed in: nothing that decides reads the clock itself. `stoker.testing.ManualClock` is the twin."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the Unix epoch, for what is written down."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back, for durations and deadlines in one process."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

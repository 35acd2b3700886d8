"""Metrics of what only the ledger or Redis knows: looked at now and then, so that a scrape reads numbers."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError

T = TypeVar("T")
_log = logs.get(__name__)


async def look_forever(
    what: str, look: Callable[[], Awaitable[T]], tell: Callable[[T | None], None], clock: Clock, *, every_s: float
) -> None:
    """`tell` gets each look; None while what is looked at cannot be read."""
    while True:
        found = None
        try:
            found = await look()
        except StokerError as error:
            _log.warning(f"{what} cannot be read", error=error.in_log)
        tell(found)
        await clock.sleep(every_s)

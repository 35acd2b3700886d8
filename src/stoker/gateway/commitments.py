"""Steps that are brought to their end even when the request that asked for them is cancelled in the middle."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from stoker.base import logs

T = TypeVar("T")
_log = logs.get(__name__)


class Commitments:
    """Holds on to what runs, since the event loop itself does not, and since the process has to wait for it at its
    end: a usage record on its way to Redis, the cancellation of a task that nobody wants."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, step: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = logs.beside(step, self._over)
        self._running.add(task)
        return task

    async def keep(self, step: Coroutine[Any, Any, T]) -> T:
        """The result of `step`. Whoever waits may be cancelled; the step goes on."""
        return await asyncio.shield(self.begin(step))

    async def settled(self) -> None:
        """Returns when nothing is left running."""
        while self._running:
            await asyncio.wait(set(self._running))

    def _over(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        # Looked at here, since nobody else may be there any more.
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a step failed", step=task.get_coro().__qualname__, error=str(error))  # type: ignore[union-attr]


def seen(looking: "asyncio.Task[Any]") -> None:
    """For a look-up beside a request, as its callback: whoever waits for it is told that it failed, and where nobody
    does any more that is no news."""
    if not looking.cancelled():
        looking.exception()

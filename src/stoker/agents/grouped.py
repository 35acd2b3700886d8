"""Writes to a database that wait for each other are done together: one transaction, and one wait for the disk, of many.

A lone write goes at once; those that come while it is on its way are the next group.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

J = TypeVar("J")

MOST_TOGETHER = 200  # of one transaction


class Grouped(Generic[J]):
    """`do` is called in a thread of its own, one call at a time, in the order of `add`; it returns for each job what it
    came to, or the exception that it ended with."""

    def __init__(self, do: Callable[[Sequence[J]], Sequence[Any]], name: str) -> None:
        self._do = do
        self._thread = ThreadPoolExecutor(1, name)
        self._name = name
        self._waiting: list[tuple[J, asyncio.Future[Any]]] = []
        self._doing: asyncio.Task[None] | None = None

    async def add(self, job: J) -> Any:
        """What it came to, when it is done. Raises what it ended with."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, done))
        if self._doing is None or self._doing.done():
            self._doing = asyncio.create_task(self._do_waiting(), name=self._name)
        return await done

    def close(self) -> None:
        """After what runs."""
        self._thread.shutdown()

    async def _do_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            together, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            outcomes: Sequence[Any]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._do, [job for job, _ in together])
            except Exception as error:  # whatever it is: nobody may wait for ever
                outcomes = [error] * len(together)
            for (_, done), outcome in zip(together, outcomes, strict=True):
                if done.done():
                    continue
                if isinstance(outcome, Exception):
                    done.set_exception(outcome)
                else:
                    done.set_result(outcome)

"""`python dying_gateway.py MOMENT ...`: the gateway itself, with the arguments that it takes, which ends itself with
SIGKILL at one moment of the way of usage records from Redis to the ledger."""

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from stoker.gateway import settling
from stoker.gateway.__main__ import main
from stoker.meter.ledger import Ledger
from stoker.queue import RedisQueue

BATCH = 20
"""Records that it moves at a time."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after_reading(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(read)
    async def stepped(*given: Any, **named: Any) -> Any:
        entries = await read(*given, **named)
        if entries:
            die()
        return entries

    return stepped


def dies_after_acknowledging(acknowledge: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(acknowledge)
    async def stepped(queue: RedisQueue, entry_ids: Sequence[str]) -> None:
        await acknowledge(queue, entry_ids)
        if entry_ids:
            die()

    return stepped


def dies_at_commit(append: Callable[..., None], *, before: bool) -> Callable[..., None]:
    """Just before the batch is committed, or just after it."""

    @functools.wraps(append)
    def appended(*given: Any) -> None:
        if before:
            event.listen(Engine, "commit", lambda _: die())
        append(*given)
        die()

    return appended


MOMENTS: dict[str, Callable[[], None]] = {
    "read": lambda: setattr(RedisQueue, "read_usage", dies_after_reading(RedisQueue.read_usage)),
    "stored": lambda: setattr(Ledger, "append", dies_at_commit(Ledger.append, before=True)),
    "committed": lambda: setattr(Ledger, "append", dies_at_commit(Ledger.append, before=False)),
    "acknowledged": lambda: setattr(RedisQueue, "ack_usage", dies_after_acknowledging(RedisQueue.ack_usage)),
}

if __name__ == "__main__":
    settling.BATCH = BATCH
    MOMENTS[sys.argv.pop(1)]()
    main()

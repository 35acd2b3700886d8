"""Records as the stories of `meter` tell them, and what several do at the same moment."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from stoker.meter.usage import UsageRecord
from stoker.testing import ManualClock

T = TypeVar("T")
DAY = 86400.0


def a_record(number: int = 1, **changed: Any) -> UsageRecord:
    """Record `req_<number>` of tenant acme: 10 prompt tokens, 5 of an answer, 2,100 nano-dollars, ended at 101."""
    given: dict[str, Any] = {
        "id": f"req_{number}",
        "kind": "request",
        "status": "done",
        "tenant": "acme",
        "key_id": "key_1",
        "model": "general",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
        "nano_usd": 2100,
        "started_at": 100.0,
        "first_token_at": 100.5,
        "ended_at": 101.0,
        "team": "search",
        "session": "s",
        "run": "r",
        "replica": "general-0",
        "route": "model",
        "attempts": 2,
    }
    return UsageRecord(**{**given, **changed})


def at_once(works: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Each in a thread of its own, started together; what each returned or raised, in their order."""
    start = threading.Barrier(len(works))

    def one(work: Callable[[], T]) -> T | BaseException:
        start.wait(timeout=60)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(one, works))


def later(clock: ManualClock, seconds: float) -> None:
    """So much later: nobody sleeps on the clock of these stories."""
    asyncio.run(clock.advance(seconds))

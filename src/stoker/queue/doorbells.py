"""News of tasks, pushed: one connection of a process tells all its waiters that it is time to look again.

A ring carries no data, so a lost or doubled one does no harm: whoever is rung reads the truth from the task. Redis
rings after each (re)subscription too, since something may have been missed before it.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from stoker.base import logs
from stoker.queue import keys
from stoker.queue.connection import translated

log = logs.get("stoker.queue")

RECONNECT_S = 0.2


class Doorbells:
    def __init__(self, client: Redis) -> None:
        self._client = client
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listeners: defaultdict[str, int] = defaultdict(int)  # of each channel besides EVENTS
        self._pubsub: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None
        self._talking = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def at(self, task_id: str, *, chunks: bool = False) -> AsyncIterator[asyncio.Event]:
        """An event that is set at each news of the task: its end, a wish to cancel it, the loss of its lease, and with
        `chunks` each addition to those. Clear it before looking. Raises QueueUnavailable."""
        rung = asyncio.Event()
        self._waiters[task_id].add(rung)
        try:
            if self._reader is None:
                await self._start()
            if chunks:
                await self._listen(keys.said(task_id))
            yield rung
        finally:
            self._waiters[task_id].discard(rung)
            if not self._waiters[task_id]:
                del self._waiters[task_id]
            if chunks:
                await self._unlisten(keys.said(task_id))

    async def aclose(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
        if self._pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                await self._pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it without types

    async def _start(self) -> None:
        async with self._talking:
            if self._reader is not None:
                return
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()
            with translated("listen for the end of tasks"):
                await self._pubsub.subscribe(keys.EVENTS)
            self._reader = asyncio.create_task(self._read(self._pubsub), name="doorbells", context=logs.bearing(None))

    async def _listen(self, channel: str) -> None:
        self._listeners[channel] += 1
        async with self._talking:
            if self._listeners[channel] == 1 and self._pubsub is not None:
                with translated("listen for the chunks of a task"):
                    await self._pubsub.subscribe(channel)

    async def _unlisten(self, channel: str) -> None:
        self._listeners[channel] -= 1
        async with self._talking:
            if self._listeners.get(channel, 0) > 0:
                return  # another one listens, or began to while we waited
            self._listeners.pop(channel, None)
            if self._pubsub is not None:
                with contextlib.suppress(RedisError, OSError):  # the reader finds out and connects again
                    await self._pubsub.unsubscribe(channel)

    async def _read(self, pubsub: PubSub) -> None:
        """For as long as the process lives. redis-py subscribes again to all channels when it connects again."""
        while True:
            try:
                message = await pubsub.get_message(ignore_subscribe_messages=False, timeout=None)
            except (RedisError, OSError) as exc:
                log.warning("queue_news_interrupted", error=f"{type(exc).__name__}: {exc}"[:200])
                await asyncio.sleep(RECONNECT_S)
                continue
            if message is not None:
                self._ring(self._who(message))

    def _who(self, message: dict[str, object]) -> Iterable[str]:
        channel, data, kind = _text(message["channel"]), message["data"], message["type"]
        if channel == keys.EVENTS:
            return [_text(data)] if kind == "message" else list(self._waiters)
        return [channel.removeprefix(keys.SAID_PREFIX)]

    def _ring(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            for rung in self._waiters.get(task_id, ()):
                rung.set()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def rung_within(rung: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await rung.wait()
    except TimeoutError:
        pass  # the caller looks again either way

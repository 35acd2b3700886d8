"""One streamed answer as it comes from its engine: kept, published, and, if given up, ready to be gone on with."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import QueueUnavailable
from stoker.engine import going_on
from stoker.meter.charge import Charge
from stoker.queue import Claim, Partial, Queue

Json = dict[str, Any]

# What is produced meanwhile goes to Redis in one step: a reader sees it at most this much later.
PUBLISH_EVERY_S = 0.02


class StreamedAnswer:
    """All chunks of it, from its beginning, whoever began it. Close it."""

    def __init__(self, claim: Claim, queue: Queue, clock: Clock) -> None:
        self._claim = claim
        self._begun = claim.partial
        self.chunks: list[Json] = [] if self._begun is None else [self._begun.answer]
        self._publisher = _Publisher(queue, claim, clock) if claim.task.stream else None

    def whole(self, event: bytes, chunk: Json) -> tuple[bytes, Json] | None:
        """What an engine said, as a part of the whole answer. None: it says nothing that was not said before."""
        if self._begun is None:
            return event, chunk
        begun = self._begun
        said = going_on.rest(
            chunk,
            begun.answer,
            prompt_tokens=begun.prompt_tokens,
            cached_tokens=begun.cached_tokens,
            completion_tokens=begun.completion_tokens,
        )
        return None if said is None else (json.dumps(said).encode(), said)

    async def add(self, event: bytes, chunk: Json) -> None:
        self.chunks.append(chunk)
        if self._publisher is not None:
            await self._publisher.add(event)

    async def flush(self) -> None:
        if self._publisher is not None:
            await self._publisher.flush()

    async def partial(self, charge: Charge) -> Partial | None:
        """What another attempt can go on with; `charge` has counted what was seen. None: it has to begin anew.
        Raises QueueUnavailable."""
        task = self._claim.task
        if self._begun is not None and len(self.chunks) == 1:
            return self._begun  # its engine has said nothing
        answer = going_on.so_far(self.chunks)
        if answer is None or not charge.is_counted:
            return None
        if going_on.asking(task.endpoint, task.body, answer, completion_tokens=charge.completion_tokens) is None:
            return None
        await self.flush()
        return Partial(
            answer=answer,
            chunks=0 if self._publisher is None else self._publisher.sent,
            token=self._claim.answer_token,
            prompt_tokens=charge.prompt_tokens,
            cached_tokens=charge.cached_tokens,
            completion_tokens=charge.completion_tokens,
            nano_usd=charge.nano_usd(),
        )

    def has_said_all(self, charge: Charge) -> bool:
        """Whether only the word is missing that it is over."""
        task = self._claim.task
        return going_on.has_said_all(task.endpoint, task.body, self.chunks, completion_tokens=charge.completion_tokens)

    def close(self) -> None:
        if self._publisher is not None:
            self._publisher.close()


class _Publisher:
    """Chunks to Redis, several in one step when they come fast; none waits for one that comes late. Close it."""

    def __init__(self, queue: Queue, claim: Claim, clock: Clock) -> None:
        self._queue = queue
        self._claim = claim
        self._clock = clock
        self._waiting: list[bytes] = []
        self.sent = 0 if claim.partial is None else claim.partial.chunks
        self._sent_at = float("-inf")
        self._sending = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None

    async def add(self, event: bytes) -> None:
        self._waiting.append(event)
        now = self._clock.monotonic()
        rest_s = self._sent_at + PUBLISH_EVERY_S - now
        if rest_s <= 0:
            self._sent_at = now
            await self.flush()
        elif self._later is None or self._later.done():
            self._later = asyncio.create_task(self._flush_in(rest_s))

    async def flush(self) -> None:
        async with self._sending:
            if self._waiting:
                sending = list(self._waiting)
                await self._queue.publish(self._claim, sending, first=self.sent)
                self.sent += len(sending)
                del self._waiting[: len(sending)]

    def close(self) -> None:
        if self._later is not None:
            self._later.cancel()

    async def _flush_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._sent_at = self._clock.monotonic()
        with suppress(QueueUnavailable):  # they still wait: the next one that sends them says so
            await self.flush()

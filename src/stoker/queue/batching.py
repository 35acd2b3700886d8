"""Calls to Redis that are made while another batch is on its way go together in the next one: one write, one read.

With many tasks at once this saves most of the client's work, which is what limits the queue; a lone call goes at once.
Used by `connection`; knows nothing of tasks.
"""

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

MOST_AT_ONCE = 256  # calls of one batch, so that none waits long for the others

Argument = str | bytes | int


@dataclass(slots=True)
class _Call:
    command: tuple[Argument, ...]
    answer: asyncio.Future[Any]
    script: str | None = None  # its text, for a Redis that does not know it yet


@dataclass(slots=True)
class Batches:
    """All calls of one process on one connection, in the order in which they were made."""

    client: Redis
    _waiting: list[_Call] = field(default_factory=list)
    _sender: asyncio.Task[None] | None = None

    async def call(self, *command: Argument) -> Any:
        """The answer to one command. Raises what redis-py raises."""
        return await self._add(_Call(command, asyncio.get_running_loop().create_future()))

    async def script(self, text: str, sha: str, redis_keys: list[str], args: list[Argument]) -> Any:
        """The answer of one Lua script, which is loaded if Redis does not know it. Raises what redis-py raises."""
        command = ("EVALSHA", sha, len(redis_keys), *redis_keys, *args)
        return await self._add(_Call(command, asyncio.get_running_loop().create_future(), text))

    async def aclose(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender

    async def _add(self, call: _Call) -> Any:
        # Here and not in the batch, so that what cannot be written (half a surrogate) fails alone. Raises ValueError.
        name, *words = call.command
        call.command = (name, *(word.encode() if isinstance(word, str) else word for word in words))
        self._waiting.append(call)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="redis batches")
        return await call.answer

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            try:
                await self._run(batch)
            except Exception as exc:  # whatever it is: nobody may wait for ever
                for call in batch:
                    _settle(call, exc)
            except asyncio.CancelledError:
                for call in [*batch, *self._waiting]:
                    _settle(call, ConnectionError("the queue was closed meanwhile"))
                self._waiting.clear()
                raise

    async def _run(self, batch: list[_Call]) -> None:
        unknown: list[_Call] = []
        for call, answer in zip(batch, await self._answers(batch), strict=True):
            if isinstance(answer, NoScriptError) and call.script is not None:
                unknown.append(call)
            else:
                _settle(call, answer)
        if unknown:  # Redis started anew, or this is the first call: teach it, then ask again
            for text in {call.script for call in unknown if call.script is not None}:
                await self.client.script_load(text)
            for call, answer in zip(unknown, await self._answers(unknown), strict=True):
                _settle(call, answer)

    async def _answers(self, batch: list[_Call]) -> list[Any]:
        async with self.client.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.execute_command(*call.command)
            return await pipe.execute(raise_on_error=False)


def _settle(call: _Call, answer: Any) -> None:
    if call.answer.done():
        return  # its caller went away
    if isinstance(answer, Exception):
        call.answer.set_exception(answer)
    else:
        call.answer.set_result(answer)


def sha_of(text: str) -> str:
    """How Redis names a script."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

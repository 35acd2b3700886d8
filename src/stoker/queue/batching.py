"""Calls to Redis that are made while others are on their way go together in the next write, and need not wait for the
answers to those: many calls are on their way at once, on one connection, in the order in which they were made.

With many tasks at once this saves most of the client's work, which is what limits the queue; a lone call goes at once.
Used by `connection`; knows nothing of tasks.
"""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

MOST_AT_ONCE = 256  # calls on their way, so that a lost connection has not many to make again

Argument = str | bytes | int


@dataclass(slots=True)
class _Call:
    packed: bytes  # as Redis reads it
    answer: asyncio.Future[Any]
    shape: Callable[[Any], Any] | None = None  # how redis-py gives this command's answer
    script: str | None = None  # its text, for a Redis that does not know it yet
    was_taught: bool = False


@dataclass(slots=True)
class Batches:
    """All calls of one process on one connection, in the order in which they were made."""

    client: Redis
    _waiting: list[_Call] = field(default_factory=list)
    _asked: deque[_Call] = field(default_factory=deque)
    _unknown: list[_Call] = field(default_factory=list)  # scripts that Redis did not know
    _talker: asyncio.Task[None] | None = None

    async def call(self, *command: Argument) -> Any:
        """The answer to one command. Raises what redis-py raises."""
        shape = self.client.response_callbacks.get(str(command[0]))
        return await self._add(_Call(hiredis.pack_command(command), _future(), shape))

    async def script(self, text: str, sha: str, redis_keys: list[str], args: list[Argument]) -> Any:
        """The answer of one Lua script, which is loaded if Redis does not know it. Raises what redis-py raises."""
        # Packed here and not later, so that what cannot be written (half a surrogate) fails alone. Raises ValueError.
        packed = hiredis.pack_command(("EVALSHA", sha, len(redis_keys), *redis_keys, *args))
        return await self._add(_Call(packed, _future(), script=text))

    async def aclose(self) -> None:
        talker, self._talker = self._talker, None
        if talker is not None:
            talker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talker

    def _add(self, call: _Call) -> asyncio.Future[Any]:
        self._waiting.append(call)
        if self._talker is None or self._talker.done():
            self._talker = asyncio.create_task(self._talk(), name="redis batches")
        return call.answer

    async def _talk(self) -> None:
        while self._waiting:
            try:
                await self._converse()
            except Exception as exc:  # whatever it is: nobody may wait for ever
                failed, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                for call in failed:
                    _settle(call, exc)
            except asyncio.CancelledError:
                self._ask_again()
                for call in self._waiting:
                    _settle(call, ConnectionError("the queue was closed meanwhile"))
                self._waiting.clear()
                raise

    async def _converse(self) -> None:
        """Until nothing waits and no answer is missing. What has none when it raises waits again."""
        pool = self.client.connection_pool
        connection: Any = await pool.get_connection()
        try:
            while self._waiting or self._asked:
                await connection.retry.call_with_retry(lambda: self._turn(connection), lambda _: self._lost(connection))
        finally:
            self._ask_again()
            await pool.release(connection)

    async def _turn(self, connection: Any) -> None:
        """Ask what waits; then take answers until none is missing, or as many wait to be asked as answers are missing:
        then Redis has something to do while those are written, and each write is of many."""
        room = MOST_AT_ONCE - len(self._asked)
        asking, self._waiting = self._waiting[:room], self._waiting[room:]
        self._asked.extend(asking)
        if asking:
            await connection.send_packed_command([call.packed for call in asking])
        while self._asked:
            try:
                answer = await connection.read_response()
            except ResponseError as exc:
                answer = exc
            call = self._asked.popleft()
            if isinstance(answer, NoScriptError) and call.script is not None and not call.was_taught:
                self._unknown.append(call)
            else:
                _settle(call, answer)
            if len(self._waiting) >= len(self._asked):
                break
        self._teach()

    def _teach(self) -> None:
        """Redis started anew, or this is the first call: it is taught the scripts, then asked again."""
        for call in self._unknown:
            call.was_taught = True
        texts = dict.fromkeys(call.script for call in self._unknown if call.script is not None)
        lessons = [_Call(hiredis.pack_command(("SCRIPT", "LOAD", text)), _unheard()) for text in texts]
        self._waiting[:0] = [*lessons, *self._unknown]
        self._unknown.clear()

    async def _lost(self, connection: Any) -> None:
        await connection.disconnect()
        self._ask_again()

    def _ask_again(self) -> None:
        again = [*self._unknown, *self._asked]
        for call in again:
            call.was_taught = False  # by a Redis that may be another one now
        self._waiting[:0] = again
        self._unknown.clear()
        self._asked.clear()


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _unheard() -> asyncio.Future[Any]:
    """For an answer that nobody waits for; if it is an error, the next call tells."""
    answer = _future()
    answer.add_done_callback(lambda it: it.cancelled() or it.exception())
    return answer


def _settle(call: _Call, answer: Any) -> None:
    if call.answer.done():
        return  # its caller went away
    if isinstance(answer, Exception):
        call.answer.set_exception(answer)
        return
    try:
        call.answer.set_result(answer if call.shape is None else call.shape(answer))
    except Exception as exc:  # an answer that is not of that shape is its caller's trouble, and no one else's
        call.answer.set_exception(exc)


def sha_of(text: str) -> str:
    """How Redis names a script."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

"""Calls to Redis that are made while others are on their way go together in the next write, and need not wait for the
answers to those: many calls are on their way at once, on one connection, in the order in which they were made. Of steps
of the same script that follow each other several are one run of it.

With many tasks at once this saves most of the client's work and of Redis', which is what limits the queue; a lone call
goes at once. Used by `connection`; knows nothing of tasks.
"""

import asyncio
import contextlib
import functools
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

MOST_AT_ONCE = 256  # calls on their way, so that a lost connection has not many to make again
MOST_TOGETHER = 16  # steps of one run, which nobody else can interrupt: that is a millisecond
MOST_BYTES_TOGETHER = 256 * 1024

Argument = str | bytes | int
Arguments = tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """Its text, and how Redis names it."""

    text: str
    sha: str


@dataclass(slots=True)
class _Call:
    answer: asyncio.Future[Any]
    packed: bytes  # as Redis reads it: the whole command, or of a step its own arguments
    shape: Callable[[Any], Any] | None = None  # how redis-py gives this command's answer
    script: Script | None = None  # for a Redis that does not know it yet
    was_taught: bool = False
    step: "_Step | None" = None


@dataclass(frozen=True, slots=True)
class _Step:
    """What is alike in those that go together (`redis_keys`, `shared`), and how many `packed` has."""

    redis_keys: Arguments
    shared: Arguments
    key: bytes  # packed
    count: int


@dataclass(slots=True)
class Batches:
    """All calls of one process on one connection, in the order in which they were made."""

    client: Redis
    _waiting: list[_Call] = field(default_factory=list)
    _asked: deque[list[_Call]] = field(default_factory=deque)  # those of one command together
    _on_their_way: int = 0  # calls in it
    _unknown: list[_Call] = field(default_factory=list)  # scripts that Redis did not know
    _talker: asyncio.Task[None] | None = None
    _connection: Any = None

    async def call(self, *command: Argument) -> Any:
        """The answer to one command. Raises what redis-py raises."""
        shape = self.client.response_callbacks.get(str(command[0]))
        return await self._add(_Call(_future(), _packed(command), shape))

    # Packed when they are made and not when they go, so that what cannot be written (half a surrogate) fails alone.

    async def script(self, script: Script, redis_keys: Arguments, args: Arguments) -> Any:
        """The answer of a script, which is loaded if Redis does not know it. Raises what redis-py raises."""
        packed = _packed(("EVALSHA", script.sha, len(redis_keys), *redis_keys, *args))
        return await self._add(_Call(_future(), packed, script=script))

    async def step(self, script: Script, redis_keys: Arguments, key: str, shared: Arguments, own: Arguments) -> Any:
        """One step of a script that does many in one run: it is given `redis_keys` and then the `key` of each, and as
        arguments `shared`, how many steps there are, and of each how many are its own, and those. It answers with a
        list. Raises as above."""
        step = _Step(redis_keys, shared, _parts(key), len(own) + 1)
        return await self._add(_Call(_future(), _parts(len(own), *own), script=script, step=step))

    async def aclose(self) -> None:
        talker, self._talker = self._talker, None
        if talker is not None:
            talker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talker
        connection, self._connection = self._connection, None
        if connection is not None:
            await self.client.connection_pool.release(connection)

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
        if self._connection is None:  # it is kept: to take one from the pool takes longer than to ask
            self._connection = await self.client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection = self._connection
        try:
            while self._waiting or self._asked:
                await connection.retry.call_with_retry(lambda: self._turn(connection), lambda _: self._lost(connection))
        finally:
            self._ask_again()

    async def _turn(self, connection: Any) -> None:
        """Ask what waits; then take answers until none is missing, or as many wait to be asked as answers are missing:
        then Redis has something to do while those are written, and each write is of many."""
        room = MOST_AT_ONCE - self._on_their_way
        asking, self._waiting = _together(self._waiting[:room]), self._waiting[room:]
        for calls in asking:
            self._asked.append(calls)
            self._on_their_way += len(calls)
        if asking:
            await connection.send_packed_command([_command(calls) for calls in asking])
        while self._asked:
            try:
                answer = await connection.read_response()
            except ResponseError as exc:
                answer = exc
            calls = self._asked.popleft()
            self._on_their_way -= len(calls)
            self._answered(calls, answer)
            if len(self._waiting) >= self._on_their_way:
                break
        self._teach()

    def _answered(self, calls: list[_Call], answer: Any) -> None:
        if isinstance(answer, NoScriptError) and calls[0].script is not None and not calls[0].was_taught:
            self._unknown += calls
        elif calls[0].step is None or isinstance(answer, Exception):
            for call in calls:
                _settle(call, answer)
        else:
            for call, own in zip(calls, answer, strict=True):
                _settle(call, own)

    def _teach(self) -> None:
        """Redis started anew, or this is the first call: it is taught the scripts, then asked again."""
        if not self._unknown:
            return
        for call in self._unknown:
            call.was_taught = True
        scripts = dict.fromkeys(call.script for call in self._unknown if call.script is not None)
        lessons = [_Call(_unheard(), _packed(("SCRIPT", "LOAD", each.text))) for each in scripts]
        self._waiting[:0] = [*lessons, *self._unknown]
        self._unknown.clear()

    async def _lost(self, connection: Any) -> None:
        await connection.disconnect()
        self._ask_again()

    def _ask_again(self) -> None:
        again = [*self._unknown, *(call for calls in self._asked for call in calls)]
        for call in again:
            call.was_taught = False  # by a Redis that may be another one now
        self._waiting[:0] = again
        self._unknown.clear()
        self._asked.clear()
        self._on_their_way = 0


def _together(calls: list[_Call]) -> list[list[_Call]]:
    """The same in the same order, those that are one command together."""
    groups: list[list[_Call]] = []
    size = 0
    for call in calls:
        first = groups[-1][0] if groups else None
        fits = first is not None and len(groups[-1]) < MOST_TOGETHER and size + len(call.packed) <= MOST_BYTES_TOGETHER
        if first is not None and fits and _are_alike(first, call):
            groups[-1].append(call)
            size += len(call.packed)
        else:
            groups.append([call])
            size = len(call.packed)
    return groups


def _are_alike(one: _Call, other: _Call) -> bool:
    if one.step is None or other.step is None or one.script is not other.script:
        return False
    return one.step.redis_keys == other.step.redis_keys and one.step.shared == other.step.shared


def _command(calls: list[_Call]) -> bytes:
    steps = [call.step for call in calls if call.step is not None]
    script = calls[0].script
    if not steps or script is None:
        return calls[0].packed
    redis_keys, shared = steps[0].redis_keys, steps[0].shared
    count = 4 + len(redis_keys) + len(steps) + len(shared) + sum(step.count for step in steps)
    parts = [b"*%d\r\n" % count, _head(script.sha, len(redis_keys) + len(steps), redis_keys)]
    parts += [step.key for step in steps]
    parts.append(_parts(*shared, len(steps)))
    parts += [call.packed for call in calls]
    return b"".join(parts)


def _packed(command: Arguments) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its types know one word only
    return packed


def _parts(*words: Argument) -> bytes:
    """As Redis reads them within a command."""
    packed = _packed(words)
    return packed[packed.index(b"\n") + 1 :] if words else b""


@functools.lru_cache(maxsize=1024)
def _head(sha: str, count: int, redis_keys: Arguments) -> bytes:
    return _parts("EVALSHA", sha, count, *redis_keys)


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

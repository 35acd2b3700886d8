"""One request to a model, from the parsed body to the answer and its usage record.

1. straight to the least busy replica of the model; another one when it cannot be reached, before the first byte
2. when no replica has room or none is up: through the queue, where a worker takes it as soon as there is room
3. the usage record is appended before the end of the answer is sent, so who saw the end is in the ledger
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stoker.base.clock import Clock
from stoker.base.errors import Conflict, EngineUnavailable, StokerError, TimedOut, Unavailable, UpstreamError
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName, new_id
from stoker.gateway.fleet import Fleet, Member
from stoker.gateway.metering import Meter
from stoker.gateway.relay import Relay, ask_for_usage, error_event
from stoker.meter.account import Account, Caller
from stoker.meter.cost import Prices
from stoker.meter.usage import Status
from stoker.queue import Chunk, NewTask, Queue, State, Task
from stoker.web import sse
from stoker.web.client import Answer, error_of

T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that was let in. `body` is the client's own; `model` is ours, whatever the client called it."""

    caller: Caller
    endpoint: str
    body: Json
    model: str
    route: str
    prices: Prices
    max_attempts: int
    timeout_s: float
    continuous_usage: bool
    id: str = field(default_factory=lambda: new_id("req"))

    def task(self, *, stream: bool) -> NewTask:
        return NewTask(
            model=ModelName(self.model),
            tenant=TenantName(self.caller.tenant),
            key_id=KeyId(self.caller.key_id),
            endpoint=self.endpoint,
            body=self.body,
            session=self.caller.session,
            run=self.caller.run,
            stream=stream,
            timeout_s=self.timeout_s,
            max_attempts=self.max_attempts,
        )


@dataclass(slots=True)
class Served:
    """An answer, or one that is coming as events (wire bytes). `replica` is None for what came through the queue."""

    replica: str | None
    answer: Answer | None = None
    events: AsyncIterator[bytes] | None = None


class NoRoom(Exception):
    """No replica of the model can take a request now."""


class Refusal(Exception):
    """The engine answered with an error before the stream began."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(slots=True)
class Inference:
    fleet: Fleet
    queue: Queue
    meter: Meter
    clock: Clock

    # --- a whole answer ---------------------------------------------------------------------------------------------

    async def answer(self, ask: Ask) -> Served:
        """Cancel it to stop the generation. Raises StokerError; an engine's refusal (4xx) is an answer like any."""
        account = self._account(ask)

        async def attempt(member: Member) -> Answer:
            with self.fleet.busy(member):
                answer = await member.client.complete(ask.endpoint, ask.body, timeout_s=ask.timeout_s)
            _raise_if_full(answer)
            return answer

        try:
            answer = await self._on_a_replica(account, attempt)
        except NoRoom:
            return Served(None, answer=await self._answer_through_queue(ask))
        except BaseException as error:
            await self._end(account, _status_of(error))
            raise
        if answer.status < 400:
            account.saw_usage(_usage_in(answer))
            account.first_token_at = self.clock.now()
            await self._end(account, "done")
        elif answer.status >= 500:
            await self._end(account, "failed")
        return Served(account.replica, answer=answer)

    async def _answer_through_queue(self, ask: Ask) -> Answer:
        task = await self.queue.submit(ask.task(stream=False))
        try:
            task = await self.queue.wait(task.id, timeout_s=ask.timeout_s)
        finally:
            if not task.state.has_ended:
                await asyncio.shield(self.queue.cancel(task.id))
        return Answer(200, {}, json.dumps(result_of(task), ensure_ascii=False).encode())

    # --- a stream ---------------------------------------------------------------------------------------------------

    async def stream(self, ask: Ask) -> Served:
        """The answer's events, opened up to the first one, so that what fails before it has a status of its own.
        Close them to stop the generation. Raises StokerError.
        """
        account = self._account(ask)
        upstream = AsyncExitStack()

        async def attempt(member: Member) -> AsyncIterator[bytes]:
            async with AsyncExitStack() as opening:
                opening.enter_context(self.fleet.busy(member))
                body = ask_for_usage(ask.body, continuous=ask.continuous_usage)
                stream = await opening.enter_async_context(member.client.stream(ask.endpoint, body))
                if stream.error is not None:
                    _raise_if_full(stream.error)
                    raise Refusal(stream.error)
                first = await anext(stream.events, None)
                if first is None:
                    raise EngineUnavailable("the engine ended the stream before its first event")
                upstream.push_async_exit(opening.pop_all())
                return _chain(first, stream.events)

        try:
            events = await self._on_a_replica(account, attempt)
        except NoRoom:
            return Served(None, events=self._stream_through_queue(ask))
        except Refusal as refusal:
            if refusal.answer.status >= 500:
                await self._end(account, "failed")
            return Served(account.replica, answer=refusal.answer)
        except BaseException as error:
            await self._end(account, _status_of(error))
            raise
        relayed = self._relayed(ask, account, events, upstream)
        await anext(relayed)
        return Served(account.replica, events=relayed)

    async def _relayed(
        self, ask: Ask, account: Account, events: AsyncIterator[bytes], upstream: AsyncExitStack
    ) -> AsyncIterator[bytes]:
        """From the engine to the client. Whatever ends it, the upstream is closed, and then there is one record.

        Its first step yields nothing of worth: a generator that was never started runs no `finally` when it is closed.
        """
        relay = Relay(ask.body, account)
        status: Status = "cancelled"
        last = sse.event(sse.DONE)
        try:
            async with upstream:
                yield b""
                async for event in events:
                    if event == sse.DONE:
                        status = "done"
                        break
                    passed = relay.pass_on(event, self.clock.now())
                    if passed is not None:
                        yield sse.event(passed)
                if status != "done":
                    raise EngineUnavailable("the engine broke off in the middle of the answer", hint="ask again")
        except StokerError as error:
            status, last = "failed", error_event(error)
        finally:
            await self._end(account, status)
        yield last

    async def _stream_through_queue(self, ask: Ask) -> AsyncIterator[bytes]:
        """Begins at once, however long the queue is: the client gets comments meanwhile, and errors as events."""
        relay = Relay(ask.body, None)
        task = await self.queue.submit(ask.task(stream=True))
        deadline = self.clock.monotonic() + ask.timeout_s
        ended = False
        last = sse.event(sse.DONE)
        token: int | None = None
        try:
            async for chunk in self.task_chunks(task.id, deadline):
                if token not in (None, chunk.token):
                    raise UpstreamError("the worker was lost in the middle of the answer; another began it anew")
                token = chunk.token
                passed = relay.pass_on(chunk.data, self.clock.now())
                if passed is not None:
                    yield sse.event(passed)
            ended = True
        except StokerError as error:
            last = error_event(error)
        finally:
            if not ended:
                await asyncio.shield(self.queue.cancel(task.id))
        yield last

    async def task_chunks(self, task_id: TaskId, deadline: float, after: str | None = None) -> AsyncIterator[Chunk]:
        """What a streamed task says until it is done. Raises the error of one that dies, NotFound, and TimedOut at
        `deadline` (monotonic).
        """
        chunks = self.queue.chunks(task_id, after=after)
        while True:
            try:
                left_s = max(0.0, deadline - self.clock.monotonic())
                chunk = await asyncio.wait_for(anext(chunks, None), left_s)
            except TimeoutError as exc:
                raise TimedOut(f"task {task_id} did not end in time") from exc
            if chunk is None:
                break
            yield chunk
        result_of(await self.queue.get(task_id))

    # --- shared -----------------------------------------------------------------------------------------------------

    def _account(self, ask: Ask) -> Account:
        return Account(
            id=ask.id,
            kind="request",
            caller=ask.caller,
            model=ask.model,
            route=ask.route,
            prices=ask.prices,
            started_at=self.clock.now(),
        )

    async def _end(self, account: Account, status: Status) -> None:
        # Shielded: a client that has gone must not take the record with it.
        await asyncio.shield(self.meter.append(account.record(status, self.clock.now())))

    async def _on_a_replica(self, account: Account, attempt: Callable[[Member], Awaitable[T]]) -> T:
        """`attempt` on the least busy replica, then on others as long as it raises Unavailable. Raises NoRoom."""
        tried: set[str] = set()
        while True:
            member = self.fleet.choose(account.model, exclude=tried)
            if member is None:
                raise NoRoom
            account.replica = member.replica.id
            try:
                return await attempt(member)
            except Unavailable as error:
                if error.code != ENGINE_FULL:
                    self.fleet.mark_down(member, error.message)
                tried.add(member.replica.id)
                account.attempts += 1


ENGINE_FULL = "engine_full"


def _raise_if_full(answer: Answer) -> None:
    """An engine that is full or draining says 503: another replica, or the queue, will do it."""
    if answer.status == 503:
        raise EngineUnavailable("the engine takes no more requests now", code=ENGINE_FULL)


def _status_of(error: BaseException) -> Status:
    return "failed" if isinstance(error, Exception) else "cancelled"


def _usage_in(answer: Answer) -> Any:
    body = answer.json()
    return body.get("usage") if isinstance(body, dict) else None


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in rest:
        yield event


def result_of(task: Task) -> Json:
    """The answer of a task that is done. Raises what became of it otherwise; TimedOut when it has not ended."""
    if task.state is State.DONE:
        return task.result or {}
    if task.state is State.DEAD:
        error = task.error or {}
        raise error_of(Answer(int(error.get("status", 502)), {}, json.dumps({"error": error}).encode()))
    if task.state is State.CANCELLED:
        raise Conflict(f"task {task.id} was cancelled")
    raise TimedOut(f"task {task.id} did not end in time; it is {task.state}")

"""One request to a model, from the parsed body to the answer and its usage record.

1. straight to the least busy replica of the model; another one when it cannot be reached, before the first byte
2. when no replica has room or none is up: through the queue, where a worker takes it as soon as there is room
3. the usage record is appended before the end of the answer is sent, so who saw the end is in the ledger
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import Conflict, EngineUnavailable, StokerError, TimedOut, Unavailable, UpstreamError
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName, new_id
from stoker.gateway.commitments import Commitments
from stoker.gateway.fleet import Fleet, Member
from stoker.gateway.metering import Meter
from stoker.gateway.relay import Relay, ask_for_usage, error_event
from stoker.meter.charge import Caller, Charge
from stoker.meter.cost import Prices
from stoker.meter.usage import Status
from stoker.queue import Chunk, NewTask, Queue, State, Task
from stoker.web import problems, sse
from stoker.web.client import Answer, error_of, openai_error_in

_log = logs.get(__name__)
T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that was let in. `body` is the client's own; `model` is ours, whatever the client called it.

    `id` is that of its usage record, and of the task that it becomes if it has to wait.
    """

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

    @property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True

    def task(self, *, timeout_s: float | None) -> NewTask:
        return NewTask(
            model=ModelName(self.model),
            tenant=TenantName(self.caller.tenant),
            key_id=KeyId(self.caller.key_id),
            endpoint=self.endpoint,
            body=self.body,
            session=self.caller.session,
            run=self.caller.run,
            stream=self.wants_stream,
            timeout_s=timeout_s,
            max_attempts=self.max_attempts,
        )


@dataclass(slots=True)
class Served:
    """An answer, or one that is coming as events (wire bytes). `replica` is None for what came through the queue."""

    replica: str | None
    answer: Answer | None = None
    events: AsyncGenerator[bytes, None] | None = None

    async def aclose(self) -> None:
        """Nobody wants it any more: stop what is still coming."""
        if self.events is not None:
            await self.events.aclose()


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
    commitments: Commitments

    async def run(self, ask: Ask) -> Served:
        """Cancel it to stop the generation, or close what it returns. Raises StokerError; an engine's refusal (4xx) is
        an answer like any."""
        return await (self._stream(ask) if ask.wants_stream else self._answer(ask))

    # --- a whole answer ---------------------------------------------------------------------------------------------

    async def _answer(self, ask: Ask) -> Served:
        charge = self._charge(ask)

        async def attempt(member: Member) -> Answer:
            with self.fleet.busy(member):
                answer = await member.client.complete(ask.endpoint, ask.body, timeout_s=ask.timeout_s)
            _raise_if_ours(answer)
            if answer.status < 400:
                charge.saw_usage(_usage_in(answer))
            return answer

        try:
            answer = await self._on_a_replica(charge, attempt)
        except NoRoom:
            return Served(None, answer=await self._answer_through_queue(ask))
        except BaseException as error:
            await self._end(charge, _status_of(error))
            raise
        if answer.status >= 400:
            return await self._refused(charge, answer)
        await self._end(charge, "done")
        return Served(charge.replica, answer=answer)

    async def _answer_through_queue(self, ask: Ask) -> Answer:
        async with self._task(ask) as task:
            result = result_of(await self.queue.wait(task.id, timeout_s=ask.timeout_s))
        return Answer(200, {}, json.dumps(result, ensure_ascii=False).encode())

    # --- a stream ---------------------------------------------------------------------------------------------------

    async def _stream(self, ask: Ask) -> Served:
        """The answer's events, opened up to the first one, so that what fails before it has a status of its own."""
        charge = self._charge(ask)
        deadline = self.clock.monotonic() + ask.timeout_s
        upstream = AsyncExitStack()

        async def attempt(member: Member) -> tuple[bytes, AsyncIterator[bytes]]:
            async with AsyncExitStack() as opening:
                opening.enter_context(self.fleet.busy(member))
                body = ask_for_usage(ask.body, continuous=ask.continuous_usage)
                stream = await opening.enter_async_context(member.client.stream(ask.endpoint, body))
                if stream.error is not None:
                    _raise_if_ours(stream.error)
                    if stream.error.status < 400:
                        raise UpstreamError("the engine answered at once where a stream of events was asked for")
                    raise Refusal(stream.error)
                first = await anext(stream.events, None)
                if first is None:
                    raise EngineUnavailable("the engine ended the stream before its first event")
                upstream.push_async_exit(opening.pop_all())
                return first, stream.events

        try:
            first, events = await self._on_a_replica(charge, attempt)
        except NoRoom:
            queued = self._stream_through_queue(ask, deadline)
            await anext(queued)
            return Served(None, events=queued)
        except Refusal as refusal:
            return await self._refused(charge, refusal.answer)
        except BaseException as error:
            await self._end(charge, _status_of(error))
            raise
        relayed = self._relayed(ask, charge, first, events, upstream, deadline)
        await anext(relayed)
        return Served(charge.replica, events=relayed)

    async def _relayed(
        self,
        ask: Ask,
        charge: Charge,
        first: bytes,
        events: AsyncIterator[bytes],
        upstream: AsyncExitStack,
        deadline: float,
    ) -> AsyncGenerator[bytes, None]:
        """From the engine to the client. Whatever ends it, the upstream is closed, and then there is one record.

        Its first step yields nothing of worth: a generator that was never started runs no `finally` when it is closed.
        """
        relay = Relay(ask.body, charge)
        status: Status = "cancelled"
        last = sse.event(sse.DONE)
        try:
            async with upstream:
                yield b""
                event: bytes | None = first
                while event is not None and event != sse.DONE:
                    passed = relay.pass_on(event, self.clock.now())
                    if passed is not None:
                        yield sse.event(passed)
                    event = await self._next(events, deadline)
                if event is None:
                    raise EngineUnavailable("the engine broke off in the middle of the answer", hint="ask again")
                status = "done"
        except StokerError as error:
            status, last = "failed", error_event(error)
        finally:
            await self._end(charge, status)
        yield last

    async def _stream_through_queue(self, ask: Ask, deadline: float) -> AsyncGenerator[bytes, None]:
        """Its first step yields nothing and puts the request into the queue, so what fails there has a status of its
        own. Then the answer begins, however long the queue is: the client gets comments meanwhile, and errors as
        events.
        """
        relay = Relay(ask.body, None)
        is_queued = False
        last = sse.event(sse.DONE)
        token: int | None = None
        try:
            async with self._task(ask) as task, aclosing(self.task_chunks(task.id, deadline)) as chunks:
                is_queued = True
                yield b""
                async for chunk in chunks:
                    if token not in (None, chunk.token):
                        raise UpstreamError("the worker was lost in the middle of the answer; another began it anew")
                    token = chunk.token
                    passed = relay.pass_on(chunk.data, self.clock.now())
                    if passed is not None:
                        yield sse.event(passed)
        except StokerError as error:
            if not is_queued:
                raise
            last = error_event(error)
        yield last

    async def task_chunks(
        self, task_id: TaskId, deadline: float, after: str | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """What a streamed task says until it is done. Raises the error of one that dies, NotFound, and TimedOut at
        `deadline` (monotonic).
        """
        async with aclosing(self.queue.chunks(task_id, after=after)) as chunks:  # type: ignore[type-var]  # a generator
            while (chunk := await self._next(chunks, deadline)) is not None:
                yield chunk
        result_of(await self.queue.get(task_id))

    # --- shared -----------------------------------------------------------------------------------------------------

    def _charge(self, ask: Ask) -> Charge:
        return Charge(
            id=ask.id,
            kind="request",
            caller=ask.caller,
            model=ask.model,
            route=ask.route,
            prices=ask.prices,
            started_at=self.clock.now(),
        )

    async def _end(self, charge: Charge, status: Status) -> None:
        # A client that has gone must not take the record with it.
        await self.commitments.keep(self.meter.append(charge.record(status, self.clock.now())))

    async def _refused(self, charge: Charge, answer: Answer) -> Served:
        """An engine's error for the client. One that is the request's own fault (4xx) was never let in: no record."""
        if answer.status >= 500:
            await self._end(charge, "failed")
        if openai_error_in(answer) is None:
            body = json.dumps(problems.body_of(error_of(answer)), ensure_ascii=False).encode()
            answer = Answer(answer.status, answer.headers, body)
        return Served(charge.replica, answer=answer)

    async def _on_a_replica(self, charge: Charge, attempt: Callable[[Member], Awaitable[T]]) -> T:
        """`attempt` on the least busy replica, then on others as long as it raises Unavailable. Raises NoRoom."""
        tried: set[str] = set()
        while True:
            member = self.fleet.choose(charge.model, exclude=tried)
            if member is None:
                raise NoRoom
            charge.replica = member.replica.id
            try:
                return await attempt(member)
            except Unavailable as error:
                if error.code != ENGINE_FULL:
                    self.fleet.mark_down(member, error.message)
                tried.add(member.replica.id)
                charge.attempts += 1

    @asynccontextmanager
    async def _task(self, ask: Ask) -> AsyncIterator[Task]:
        """The request in the queue. Left with an error or a cancellation, the task is cancelled, for nobody waits."""
        submitting = self.commitments.begin(
            self.queue.submit(ask.task(timeout_s=ask.timeout_s), task_id=TaskId(ask.id))
        )
        try:
            yield await asyncio.shield(submitting)
        except BaseException:
            await self.commitments.keep(self._call_off(submitting))
            raise

    async def _call_off(self, submitting: "asyncio.Task[Task]") -> None:
        # Waited for first: a task cannot be cancelled before it is there.
        await asyncio.wait({submitting})
        if submitting.exception() is not None:
            return
        task_id = submitting.result().id
        try:
            await self.queue.cancel(task_id)
        except StokerError as error:
            _log.warning("cannot cancel a task that nobody waits for", task=task_id, error=error.message)

    async def _next(self, items: AsyncIterator[T], deadline: float) -> T | None:
        """The next of them, None after the last. Raises TimedOut at `deadline` (monotonic)."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.monotonic())):
                return await anext(items, None)
        except TimeoutError as exc:
            raise TimedOut("the answer did not end in time", hint="gateway.timeouts.totalSeconds bounds it") from exc


ENGINE_FULL = "engine_full"


def _raise_if_ours(answer: Answer) -> None:
    """Raises for what is not the client's business: an engine that is full or draining (503), so that another replica
    or the queue does it; our own key that the engine does not take."""
    if answer.status == 503:
        raise EngineUnavailable("the engine takes no more requests now", code=ENGINE_FULL)
    if answer.status in (401, 403):
        raise UpstreamError(
            f"the engine does not take the platform's own key (status {answer.status})",
            hint="for who runs the platform: llm.models.*.engine.apiKeyEnv names the variable that holds it",
            upstream_status=answer.status,
        )


def _status_of(error: BaseException) -> Status:
    return "failed" if isinstance(error, Exception) else "cancelled"


def _usage_in(answer: Answer) -> Any:
    body = answer.json()
    return body.get("usage") if isinstance(body, dict) else None


def result_of(task: Task) -> Json:
    """The answer of a task that is done. Raises what became of it otherwise; TimedOut when it has not ended."""
    if task.state is State.DONE:
        return task.result or {}
    if task.state is State.DEAD:
        error = task.error or {}
        status = int(error.get("status") or (504 if error.get("type") == TimedOut.type else 502))
        raise error_of(Answer(status, {}, json.dumps({"error": error}).encode()))
    if task.state is State.CANCELLED:
        raise Conflict(f"task {task.id} was cancelled")
    raise TimedOut(f"task {task.id} did not end in time; it is {task.state}")

"""One request to a model, from the parsed body to the answer and its usage record.

0. admitted: the most that it could cost is reserved of every budget that it falls under, or it is refused
1. straight to the least busy replica of the model; another one when it cannot be reached, before the first byte
2. when no replica has room or none is up: through the queue, where a worker takes it as soon as there is room; or as a
   task that its client fetches later (`busy`)
3. settled with what it came to before the end of the answer is sent: its usage record is in the journal by then, which
   outlives this process, and on its way to Redis and the ledger
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from stoker.base import json_text, logs
from stoker.base.clock import Clock
from stoker.base.errors import (
    Conflict,
    EngineUnavailable,
    NotFound,
    QueueUnavailable,
    StokerError,
    TimedOut,
    Unavailable,
    Unreachable,
    UpstreamError,
)
from stoker.base.ids import TaskId
from stoker.gateway import busy, recording, spans
from stoker.gateway.admission import Admission, Permit
from stoker.gateway.ask import Ask, Patience, Running, Served, StandIn, bound_of_task, result_of
from stoker.gateway.bounds import Quote
from stoker.gateway.commitments import Commitments
from stoker.gateway.fleet import ENGINE_FULL, Fleet, Member
from stoker.gateway.limits import Terms
from stoker.gateway.receipts import Receipt, rate_limits
from stoker.gateway.relay import UsedUp, pass_all
from stoker.gateway.sessions import Sessions
from stoker.gateway.upstream import Refusal, RefusedUs, Upstream, raise_if_ours
from stoker.gateway.watch import Watch, silent, too_long
from stoker.meter.charge import Charge
from stoker.meter.usage import Status
from stoker.queue import Chunk, Queue, Task
from stoker.telemetry.spans import finish_reasons, finish_reasons_in
from stoker.web import problems, sse
from stoker.web.client import Answer, error_of, openai_error_in

_log = logs.get(__name__)
T = TypeVar("T")
Json = dict[str, Any]


class NoRoom(Exception):
    """No replica of the model can take a request now."""


class NoneUp(Exception):
    """No replica of the model is up, and another model stands in."""

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(stand_in.model)
        self.stand_in = stand_in


@dataclass(slots=True)
class Inference:
    fleet: Fleet
    queue: Queue
    admission: Admission
    sessions: Sessions
    clock: Clock
    commitments: Commitments
    patience: Patience

    async def run(self, ask: Ask) -> Served:
        """Cancel it to stop the generation, or close what it returns. Raises StokerError, and Refused among them when
        a budget says no; an engine's refusal (4xx) is an answer like any."""
        if ask.stand_in is not None and await self._is_down(ask.model, ask.stand_in):
            return await self._stand_in(ask, ask.stand_in)
        running = await self.admit(ask)
        try:
            return await (self._stream(running) if ask.wants_stream else self._answer(running))
        except NoneUp as none:
            return await self._stand_in(running.ask, none.stand_in, running.charge.attempts)

    async def _is_down(self, model: str, stand_in: StandIn, *, was_tried: bool = False) -> bool:
        """Whether the other model is to answer: no replica of this one is up, nor comes within the time to connect, and
        one of the other is."""
        if await self.fleet.comes_up(model, within_s=self.patience.connect_s, was_tried=was_tried):
            return False
        return self.fleet.is_up(stand_in.model)

    async def _stand_in(self, ask: Ask, stand_in: StandIn, attempts: int = 1) -> Served:
        """Answered by the other model, at its prices, let in anew; its headers say so."""
        other = replace(await stand_in.ask(), attempts=attempts)
        _log.info("another model stands in", request=ask.id, model=ask.model, by=other.model)
        served = await self.run(other)
        served.headers |= {"X-Stoker-Model": other.model, "X-Stoker-Route": other.route}
        return served

    async def admit(self, ask: Ask) -> Running:
        """Raises what `Admission.admit` raises. From here on `_end`, `_turned_away` or a task's hold ends it."""
        permit = await self.admission.admit(ask.terms, ask.quote)
        ask = ask.within(permit.quote)
        if ask.session is not None:
            self.sessions.begin(ask.session)
        bound = permit.bound
        charge = Charge(
            id=ask.id,
            kind="request",
            caller=ask.caller,
            model=ask.model,
            route=ask.route,
            prices=ask.prices,
            started_at=self.clock.now(),
            most=(bound.prompt_tokens, bound.completion_tokens),
            attempts=ask.attempts,
        )
        return Running(ask, permit, charge, self.clock.monotonic())

    # --- a whole answer ---------------------------------------------------------------------------------------------

    async def _answer(self, running: Running) -> Served:
        ask, charge = running.ask, running.charge

        async def attempt(member: Member) -> Answer:
            left_s = running.admitted_at + ask.timeout_s - self.clock.monotonic()
            try:
                with self.fleet.busy(member):
                    answer = await member.client.complete(
                        ask.endpoint.path,
                        ask.body,
                        request_id=ask.id,
                        timeout_s=left_s,
                        within_s=left_s,
                        trace=running.call_lines,
                    )
                    self.fleet.answered(member, answer.status)
            except TimedOut as error:
                raise too_long() from error
            raise_if_ours(answer)
            if answer.status < 400:
                said = answer.json()
                charge.saw_usage(ask.endpoint.usage_in(said))
                if ask.span is not None:
                    running.reasons = finish_reasons(said)
            return answer

        try:
            answer = await self._on_a_replica(running, attempt)
        except NoRoom:
            wish = await self._when_busy(running)
            return await self._answer_through_queue(running, wish)
        except RefusedUs as error:
            spans.ended(running, self.clock.now(), _name_of(error))
            await self._refused_us(running, error)
            raise
        except BaseException as error:
            _note(running, error)
            spans.ended(running, self.clock.now(), _name_of(error))
            await self._end(running, _status_of(error), _reason_of(error))
            raise
        spans.ended(running, self.clock.now(), _code_of(answer.status))
        if answer.status >= 400:
            return await self._refused(running, answer)
        receipt = await self._end(running, "done")
        return Served(charge.replica, answer=answer, headers=receipt.headers(self.clock.now()))

    async def _answer_through_queue(self, running: Running, wish: busy.Wish) -> Served:
        ask, is_async = running.ask, wish.how == "async"
        async with self._task(running, may_stay=is_async) as task:
            left_s = running.admitted_at + ask.timeout_s - self.clock.monotonic()
            ended = task
            if not is_async or wish.wait_s > 0:
                ended = await self.queue.wait(task.id, timeout_s=max(0.0, min(left_s, wish.wait_s or left_s)))
            result = None if is_async and not ended.state.has_ended else result_of(ended)
        if result is None:
            return await self._as_task(running, ended, wish)
        running.charge.saw_usage(ask.endpoint.usage_in(result))
        waited_s = (ended.started_at or ended.submitted_at) - ended.submitted_at
        receipt = await self._receipt(running, waited_s)
        return Served(None, answer=Answer(200, {}, json_text.dumps(result)), headers=receipt.headers(self.clock.now()))

    # --- a stream ---------------------------------------------------------------------------------------------------

    async def _stream(self, running: Running) -> Served:
        """The answer's events, opened up to the first one, so that what fails before it has a status of its own."""
        ask, charge = running.ask, running.charge
        deadline = running.admitted_at + ask.timeout_s

        async def attempt(member: Member) -> Upstream:
            with Upstream(self.fleet.busy(member)) as upstream:
                body = ask.endpoint.asking(ask.body, continuous=ask.continuous_usage)
                # Comments are no tokens: an engine that says nothing else is silent.
                async with self._until(deadline, self.patience.first_token_s):
                    stream = upstream.stream = await member.client.open(
                        ask.endpoint.path, body, request_id=ask.id, trace=running.call_lines
                    )
                    upstream.first = await stream.read()
                if stream.error is not None:
                    self.fleet.answered(member, stream.error.status)
                    raise_if_ours(stream.error)
                    if stream.error.status < 400:
                        raise UpstreamError("the engine answered at once where a stream of events was asked for")
                    raise Refusal(stream.error)
                if not upstream.first:
                    raise EngineUnavailable("the engine ended the stream before its first event")
                self.fleet.answered(member, 200)
                return upstream.kept()

        try:
            upstream = await self._on_a_replica(running, attempt)
        except NoRoom:
            wish = await self._when_busy(running)
            if wish.how == "async":  # also where it would wait for a while: an answer that is read later is no stream
                return await self._answer_through_queue(running, wish._replace(wait_s=0.0))
            queued = self._stream_through_queue(running, deadline)
            await anext(queued)
            return Served(None, events=queued, headers=self.limits(ask))
        except Refusal as refusal:
            spans.ended(running, self.clock.now(), _code_of(refusal.answer.status))
            return await self._refused(running, refusal.answer)
        except RefusedUs as error:
            spans.ended(running, self.clock.now(), _name_of(error))
            await self._refused_us(running, error)
            raise
        except BaseException as error:
            _note(running, error)
            spans.ended(running, self.clock.now(), _name_of(error))
            await self._end(running, _status_of(error), _reason_of(error))
            raise
        if ask.span is not None:
            ask.span.ends_later = True
        relayed = self._relayed(running, upstream, deadline)
        await anext(relayed)
        return Served(charge.replica, events=relayed, headers=self.limits(ask))

    async def _relayed(self, running: Running, upstream: Upstream, deadline: float) -> AsyncGenerator[bytes, None]:
        """From the engine to the client. Whatever ends it, the upstream is closed, and then there is one record.

        Its first step yields nothing of worth: a generator that was never started runs no `finally` when it is closed.
        """
        relay, ask_span = running.ask.endpoint.relay(running.ask.body, running.charge), running.ask.span
        record = recording.of(ask_span)
        status: Status = "cancelled"
        reason: str | None = CLIENT_WENT
        last: list[bytes] = []
        tail: deque[bytes] = deque(maxlen=_TAIL_PIECES)  # of what was passed on: in it stands why the answer ended
        stream = upstream.opened
        watch = Watch(stream.abort, silence_s=self.patience.between_tokens_s, rest_s=deadline - self.clock.monotonic())
        try:
            with upstream:
                yield b""
                events, is_done = upstream.first, False
                while events and not is_done:
                    # What came together goes on together: in one piece, with one look at the clock.
                    passed, is_done, stopped = pass_all(relay, events, self.clock.now())
                    if passed:
                        if ask_span is not None:
                            tail.append(passed)
                        if record is not None:
                            record.saw(passed)
                        yield passed
                    if stopped is not None:
                        raise stopped
                    if not is_done:
                        events = await stream.read()
                        watch.heard()
                if not relay.has_ended and not (is_done and relay.ends_with_done):
                    raise EngineUnavailable("the engine broke off in the middle of the answer", hint="ask again")
                status, reason = "done", None
        except UsedUp:
            status, reason = "cut", "it had produced all that it was let in with"
        except StokerError as error:
            self._hide(running, error)
            _note(running, error)
            status, reason, last = "failed", error.message, [relay.failed(error)]
        finally:
            watch.stop()
            if not running.charge.is_counted:
                relay.count(self.clock.now())
            ended_at = self.clock.now()
            if tail:
                running.reasons = finish_reasons_in(b"".join(tail)[-_TAIL_BYTES:])
            spans.ended(running, ended_at, None if status in ("done", "cut") else status)
            if record is not None and ask_span is not None:
                record.tell(ask_span)
            try:
                receipt = await self._end(running, status, reason)
            finally:  # the charge is what its call says, and does not change any more
                spans.answered_with(ask_span, 200, ended_at)
        if status == "cut":  # now that it is known what the engine had produced
            last = relay.cut()
        for event in last:
            yield event
        if status != "failed":
            yield relay.end(receipt.as_json()) + (_DONE if relay.ends_with_done else b"")

    async def _stream_through_queue(self, running: Running, deadline: float) -> AsyncGenerator[bytes, None]:
        """Its first step yields nothing and puts the request into the queue, so what fails there has a status of its
        own. Then the answer begins, however long the queue is: the client gets comments meanwhile, and errors as
        events.
        """
        relay = running.ask.endpoint.relay(running.ask.body, None)
        is_queued = False
        token: int | None = None
        waited_s = 0.0
        try:
            async with self._task(running) as task, aclosing(self.task_chunks(task.id, deadline)) as chunks:
                is_queued = True
                yield b""
                async for chunk in chunks:
                    if token is None:
                        waited_s = self.clock.monotonic() - running.admitted_at
                    elif chunk.token != token:
                        raise UpstreamError("the worker was lost in the middle of the answer; another began it anew")
                    token = chunk.token
                    passed = relay.pass_on(chunk.data, self.clock.now())
                    if passed is not None:
                        yield passed
        except StokerError as error:
            if not is_queued:
                raise
            yield relay.failed(error)
            return
        running.charge.saw_usage(relay.usage)
        yield relay.end((await self._receipt(running, waited_s)).as_json()) + (_DONE if relay.ends_with_done else b"")

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

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _end(self, running: Running, status: Status, reason: str | None = None) -> Receipt:
        if status == "done" and running.ask.session is None:  # nothing to ask or to look up: one step
            running.charge.count_the_most(was_streamed=running.ask.wants_stream)
            record = running.charge.record(status, self.clock.now(), reason)
            waiting = self.admission.settle_now(running.permit, record)
            if waiting is not None:
                await waiting
            return self._receipt_of(running, record.nano_usd, 0.0, None)
        # A client that has gone must not take the record with it.
        return await self.commitments.keep(self._settle(running, status, reason))

    async def _settle(self, running: Running, status: Status, reason: str | None) -> Receipt:
        ask, permit, charge = running.ask, running.permit, running.charge
        ended_at = self.clock.now()
        if permit.is_sent:
            if status != "done" and ask.continuous_usage and charge.replica is not None:
                await self._ask_the_engine(charge)
            charge.count_the_most(was_streamed=ask.wants_stream)
        record = charge.record(status, ended_at, reason)
        await self.admission.settle(permit, record)
        return await self._receipt(running, 0.0)

    async def _ask_the_engine(self, charge: Charge) -> None:
        """What it produced for a request that was stopped: it may be a step ahead of what was seen. Engines that cannot
        say, or are gone, leave the charge as it is."""
        member = self.fleet.members.get(charge.replica or "")
        if member is None:
            return
        usage = await member.client.usage_of(charge.id, sent_at=charge.started_at, clock=self.clock)
        if usage is not None:
            charge.saw_usage(usage)

    async def _receipt(self, running: Running, queue_wait_s: float) -> Receipt:
        ask, nano_usd = running.ask, running.charge.nano_usd()
        session = None if ask.session is None else await self.sessions.end(ask.session, nano_usd)
        return self._receipt_of(running, nano_usd, queue_wait_s, session)

    def _receipt_of(self, running: Running, nano_usd: int, queue_wait_s: float, session: int | None) -> Receipt:
        ask, charge = running.ask, running.charge
        return Receipt(
            prompt_tokens=charge.prompt_tokens,
            cached_tokens=charge.cached_tokens,
            completion_tokens=charge.completion_tokens,
            nano_usd=nano_usd,
            queue_wait_s=queue_wait_s,
            left=self.admission.left(ask.terms),
            session_nano_usd=session,
        )

    def limits(self, ask: Ask) -> dict[str, str]:
        """Headers that say what is left of the budgets that the request falls under."""
        return rate_limits(self.admission.left(ask.terms), self.clock.now())

    async def _refused(self, running: Running, answer: Answer) -> Served:
        """An engine's error for the client. One that is the request's own fault (4xx) spent nothing: no record."""
        if answer.status >= 500:
            running.charge.saw_refusal()  # it says itself that there is no answer
            await self._end(running, "failed", f"the engine answered with status {answer.status}")
        else:
            self._turned_away(running)
        if openai_error_in(answer) is None:
            answer = Answer(answer.status, answer.headers, problems.encoded(error_of(answer)))
        return Served(running.charge.replica, answer=answer, headers=self.limits(running.ask))

    async def _refused_us(self, running: Running, error: RefusedUs) -> None:
        """Raises NoneUp when another model can answer in its place; else the request has failed."""
        _note(running, error)
        stand_in = running.ask.stand_in
        if stand_in is None or not self.fleet.is_up(stand_in.model):
            running.charge.saw_refusal()  # it says itself that there is no answer
            await self._end(running, "failed", error.message)
            return
        self._turned_away(running)
        running.charge.attempts += 1
        raise NoneUp(stand_in) from error

    def _hide(self, running: Running, error: StokerError) -> None:
        """What the engine's own words, in the middle of its answer, say of its key and its address."""
        member = self.fleet.members.get(running.charge.replica or "")
        if member is not None:
            error.message = member.client.hiding.text(error.message)

    def _turned_away(self, running: Running) -> None:
        self.admission.release(running.permit)
        self.commitments.begin(self._forget_session(running.ask))

    async def _forget_session(self, ask: Ask) -> None:
        """The request adds nothing to what its session has cost, as far as this process can say."""
        if ask.session is not None:
            await self.sessions.end(ask.session, 0)

    async def _leave_to_stand_in(self, running: Running) -> None:
        """Raises NoneUp, with the reservation given back, when another model is to answer; else it is for the queue."""
        stand_in = running.ask.stand_in
        if stand_in is None:
            return
        try:
            is_down = await self._is_down(running.ask.model, stand_in, was_tried=True)
        except asyncio.CancelledError:
            self._turned_away(running)
            raise
        if is_down:
            self._turned_away(running)
            raise NoneUp(stand_in)

    # --- no room ------------------------------------------------------------------------------------------------------

    async def _when_busy(self, running: Running) -> busy.Wish:
        """What becomes of it, with its reservation. Raises NoneUp, and StokerError when it is not to wait; the
        reservation is given back then."""
        await self._leave_to_stand_in(running)
        try:
            wish = busy.wish_of(running.ask.headers, running.ask.terms.account.tenant_terms)
            if wish.how == "refuse":
                raise busy.no_room(running.ask.model)
        except StokerError:
            self._turned_away(running)
            raise
        running.ask = replace(running.ask, priority=wish.priority)
        return wish

    async def _as_task(self, running: Running, task: Task, wish: busy.Wish) -> Served:
        """It is in the queue, and its client will ask for it."""
        await self._forget_session(running.ask)
        headers = self.limits(running.ask)
        if wish.applied is not None:
            headers["Preference-Applied"] = wish.applied
        return Served(None, task=task, headers=headers)

    # --- on replicas and through the queue ----------------------------------------------------------------------------

    async def _on_a_replica(self, running: Running, attempt: Callable[[Member], Awaitable[T]]) -> T:
        """`attempt` on the replica that holds its cache or the least busy one, then on others as long as it raises
        Unavailable. Raises NoRoom, and what `Admission.admit` raises: an attempt that may have run is paid for, so
        another one is let in anew."""
        ask, charge = running.ask, running.charge
        tried: set[str] = set()
        while True:
            member = self.fleet.choose(charge.model, exclude=tried, key=ask.affinity)
            if member is None:
                raise NoRoom
            replica = member.replica
            charge.replica = replica.id
            self.admission.sent(
                running.permit,
                request_id=ask.id,
                model=ask.model,
                route=ask.route,
                replica_id=replica.id,
                replica_url=replica.url,
            )
            spans.calls(running, self.clock.now())
            try:
                answered = await attempt(member)
            except Unavailable as error:
                spans.ended(running, self.clock.now(), error.code)
                if error.code != ENGINE_FULL and not isinstance(error, Unreachable):
                    await self._pay_for_lost(running, error)
                tried.add(replica.id)
                charge.attempts += 1
            else:
                return answered

    async def _pay_for_lost(self, running: Running, error: StokerError) -> None:
        """An attempt that its engine took, and of which nothing came back. What an embedded engine had computed died
        with it and costs nobody anything; of another one nobody can say, so all that was reserved counts, with a record
        of its own, and the next attempt needs a reservation of its own. Raises what `Admission.admit` raises."""
        ask, charge = running.ask, running.charge
        if ask.continuous_usage:
            return
        lost = replace(charge, id=f"{ask.id}.{charge.attempts}")
        lost.count_the_most(was_streamed=False)
        record = lost.record("failed", self.clock.now(), f"{error.message}: nobody can say what it produced")
        await self.commitments.keep(self.admission.settle(running.permit, record))
        running.permit = await self.admission.admit(ask.terms, replace(ask.quote, is_elastic=False))

    @asynccontextmanager
    async def _task(self, running: Running, *, may_stay: bool = False) -> AsyncIterator[Task]:
        """The request in the queue. Left with an error or a cancellation, the task is cancelled, for nobody waits.
        `may_stay`: however long it has to wait."""
        timeout_s = None if may_stay else running.ask.timeout_s
        submitting = self.commitments.begin(self.submit(running, timeout_s=timeout_s))
        try:
            yield await asyncio.shield(submitting)
        except BaseException:
            await self.commitments.keep(self._call_off(running, submitting))
            raise

    async def submit_alone(self, ask: Ask) -> Task:
        """As a task that nobody waits for, however long it has to wait: `/v1/tasks`. Raises StokerError."""
        running = await self.admit(ask)
        try:
            return await self.commitments.keep(self.submit(running, timeout_s=None))
        finally:
            await self._forget_session(running.ask)

    async def submit_by_id(self, ask: Ask, *, timeout_s: float | None) -> Task:
        """As a task whose id says what it is (a line of a batch, a request with an `Idempotency-Key`), so that whoever
        is not sure submits it again: it is there once. Raises StokerError; after QueueUnavailable it may be there."""
        running = await self.admit(ask)
        try:
            return await self.commitments.keep(self.submit(running, timeout_s=timeout_s, may_stay=True))
        finally:
            await self._forget_session(running.ask)

    async def submit_to_stay(self, ask: Ask) -> Task:
        """As a task whose client may go and come back, for as long as a request may take. One that goes before this
        returns was not told the id, so it takes the task along. Raises StokerError."""
        said = ask.headers.get(busy.PRIORITY)
        priority = busy.priority_of(said, ask.terms.account.tenant_terms, usual="interactive")
        running = await self.admit(replace(ask, priority=priority))
        async with self._task(running) as task:
            pass
        await self._forget_session(running.ask)
        return task

    async def replay(self, task: Task, terms: Terms, quote: Quote, *, comes_back: bool = False) -> Task:
        """A dead task anew, with a reservation of its own. `comes_back`: it is a letter of another queue. Raises what
        `Admission.admit` and `Queue.retry`, or `Queue.take_back`, raise."""
        permit = await self.admission.admit(terms, quote)
        return await self.commitments.keep(self._replay(task, permit, comes_back))

    async def _replay(self, dead: Task, permit: Permit, comes_back: bool) -> Task:
        bound, hold = bound_of_task(permit.bound), self.admission.hold(permit)
        try:
            if comes_back:
                task = await self.queue.take_back(dead, hold=hold, bound=bound)
            else:
                task = await self.queue.retry(dead.id, hold=hold, bound=bound)
        except QueueUnavailable:
            self.commitments.begin(self.admission.resolve(permit))
            raise
        except BaseException:
            self.admission.release(permit)
            raise
        self.admission.handed_over(permit)
        return task

    async def submit(self, running: Running, *, timeout_s: float | None, may_stay: bool = False) -> Task:
        """Put it into the queue, with its reservation. Raises StokerError, and then it is not there, nor will be; with
        `may_stay` it may be there after QueueUnavailable, and its reservation is its own then."""
        ask = running.ask
        span = spans.task(ask, self.clock.now())
        for _ in range(2):
            permit = running.permit
            try:
                task = await self.queue.submit(
                    ask.task(permit.bound, timeout_s=timeout_s, span=span),
                    task_id=TaskId(ask.id),
                    hold=self.admission.hold(permit),
                )
            except QueueUnavailable:
                doubt = self._in_doubt(permit) if may_stay else self._undo(permit, TaskId(ask.id))
                self.commitments.begin(doubt)
                raise
            except Conflict as conflict:
                self.admission.release(permit)
                if conflict.code != "hold_void":
                    raise
                # This process was taken for dead since it let the request in: once more, under its new name, and with
                # what is left now.
                await self.admission.hear_of_death()
                running.permit = await self.admission.admit(ask.terms, ask.quote)
                running.ask = ask = ask.within(running.permit.quote)
                continue
            except BaseException:
                self.admission.release(permit)
                raise
            self.admission.handed_over(permit)
            if span is not None:
                span.end(self.clock.now())
            return task
        self.admission.release(running.permit)
        raise Unavailable("budgets cannot be checked: this gateway is taken for dead", code="budgets_unavailable")

    async def _in_doubt(self, permit: Permit) -> None:
        """Nobody knows whether the task was stored, and it may have been."""
        if self.admission.hold(permit) is None:
            self.admission.release(permit)
        else:
            await self.admission.resolve(permit)

    async def _undo(self, permit: Permit, task_id: TaskId) -> None:
        """Nobody knows whether the task was stored; its client was told that it was not."""
        if self.admission.hold(permit) is None:
            self.admission.release(permit)
            await self._cancel(task_id)
        elif await self.admission.resolve(permit):
            await self._cancel(task_id)

    async def _call_off(self, running: Running, submitting: "asyncio.Task[Task]") -> None:
        await self._forget_session(running.ask)
        # Waited for first: a task cannot be cancelled before it is there.
        await asyncio.wait({submitting})
        if submitting.exception() is None:
            await self._cancel(submitting.result().id)

    async def _cancel(self, task_id: TaskId) -> None:
        try:
            await self.queue.cancel(task_id)
        except NotFound:
            pass  # it was never stored
        except StokerError as error:
            _log.warning("cannot cancel a task that nobody waits for", task=task_id, error=error.in_log)

    async def _next(self, items: AsyncIterator[T], deadline: float) -> T | None:
        """The next of them, None after the last. Raises TimedOut at `deadline` (monotonic)."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.monotonic())):
                return await anext(items, None)
        except TimeoutError as exc:
            raise too_long() from exc

    @asynccontextmanager
    async def _until(self, deadline: float, first_token_s: float = math.inf) -> AsyncIterator[None]:
        """Raises TimedOut when the block is not left by `deadline` (monotonic), nor within `first_token_s`."""
        left_s = deadline - self.clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(left_s, first_token_s))):
                yield
        except TimeoutError as exc:
            raise (too_long() if left_s <= first_token_s else silent("firstTokenSeconds")) from exc


CLIENT_WENT = "the client went away"
_DONE = sse.event(sse.DONE)
_TAIL_PIECES, _TAIL_BYTES = 8, 1024  # of a stream, in which it says why it ended


def _note(running: Running, error: BaseException) -> None:
    """Into the log, with what a client is not told."""
    if isinstance(error, StokerError) and error.detail is not None:
        _log.warning("request failed", request=running.ask.id, model=running.ask.model, why=error.in_log)


def _name_of(error: BaseException) -> str:
    return error.code or error.type if isinstance(error, StokerError) else type(error).__name__


def _code_of(status: int) -> str | None:
    return str(status) if status >= 400 else None


def _status_of(error: BaseException) -> Status:
    return "failed" if isinstance(error, Exception) else "cancelled"


def _reason_of(error: BaseException) -> str:
    if isinstance(error, StokerError):
        return error.message
    return type(error).__name__ if isinstance(error, Exception) else CLIENT_WENT

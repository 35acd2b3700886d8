"""One claim, from the engine's first event to the task's end.

The engine is asked for a stream wherever there is one, also when the caller wants a whole answer: so what was produced
is known to the chunk whatever happens, and a cancelled task stops its engine at the next event.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import QueueUnavailable, StokerError, TimedOut, Unavailable, Unreachable, UpstreamError
from stoker.engine import going_on
from stoker.engine.client import EngineClient
from stoker.engine.wires import CHAT, WIRES, Wire
from stoker.meter.charge import Caller, Charge
from stoker.meter.cost import Prices
from stoker.meter.usage import Status, UsageRecord
from stoker.policy.retry import delay_s
from stoker.queue import Claim, LeaseState, Partial, Queue
from stoker.telemetry import spans
from stoker.telemetry.spans import Span, Tracing
from stoker.web import sse
from stoker.web.client import Answer, error_of, openai_error_in
from stoker.worker.answer import StreamedAnswer
from stoker.worker.metrics import Outcome, WorkerMetrics

_log = logs.get(__name__)

# For an engine to say that an answer is over which has nothing left to say.
LAST_WORD_S = 0.5
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """The numbers of one worker, from `platform.yaml`. `continuous_usage`: the engine says its count in each event, and
    afterwards what it did for a request that was stopped. `goes_on`: it also goes on with an answer that is begun."""

    model: str
    replica: str
    prices: Prices
    lease_s: float
    retry_base_s: float
    retry_cap_s: float
    timeout_s: float
    continuous_usage: bool
    goes_on: bool = False


class Lost(Exception):
    """The lease went to another worker: stop, and report nothing."""


class Unwanted(Exception):
    """Somebody cancelled the task."""


class Anew(Exception):
    """The answer that another attempt has begun cannot be gone on with here: it is given up."""


class Wrong(Exception):
    """The engine refused the task itself (4xx): trying again cannot help."""

    def __init__(self, answer: Answer) -> None:
        error = error_of(answer)
        super().__init__(error.message)
        said = openai_error_in(answer) or {"type": error.type, "code": error.code, "param": None}
        self.error: Json = {**said, "message": error.message, "status": answer.status}


@dataclass(slots=True)
class Runner:
    settings: Settings
    engine: EngineClient
    queue: Queue
    clock: Clock
    random: Random
    started_at: float
    tracing: Tracing | None = None
    metrics: WorkerMetrics | None = None

    async def run(
        self, claim: Claim, *, give_back: asyncio.Event, on_unreachable: Callable[[], None] = lambda: None
    ) -> None:
        """Bring one claim to its end. `give_back` set: the worker is leaving, hand the task to another one.
        `on_unreachable` is called when the engine takes no connection, before the task is handed back for that.

        Raises nothing but QueueUnavailable, upon which the lease runs out and another worker takes over.
        """
        charge = self._charge(claim)
        if self.metrics is not None and claim.task.attempts:
            self.metrics.retried()
        answer = StreamedAnswer(claim, self.queue, self.clock)
        span = self._span(claim)
        if span is not None:
            logs.bound.set(span)
        work = asyncio.create_task(self._generate(claim, charge, answer, span))
        watch = asyncio.create_task(self._hold(claim))
        leave = asyncio.create_task(give_back.wait())
        try:
            await asyncio.wait({work, watch, leave}, return_when=asyncio.FIRST_COMPLETED)
            if leave.done() and not watch.done() and self.settings.goes_on and answer.has_said_all(charge):
                await asyncio.wait({work}, timeout=LAST_WORD_S)
            if work.done():
                await self._finish(claim, charge, answer, work, on_unreachable)
            elif watch.done():
                await _stopped(work)
                await self._let_go(claim, charge, watch)
            else:
                await _stopped(work)
                await self._hand_back(claim, charge, answer)
        finally:
            answer.close()
            for task in (work, watch, leave):
                task.cancel()
            await asyncio.gather(work, watch, leave, return_exceptions=True)
            if span is not None:
                span.end(self.clock.now(), _ended_by(work))
                logs.bound.set(None)

    def _span(self, claim: Claim) -> Span | None:
        """Of this attempt, below the span that put the task into the queue: attempts are siblings."""
        task = claim.task
        parent = spans.parent_of(task.trace)
        if self.tracing is None or parent is None:
            return None
        span = self.tracing.begin(parent, spans.shape("consumer", f"process {task.model}"), self.clock.now())
        since = task.attempts[-1].ended_at if task.attempts else task.submitted_at
        span.attributes = {
            "messaging.system": "stoker",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": task.model,
            "messaging.message.id": task.id,
            "stoker.tenant": task.tenant,
            "stoker.attempt": claim.attempt,
            "stoker.queue.wait_s": None if task.started_at is None else round(max(0.0, task.started_at - since), 6),
        }
        return span

    # --- holding on -------------------------------------------------------------------------------------------------

    async def _hold(self, claim: Claim) -> None:
        """Keep the lease until it cannot be kept any more. Raises Lost, Unwanted."""
        while True:
            await self._third_of_lease_or_news(claim)
            try:
                state = await self.queue.extend(claim, lease_s=self.settings.lease_s)
            except QueueUnavailable as error:
                # Go on: the lease may still be good, and the end of the task asks again anyway.
                _log.warning("cannot extend the lease", task=claim.task.id, error=error.in_log)
                continue
            if state is LeaseState.LOST:
                raise Lost
            if state is LeaseState.CANCELLED:
                raise Unwanted

    async def _third_of_lease_or_news(self, claim: Claim) -> None:
        third_s = self.settings.lease_s / 3
        try:
            async with asyncio.timeout(third_s):
                await self.queue.cancelled(claim)
        except TimeoutError:
            pass
        except QueueUnavailable as error:
            _log.warning("cannot listen for a cancellation", task=claim.task.id, error=error.in_log)
            await self.clock.sleep(min(1.0, third_s))

    async def _let_go(self, claim: Claim, charge: Charge, watch: "asyncio.Task[None]") -> None:
        try:
            watch.result()
        except Lost:
            _log.warning("lease lost", task=claim.task.id, attempt=claim.attempt)
            self._count("lost")
        except Unwanted:
            usage = await self._usage(claim, charge, "cancelled", "nobody wants it any more")
            await self.queue.release(claim, usage=usage)
            _log.info("task cancelled", task=claim.task.id)
            self._count("cancelled")

    async def _hand_back(self, claim: Claim, charge: Charge, answer: StreamedAnswer) -> None:
        """With what was generated, if the next attempt can go on with it. Where nothing was, an engine of our own is
        not paid: that another one reads the prompt again is not its tenant's doing."""
        partial = await self._partial(answer, charge)
        usage = await self._usage(claim, charge, "cancelled", "handed back", is_gone_on_with=partial is not None)
        is_paid = partial is not None or usage.completion_tokens > 0 or not self.settings.goes_on
        await self.queue.release(claim, usage=usage if is_paid else None, partial=partial)
        tokens = None if partial is None else partial.completion_tokens
        _log.info("task handed back", task=claim.task.id, attempt=claim.attempt, tokens_kept=tokens)
        self._count("handed back")

    async def _partial(self, answer: StreamedAnswer, charge: Charge) -> Partial | None:
        return await answer.partial(charge) if self.settings.goes_on else None

    # --- the work ---------------------------------------------------------------------------------------------------

    async def _generate(self, claim: Claim, charge: Charge, answer: StreamedAnswer, above: Span | None) -> Json:
        """The whole answer. Raises Wrong, Anew, and StokerError for what may work another time."""
        if above is None:
            return await self._in_time(claim, charge, answer, None)
        shape, error, reasons = spans.call_of("client", claim.task.endpoint, claim.task.model), None, None
        span = above.child(shape, self.clock.now())
        try:
            whole = await self._in_time(claim, charge, answer, span)
        except BaseException as exc:
            error = type(exc).__name__
            raise
        else:
            reasons = spans.finish_reasons(whole)
            return whole
        finally:
            first_at = charge.first_token_at
            span.attributes = {
                **spans.used(charge.prompt_tokens, charge.cached_tokens, charge.completion_tokens),
                "gen_ai.response.model": claim.task.model,
                "gen_ai.response.finish_reasons": reasons,
                "gen_ai.response.time_to_first_chunk": None if first_at is None else first_at - span.started_at,
                "stoker.replica": self.settings.replica,
            }
            span.end(self.clock.now(), error)

    async def _in_time(self, claim: Claim, charge: Charge, answer: StreamedAnswer, span: Span | None) -> Json:
        left_s = self.settings.timeout_s if claim.time_left_s is None else claim.time_left_s
        try:
            async with asyncio.timeout(min(left_s, self.settings.timeout_s)):
                return await self._read(claim, charge, answer, span)
        except TimeoutError as exc:
            raise TimedOut(f"the engine did not finish within {min(left_s, self.settings.timeout_s):g} s") from exc

    async def _read(self, claim: Claim, charge: Charge, answer: StreamedAnswer, span: Span | None) -> Json:
        task = claim.task
        wire = WIRES.get(task.endpoint, CHAT)
        # Until it is known that it never got there. What an embedded engine had computed dies with it and costs nobody.
        charge.has_begun = not self.settings.continuous_usage
        if not wire.can_stream:
            return await self._whole(claim, charge, wire, span)
        continuous = self.settings.continuous_usage or self.settings.goes_on
        asked = wire.asking(self._body(claim), continuous=continuous)
        said = None if span is None else span.context.lines
        async with self.engine.stream(task.endpoint, asked, request_id=_request_id(claim), trace=said) as stream:
            if stream.error is not None:
                charge.has_begun = stream.error.status < 400
                refusal = _refusal(stream.error)
                raise Anew(str(refusal)) if claim.partial and isinstance(refusal, Wrong) else refusal
            charge.has_begun = True
            await self._collect(charge, answer, wire, stream.events)
        try:
            return wire.assemble(answer.chunks)
        except ValueError as exc:
            raise UpstreamError(f"the engine's answer is none: {exc}") from exc

    def _body(self, claim: Claim) -> Json:
        """What the engine is asked. Raises Anew."""
        task, partial = claim.task, claim.partial
        if partial is None:
            return task.body
        body = None
        if self.settings.goes_on:
            tokens = partial.completion_tokens
            body = going_on.asking(task.endpoint, task.body, partial.answer, completion_tokens=tokens)
        if body is None:
            raise Anew("this engine does not go on with what another has begun")
        return body

    async def _collect(self, charge: Charge, answer: StreamedAnswer, wire: Wire, events: AsyncIterator[bytes]) -> None:
        """All chunks of the answer, published as they come if the task is a stream."""
        tally = wire.reading(charge)
        async for event in events:
            if event == sse.DONE:
                break
            part = answer.whole(event, _parsed(event))
            if part is None:
                continue
            event, chunk = part
            tally.saw(chunk, self.clock.now())
            error = wire.error_in(chunk)
            if error is not None:
                said = self.engine.hiding.text(f"the engine failed in the middle of the answer: {error}")
                raise UpstreamError(said[:300])
            if charge.is_over:
                for last in tally.cut():
                    await answer.add(json.dumps(last).encode(), last)
                break
            await answer.add(event, chunk)
            if wire.is_last(chunk):
                break
        else:
            raise Unavailable("the engine broke off in the middle of the answer")
        await answer.flush()

    async def _whole(self, claim: Claim, charge: Charge, wire: Wire, span: Span | None) -> Json:
        """An answer that has no stream."""
        answer = await self.engine.complete(
            wire.path,
            claim.task.body,
            request_id=_request_id(claim),
            timeout_s=self.settings.timeout_s,
            trace=None if span is None else span.context.lines,
        )
        charge.has_begun = answer.status < 400
        if answer.status >= 400:
            raise _refusal(answer)
        whole = answer.json()
        if not isinstance(whole, dict):
            raise UpstreamError("the engine's answer is no object")
        charge.saw_usage(wire.usage_in(whole))
        return whole

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _finish(
        self,
        claim: Claim,
        charge: Charge,
        answer: StreamedAnswer,
        work: "asyncio.Task[Json]",
        on_unreachable: Callable[[], None],
    ) -> None:
        log = _log.bind(task=claim.task.id, attempt=claim.attempt)
        try:
            result = work.result()
            usage = await self._usage(claim, charge, "cut" if charge.is_over else "done", None)
            kept = await self.queue.complete(claim, result, usage=usage)
            log.info("task done", tokens=charge.completion_tokens, kept=kept)
            self._count("done" if kept else "lost")
        except Wrong as wrong:
            await self._fail(claim, charge, str(wrong), retry=False, error=wrong.error, outcome="wrong")
        except Anew as why:
            log.warning("what was begun is given up", why=str(why))
            await self.queue.release(claim, usage=await self._usage(claim, charge, "cancelled", "begun anew"))
            self._count("handed back")
        except QueueUnavailable:
            raise
        except Unreachable as error:
            # Nothing was tried, so no attempt has failed. First the word to the worker: it must not claim this again.
            on_unreachable()
            log.warning("task handed back: the engine cannot be reached", why=error.in_log)
            await self.queue.release(claim)
            self._count("handed back")
        except StokerError as error:
            seen = {"message": error.message, "type": error.type, "code": error.code, "status": error.status}
            # A result too large to keep is so the next time, too.
            retry = error.code != "result_too_large"
            partial = await self._partial(answer, charge) if retry else None
            # An engine that went away in the middle may have been ended by this task, or by one that ran beside it.
            is_lost = isinstance(error, Unavailable)
            await self._fail(
                claim,
                charge,
                error.message,
                retry=retry,
                error=seen,
                in_log=error.in_log,
                partial=partial,
                is_lost=is_lost,
            )
        except Exception as error:
            log.error("task failed unexpectedly", exc_info=error)
            await self._fail(claim, charge, f"the worker failed: {type(error).__name__}", retry=True, error=None)

    async def _fail(
        self,
        claim: Claim,
        charge: Charge,
        why: str,
        *,
        retry: bool,
        error: Json | None,
        in_log: str | None = None,
        partial: Partial | None = None,
        is_lost: bool = False,
        outcome: Outcome = "failed",
    ) -> None:
        """`why` is for whoever asks for the task; `in_log` says more, perhaps."""
        retry_in_s = None
        if retry:
            retry_in_s = delay_s(
                claim.attempt,
                base_s=self.settings.retry_base_s,
                cap_s=self.settings.retry_cap_s,
                random=self.random,
            )
        said = {"attempt": claim.attempt, "why": in_log or why, "retry_in_s": retry_in_s}
        _log.warning("task failed", task=claim.task.id, **said)
        usage = await self._usage(claim, charge, "failed", why, is_gone_on_with=partial is not None)
        await self.queue.fail(
            claim, why, retry_in_s=retry_in_s, error=error, usage=usage, partial=partial, is_lost=is_lost
        )
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        if self.metrics is not None:
            self.metrics.ended(outcome)

    async def _usage(
        self, claim: Claim, charge: Charge, status: Status, reason: str | None, *, is_gone_on_with: bool = False
    ) -> UsageRecord:
        """What this attempt has used. An engine that was stopped may be a step ahead of what was seen, and says so if
        it can; if the answer is gone on with from what was seen, that step is made again, and counts there."""
        ended_at = self.clock.now()
        if status not in ("done", "cut") and self.settings.continuous_usage and not is_gone_on_with:
            said = await self.engine.usage_of(_request_id(claim), sent_at=charge.started_at, clock=self.clock)
            charge.saw_usage(_of_whole(said, claim.partial))
        if charge.has_begun and not is_gone_on_with:
            charge.count_the_most(was_streamed=charge.text_bytes > 0)
        if status == "cut":
            reason = "it had produced all that it was let in with"
        return _without(charge.record(status, ended_at, reason), claim.partial)

    def _charge(self, claim: Claim) -> Charge:
        """Of the whole answer, also of what an attempt before had of it."""
        task, begun = claim.task, claim.partial
        return Charge(
            id=task.usage_id,
            kind="task",
            caller=Caller(task.tenant, task.key_id, task.session, task.run, task.team, task.agent),
            model=task.model,
            route=task.route or "queue",
            most=None if task.bound is None else task.bound.tokens,
            prices=self.settings.prices,
            started_at=self.clock.now(),
            replica=self.settings.replica,
            attempts=claim.attempt,
            prompt_tokens=begun.prompt_tokens if begun else 0,
            cached_tokens=begun.cached_tokens if begun else 0,
            completion_tokens=begun.completion_tokens if begun else 0,
        )


def _of_whole(said: Mapping[str, int] | None, begun: Partial | None) -> Mapping[str, int] | None:
    """What an engine counted for its part, as the count of the whole answer."""
    if said is None or begun is None:
        return said
    completion = begun.completion_tokens + said["completion_tokens"]
    return {"prompt_tokens": begun.prompt_tokens, "completion_tokens": completion}


def _without(record: UsageRecord, begun: Partial | None) -> UsageRecord:
    """A record of the whole answer without what an attempt before has handed in."""
    if begun is None:
        return record
    return replace(
        record,
        prompt_tokens=max(0, record.prompt_tokens - begun.prompt_tokens),
        cached_tokens=max(0, record.cached_tokens - begun.cached_tokens),
        completion_tokens=max(0, record.completion_tokens - begun.completion_tokens),
        nano_usd=max(0, record.nano_usd - begun.nano_usd),
    )


def _request_id(claim: Claim) -> str:
    """What the engine knows this attempt by, and no other."""
    return f"{claim.task.id}.{claim.token}"


def _ended_by(work: "asyncio.Task[Json]") -> str | None:
    if work.cancelled():
        return "cancelled"
    error = work.exception()
    return None if error is None else type(error).__name__


def _refusal(answer: Answer) -> Exception:
    """4xx is the task's own fault, but for 408 and 429, which say `later`, and 401, 402 and 403, which are our own
    key's and its account's."""
    if 400 <= answer.status < 500 and answer.status not in (401, 402, 403, 408, 429):
        return Wrong(answer)
    if answer.status < 400:
        return UpstreamError("the engine answered at once where a stream of events was asked for")
    return UpstreamError(f"the engine answered with status {answer.status}", upstream_status=answer.status)


def _parsed(event: bytes) -> Json:
    try:
        chunk = json.loads(event)
    except ValueError as exc:
        raise UpstreamError("the engine sent an event that is not JSON") from exc
    if not isinstance(chunk, dict):
        raise UpstreamError("the engine sent an event that is not an object")
    return chunk


async def _stopped(work: "asyncio.Task[Any]") -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

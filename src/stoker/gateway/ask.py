"""One request whose caller is known, what it becomes while it runs, and the answer that it gets. No I/O."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.base import json_text
from stoker.base.errors import Conflict, TimedOut
from stoker.base.ids import KeyId, ModelName, TenantName, new_id
from stoker.gateway.admission import Permit
from stoker.gateway.bounds import Bound, Quote
from stoker.gateway.endpoints import Endpoint
from stoker.gateway.limits import Terms
from stoker.gateway.sessions import Name
from stoker.meter.charge import Caller, Charge
from stoker.meter.cost import Prices
from stoker.policy.fairness import lower
from stoker.queue import NewTask, State, Task, TokenBound
from stoker.spec import Priority, Timeouts
from stoker.telemetry.spans import Span
from stoker.web.client import Answer, error_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StandIn:
    """Another model that may answer, and the request as it would be run there."""

    model: str
    ask: Callable[[], Awaitable["Ask"]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request whose caller is known. `body` is the client's own; `model` is ours, whatever the client called it.

    `terms` is what its caller may spend, `quote` what it could cost. `id` is that of its usage record, and of the task
    that it becomes if it has to wait.
    """

    caller: Caller
    endpoint: Endpoint
    body: Json
    model: str
    route: str
    prices: Prices
    max_attempts: int
    timeout_s: float
    continuous_usage: bool
    terms: Terms
    quote: Quote
    id: str = field(default_factory=lambda: new_id("req"))
    affinity: int | None = None
    """What decides which replica holds its cache, for `policy.balance`; None: nothing does."""
    stand_in: StandIn | None = None
    """Who answers while no replica of its model is up; None: it waits."""
    attempts: int = 1
    """The number of its first attempt: more than 1 when another model was tried before."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The client's, names in lower case: what it wishes if there is no room. Its key is among them."""
    priority: Priority = "interactive"
    """Where it waits; never more than its tenant may have."""
    callback: str | None = None
    """The URL that is told of the end of the task that it becomes."""
    origin: str | None = None
    """Its client may send it again, by an `Idempotency-Key`: what the task says of that (`idempotency.Once`)."""
    span: Span | None = None
    """Of the whole request; None: no traces are made."""

    @property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def session(self) -> Name | None:
        return None if self.caller.session is None else (self.caller.tenant, self.caller.session)

    def within(self, quote: Quote) -> "Ask":
        """The same, with answers as long as it was let in with."""
        if quote.output_tokens == self.quote.output_tokens:
            return self
        return replace(self, body=self.endpoint.bounded(self.body, quote.output_tokens), quote=quote)

    def task(self, bound: Bound, *, timeout_s: float | None, span: Span | None = None) -> NewTask:
        tenant = self.terms.account.tenant_terms
        return NewTask(
            model=ModelName(self.model),
            tenant=TenantName(self.caller.tenant),
            key_id=KeyId(self.caller.key_id),
            endpoint=self.endpoint.path,
            body=self.body,
            session=self.caller.session,
            run=self.caller.run,
            agent=self.caller.agent,
            team=self.caller.team,
            route=self.route,
            bound=bound_of_task(bound),
            stream=self.wants_stream,
            timeout_s=timeout_s,
            max_attempts=self.max_attempts,
            priority=lower(self.priority, tenant.max_priority),
            weight=tenant.weight,
            callback=self.callback,
            origin=self.origin,
            trace=None if span is None else span.context.text,
        )


@dataclass(slots=True)
class Served:
    """An answer, or one that is coming as events (wire bytes), or a task that will have one. `replica` is None for what
    came through the queue. `headers` are what it cost and what is left, as far as that is known when it begins."""

    replica: str | None
    answer: Answer | None = None
    events: AsyncGenerator[bytes, None] | None = None
    task: Task | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def aclose(self) -> None:
        """Nobody wants it any more: stop what is still coming."""
        if self.events is not None:
            await self.events.aclose()


@dataclass(slots=True)
class Running:
    """One request that was let in, until it has ended. `permit` is another one if the first was void for the queue."""

    ask: Ask
    permit: Permit
    charge: Charge
    admitted_at: float
    """By the monotonic clock."""
    call_id: bytes | None = None
    call_lines: str | None = None
    call_at: float = 0.0
    """Of the span of the call of an engine: its id while it goes on, the lines that tell the engine of it, and when it
    began. None where there are no spans."""
    reasons: tuple[str, ...] | None = None
    """Why its answer ended, as the engine says; known where there are spans."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `connect_s` is how long a replica may take to accept, and how long a model of which none is up may take
    to get one before another model stands in; `first_token_s` and `between_tokens_s` are those of streams."""

    connect_s: float
    first_token_s: float
    between_tokens_s: float

    @classmethod
    def of(cls, said: Timeouts) -> "Patience":
        between_s = said.between_tokens_seconds
        return cls(
            said.connect_seconds,
            said.first_token_seconds,
            said.first_token_seconds if between_s is None else between_s,
        )


def bound_of_task(bound: Bound) -> TokenBound:
    return TokenBound(bound.prompt_tokens, bound.completion_tokens, bound.nano_usd)


def result_of(task: Task) -> Json:
    """The answer of a task that is done. Raises what became of it otherwise; TimedOut when it has not ended."""
    if task.state is State.DONE:
        return task.result or {}
    if task.state.has_failed:
        error = task.error or {}
        status = int(error.get("status") or (504 if error.get("type") == TimedOut.type else 502))
        raise error_of(Answer(status, {}, json_text.dumps({"error": error})))
    if task.state is State.CANCELLED:
        raise Conflict(f"task {task.id} was cancelled")
    raise TimedOut(f"task {task.id} did not end in time; it is {task.state}")

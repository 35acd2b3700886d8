"""What the routes work with, made once in `__main__` and handed to each of them."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from stoker.aws.sqs import SqsQueue
from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput
from stoker.base.ids import new_id
from stoker.gateway import sizes, spans
from stoker.gateway.agents import AgentsService
from stoker.gateway.ask import Ask, StandIn
from stoker.gateway.audited import Changes
from stoker.gateway.auth import Asked, Authenticator, may_use, permit, permitted_models
from stoker.gateway.bounds import Quote, quote_of
from stoker.gateway.cost_reports import CostReports
from stoker.gateway.endpoints import ENDPOINTS, Endpoint, shown
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import Inference
from stoker.gateway.limits import TermsOfCallers
from stoker.gateway.measures import Measures
from stoker.gateway.sessions import conversation_in
from stoker.gateway.settling import Settler
from stoker.meter.accounts import Account
from stoker.meter.alerts import AlertStore
from stoker.meter.batches import BatchStore
from stoker.meter.charge import Caller
from stoker.meter.files import FileStore
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives
from stoker.meter.tenants import TenantStore
from stoker.policy import routing
from stoker.policy.balance import place_of
from stoker.policy.features import RequestFeatures, beginning_of
from stoker.queue import BudgetStore, Queue
from stoker.spec import AUTO, EMBEDDED, Platform
from stoker.telemetry.spans import Span, Tracing

Json = dict[str, Any]

SESSION_HEADER = "x-session-id"
RUN_HEADER = "x-run-id"
ID_PATTERN = "^[!-~]{1,256}$"
_ID = re.compile(ID_PATTERN)
# A larger body is measured in a thread: millions of small values take longer than other requests may wait.
INLINE_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Services:
    platform: Platform
    table: routing.RoutingTable
    auth: Authenticator
    fleet: Fleet
    inference: Inference
    terms: TermsOfCallers
    queue: Queue
    budgets: BudgetStore
    keys: KeyStore
    tenants: TenantStore
    files: FileStore
    batches: BatchStore
    changes: Changes
    ledger: Ledger
    lives: Lives
    costs: CostReports
    settler: Settler
    measures: Measures
    clock: Clock
    started_at: float
    sqs: SqsQueue | None = None
    """Where dead letters go; None: they stay in Redis."""
    agents: AgentsService | None = None
    """Who serves /v1/agents; None: nobody does."""
    tracing: Tracing | None = None
    alerts: AlertStore | None = None
    """Who was told that budgets are being used up; None: nobody is told."""
    batch_news: asyncio.Event = field(default_factory=asyncio.Event)
    """A batch was made or cancelled here."""
    turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """Of tasks that requests with the same `Idempotency-Key` are, while they are being begun."""

    async def settle_all(self) -> None:
        """All that has ended here, into the ledger, so that a report made now is complete. Raises QueueUnavailable,
        Unavailable (the ledger)."""
        await self.inference.admission.settle_waiting()
        await self.settler.settle_all()

    async def ask(
        self, request: Asked, key: Account, endpoint: str, prefix: str | None, body: Json, span: Span | None
    ) -> Ask:
        """The request as it will be run: its model chosen, its output bounded, its caller's terms at hand. `span`: what
        is told of it.

        Raises InvalidInput; NotFound for a model that is not there, NotPermitted for one that the key may not use."""
        models, routes = self.platform.llm.models, self.platform.gateway.routes
        kind, by, request_id = ENDPOINTS[endpoint], caller(request, key, body), new_id("req")
        requested = _model_in(body)
        # Nobody looks at what a request holds when its model was named.
        is_open = prefix is None and requested in (None, AUTO)
        route = routing.choose(
            prefix,
            requested,
            kind.features(body) if is_open else RequestFeatures(),
            self.table,
            key=(_sticky(by, body) or request_id) if kind.may_vary else kind.path,
            allowed=may_use(key, routes, models),
        )
        permit(key, prefix, route.model, routes, list(models))
        kind.check(body)

        async def ask_of(model: str, reason: str) -> Ask:
            return await self._ask_of(model, reason, request, key, by, kind, body, request_id, span)

        asked = await ask_of(route.model, route.reason)
        if span is not None:
            span.about = (kind.path, route.model, by)
            if key.tenant_terms.record_content:
                spans.asked_for(span, body)
        other = models[route.model].fallback
        if other is None or not kind.may_vary or other not in permitted_models(key, None, routes, list(models)):
            return asked
        return replace(asked, stand_in=StandIn(other, partial(ask_of, other, routing.FALLBACK)))

    async def _ask_of(
        self,
        name: str,
        reason: str,
        request: Asked,
        key: Account,
        by: Caller,
        kind: Endpoint,
        body: Json,
        request_id: str,
        span: Span | None,
    ) -> Ask:
        """The request for one model: with its bounds, its prices and what it could cost there."""
        model = self.platform.llm.models[name]
        sent = kind.bounded({**body, "model": name}, model.limits.max_output_tokens)
        sent.pop("conversation", None)  # ours; engines do not know it
        quoting = partial(self.quote, kind, name, sent, is_elastic=not kind.says_length(body))
        is_large = int(request.headers.get("content-length", INLINE_BODY_BYTES)) >= INLINE_BODY_BYTES
        return Ask(
            id=request_id,
            headers=request.headers,
            affinity=_affinity(by, body) if self.fleet.has_choice(name) else None,
            caller=by,
            endpoint=kind,
            body=sent,
            model=name,
            route=reason,
            prices=model.prices,
            max_attempts=self.platform.queue.max_attempts,
            timeout_s=self.platform.gateway.timeouts.total_seconds,
            continuous_usage=model.engine == EMBEDDED,
            terms=self.terms.of(key, by.session, by.run, by.agent),
            quote=await asyncio.to_thread(quoting) if is_large else quoting(),
            span=span,
        )

    def quote(self, kind: Endpoint, model: str, body: Json, *, is_elastic: bool) -> Quote:
        """What a body that is bounded can cost with this model. Raises InvalidInput for one that nobody can bound, or
        that holds more than one request may."""
        kind.check_prompt(body)
        sizes.check(body, allows_urls=self.platform.gateway.allow_image_urls)
        most = kind.output_tokens(body)
        return quote_of(body, self.platform.llm.models[model], output_tokens=most, is_elastic=is_elastic)


def caller(request: Asked, key: Account, body: Json) -> Caller:
    """Raises InvalidInput for a session or run that is no id. Who comes with a run's grant is of that run, whatever the
    headers say."""
    if key.grant is not None:
        return Caller(key.tenant, key.id, key.grant.session, key.grant.run, key.team, key.grant.agent)
    session, run = _id_in(request.headers, SESSION_HEADER), _id_in(request.headers, RUN_HEADER)
    if session is None:
        session = _checked_id("conversation", conversation_in(body))
    return Caller(key.tenant, key.id, session, run, key.team)


# How OpenAI's clients name the person or the cache that a request belongs to.
_END_USERS = ("prompt_cache_key", "safety_identifier", "user")


def _sticky(by: Caller, body: Json) -> str | None:
    """What is to keep its model where several share a name: the session, or else the run, or else the end user."""
    if by.session is not None or by.run is not None:
        return f"{by.tenant} {by.session or by.run}"
    said = next((body[name] for name in _END_USERS if isinstance(body.get(name), str) and body[name]), None)
    return None if said is None else f"{by.tenant} {said[:256]}"


def _affinity(by: Caller, body: Json) -> int | None:
    """What is to keep its replica, for its cache: the session, or else prompts that begin alike."""
    if by.session is not None:
        return place_of(f"{by.tenant} {by.session}")
    beginning = beginning_of(body)
    return None if beginning is None else place_of(beginning)


def _id_in(headers: Mapping[str, str], name: str) -> str | None:
    return _checked_id(name, headers.get(name))


def _checked_id(name: str, value: str | None) -> str | None:
    if value is not None and not _ID.fullmatch(value):
        raise InvalidInput(
            f"{name} is {value[:40]!r}; an id is 1 to 256 printable characters without spaces", param=name
        )
    return value


def _model_in(body: Json) -> str | None:
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidInput(f"model is {shown(model)}; it has to be the name of a model, or auto", param="model")
    return model

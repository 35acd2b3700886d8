"""What the routes work with, made once in `__main__` and handed to each of them."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput
from stoker.base.ids import new_id
from stoker.gateway.auth import Asked, Authenticator, may_use, permit, permitted_models
from stoker.gateway.bounds import Quote, quote_of
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import LENGTHS, Ask, Inference, StandIn
from stoker.gateway.limits import TermsOfCallers
from stoker.gateway.measures import Measures
from stoker.gateway.sessions import conversation_in
from stoker.gateway.settling import Settler
from stoker.meter.accounts import Account
from stoker.meter.charge import Caller
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.tenants import TenantStore
from stoker.policy import features, routing
from stoker.policy.balance import place_of
from stoker.queue import BudgetStore, Queue
from stoker.spec import AUTO, EMBEDDED, Platform

Json = dict[str, Any]

SESSION_HEADER = "x-session-id"
RUN_HEADER = "x-run-id"
_ID = re.compile(r"[!-~]{1,256}")
# As OpenAI has it; more answers to one request are several requests.
MOST_ANSWERS = 128
# A larger body is measured in a thread: millions of small values take longer than other requests may wait.
INLINE_BODY_BYTES = 64 * 1024
# What would put more into a prompt than it says itself, so that nobody could bound it.
_UNBOUNDED = ("chat_template", "prompt_embeds")


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
    ledger: Ledger
    settler: Settler
    measures: Measures
    clock: Clock
    started_at: float

    async def settle_all(self) -> None:
        """All that has ended here, into the ledger, so that a report made now is complete. Raises QueueUnavailable,
        Unavailable (the ledger)."""
        await self.inference.admission.settle_waiting()
        await self.settler.settle_all()

    async def ask(self, request: Asked, key: Account, endpoint: str, prefix: str | None, body: Json) -> Ask:
        """The request as it will be run: its model chosen, its output bounded, its caller's terms at hand.

        Raises InvalidInput; NotFound for a model that is not there, NotPermitted for one that the key may not use."""
        models, routes = self.platform.llm.models, self.platform.gateway.routes
        by, request_id = caller(request, key, body), new_id("req")
        requested = _model_in(body)
        # Nobody looks at what a request holds when its model was named.
        is_open = prefix is None and requested in (None, AUTO)
        route = routing.choose(
            prefix,
            requested,
            features.features_of(body) if is_open else features.RequestFeatures(),
            self.table,
            key=_sticky(by, body) or request_id,
            allowed=may_use(key, routes, models),
        )
        permit(key, prefix, route.model, routes, list(models))
        _check_stream(body)
        _check_answers(body)

        async def ask_of(model: str, reason: str) -> Ask:
            return await self._ask_of(model, reason, request, key, by, endpoint, body, request_id)

        asked = await ask_of(route.model, route.reason)
        other = models[route.model].fallback
        if other is None or other not in permitted_models(key, None, routes, list(models)):
            return asked
        return replace(asked, stand_in=StandIn(other, partial(ask_of, other, routing.FALLBACK)))

    async def _ask_of(
        self,
        name: str,
        reason: str,
        request: Asked,
        key: Account,
        by: Caller,
        endpoint: str,
        body: Json,
        request_id: str,
    ) -> Ask:
        """The request for one model: with its bounds, its prices and what it could cost there."""
        model = self.platform.llm.models[name]
        sent = bounded({**body, "model": name}, endpoint, model.limits.max_output_tokens)
        sent.pop("conversation", None)  # ours; engines do not know it
        quoting = partial(self.quote, name, sent, is_elastic=not _says_length(body))
        is_large = int(request.headers.get("content-length", INLINE_BODY_BYTES)) >= INLINE_BODY_BYTES
        return Ask(
            id=request_id,
            affinity=_affinity(by, body),
            caller=by,
            endpoint=endpoint,
            body=sent,
            model=name,
            route=reason,
            prices=model.prices,
            max_attempts=self.platform.queue.max_attempts,
            timeout_s=self.platform.gateway.timeouts.total_seconds,
            continuous_usage=model.engine == EMBEDDED,
            terms=self.terms.of(key, by.session, by.run),
            quote=await asyncio.to_thread(quoting) if is_large else quoting(),
        )

    def quote(self, model: str, body: Json, *, is_elastic: bool) -> Quote:
        """What a body that is bounded can cost with this model."""
        said = [body[name] for name in LENGTHS if body.get(name) is not None]
        return quote_of(body, self.platform.llm.models[model], output_tokens=max(said), is_elastic=is_elastic)


def caller(request: Asked, key: Account, body: Json) -> Caller:
    """Raises InvalidInput for a session or run that is no id."""
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
    beginning = features.beginning_of(body)
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
        raise InvalidInput(f"model is {_shown(model)}; it has to be the name of a model, or auto", param="model")
    return model


def bounded(body: Json, endpoint: str, most: int) -> Json:
    """The body with its output bounded by `most` tokens: what is not said becomes that, what is more is cut to it.

    Raises InvalidInput for a bound that is no whole number: engines that take "999" or 1e9 for one would escape ours,
    as would a chat of 0 tokens, which vLLM takes for as many as there is room for.
    """
    is_chat = endpoint.endswith("/chat/completions")
    said = {name: body[name] for name in LENGTHS if body.get(name) is not None}
    for name, value in said.items():
        if type(value) is not int or value < is_chat:
            least = int(is_chat)
            raise InvalidInput(f"{name} is {_shown(value)}; it has to be a whole number, at least {least}", param=name)
    cut = {name: min(value, most) for name, value in said.items()}
    if not is_chat:
        # Which of the two an engine goes by there is its own affair.
        cut.setdefault("max_tokens", max(cut.values(), default=most))
    return {**body, **(cut or {LENGTHS[0]: most})}


def _says_length(body: Json) -> bool:
    """Whether the client itself says how long the answer may be."""
    return any(body.get(name) is not None for name in LENGTHS)


def _check_stream(body: Json) -> None:
    """An engine that takes 1 for true would answer with events where we expect a whole answer."""
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInput(f"stream is {_shown(stream)}; it has to be true or false", param="stream")


def _check_answers(body: Json) -> None:
    """An engine that takes "9" or 9.0 for a number of answers would give more than were reserved."""
    for name in ("n", "best_of"):
        value = body.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= MOST_ANSWERS):
            raise InvalidInput(
                f"{name} is {_shown(value)}; it has to be a whole number from 1 to {MOST_ANSWERS}", param=name
            )
    for name in _UNBOUNDED:
        if body.get(name) is not None:
            raise InvalidInput(f"{name} is not possible here: what it costs cannot be known beforehand", param=name)


def _shown(value: object) -> str:
    try:
        return json.dumps(value)[:80]
    except RecursionError:  # JSON that was read may be nested too deeply to be written from here
        return "(nested too deeply)"

"""What the routes work with, made once in `__main__` and handed to each of them."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput
from stoker.gateway.auth import Authenticator, permit
from stoker.gateway.bounds import Quote, quote_of
from stoker.gateway.endpoints import ENDPOINTS, Endpoint, shown
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import Ask, Inference
from stoker.gateway.limits import TermsOfCallers
from stoker.gateway.measures import Measures
from stoker.gateway.sessions import conversation_in
from stoker.gateway.settling import Settler
from stoker.meter.accounts import Account
from stoker.meter.charge import Caller
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.tenants import TenantStore
from stoker.policy import routing
from stoker.queue import BudgetStore, Queue
from stoker.spec import EMBEDDED, Platform

Json = dict[str, Any]

SESSION_HEADER = "x-session-id"
RUN_HEADER = "x-run-id"
_ID = re.compile(r"[!-~]{1,256}")
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
    ledger: Ledger
    settler: Settler
    measures: Measures
    clock: Clock
    started_at: float

    async def ask(self, request: Request, key: Account, endpoint: str, prefix: str | None, body: Json) -> Ask:
        """The request as it will be run: its model chosen, its output bounded, its caller's terms at hand.

        Raises InvalidInput; NotFound for a model that is not there, NotPermitted for one that the key may not use."""
        kind = ENDPOINTS[endpoint]
        route = routing.choose(prefix, _model_in(body), kind.features(body), self.table)
        model = self.platform.llm.models[route.model]
        permit(key, prefix, route.model, self.platform.gateway.routes, list(self.platform.llm.models))
        kind.check(body)
        by = caller(request, key, body)
        sent = kind.bounded({**body, "model": route.model}, model.limits.max_output_tokens)
        sent.pop("conversation", None)  # ours; engines do not know it
        quoting = partial(self.quote, kind, route.model, sent, is_elastic=not kind.says_length(body))
        is_large = int(request.headers.get("content-length", INLINE_BODY_BYTES)) >= INLINE_BODY_BYTES
        return Ask(
            caller=by,
            endpoint=kind,
            body=sent,
            model=route.model,
            route=route.reason,
            prices=model.prices,
            max_attempts=self.platform.queue.max_attempts,
            timeout_s=self.platform.gateway.timeouts.total_seconds,
            continuous_usage=model.engine == EMBEDDED,
            terms=self.terms.of(key, by.session, by.run),
            quote=await asyncio.to_thread(quoting) if is_large else quoting(),
        )

    def quote(self, kind: Endpoint, model: str, body: Json, *, is_elastic: bool) -> Quote:
        """What a body that is bounded can cost with this model. Raises InvalidInput for one that nobody can bound."""
        kind.check_prompt(body)
        most = kind.output_tokens(body)
        return quote_of(body, self.platform.llm.models[model], output_tokens=most, is_elastic=is_elastic)


def caller(request: Request, key: Account, body: Json) -> Caller:
    """Raises InvalidInput for a session or run that is no id."""
    session, run = _id_in(request.headers, SESSION_HEADER), _id_in(request.headers, RUN_HEADER)
    if session is None:
        session = _checked_id("conversation", conversation_in(body))
    return Caller(key.tenant, key.id, session, run, key.team)


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

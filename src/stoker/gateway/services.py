"""What the routes work with, made once in `__main__` and handed to each of them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput
from stoker.gateway.auth import Authenticator, permit
from stoker.gateway.bounds import Quote, quote_of
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import LENGTHS, Ask, Inference
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

    def ask(self, request: Request, key: Account, endpoint: str, prefix: str | None, body: Json) -> Ask:
        """The request as it will be run: its model chosen, its output bounded, its caller's terms at hand.

        Raises InvalidInput; NotFound for a model that is not there, NotPermitted for one that the key may not use."""
        route = routing.choose(prefix, _model_in(body), routing.features_of(body), self.table)
        model = self.platform.llm.models[route.model]
        permit(key, prefix, route.model, self.platform.gateway.routes, list(self.platform.llm.models))
        _check_stream(body)
        by = caller(request, key, body)
        sent = bounded({**body, "model": route.model}, endpoint, model.limits.max_output_tokens)
        sent.pop("conversation", None)  # ours; engines do not know it
        return Ask(
            caller=by,
            endpoint=endpoint,
            body=sent,
            model=route.model,
            route=route.reason,
            prices=model.prices,
            max_attempts=self.platform.queue.max_attempts,
            timeout_s=self.platform.gateway.timeouts.total_seconds,
            continuous_usage=model.engine == EMBEDDED,
            terms=self.terms.of(key, by.session, by.run),
            quote=self.quote(route.model, sent, is_elastic=not _says_length(body)),
        )

    def quote(self, model: str, body: Json, *, is_elastic: bool) -> Quote:
        """What a body that is bounded can cost with this model."""
        said = [body[name] for name in LENGTHS if body.get(name) is not None]
        return quote_of(body, self.platform.llm.models[model], output_tokens=max(said), is_elastic=is_elastic)


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
        shown = json.dumps(model)[:80]
        raise InvalidInput(f"model is {shown}; it has to be the name of a model, or auto", param="model")
    return model


def bounded(body: Json, endpoint: str, most: int) -> Json:
    """The body with its output bounded by `most` tokens: what is not said becomes that, what is more is cut to it.

    Raises InvalidInput for a bound that is no whole number: engines that take "999" or 1e9 for one would escape ours.
    """
    names = ("max_completion_tokens", "max_tokens") if endpoint.endswith("/chat/completions") else ("max_tokens",)
    said = {name: body[name] for name in names if body.get(name) is not None}
    for name, value in said.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InvalidInput(f"{name} is {json.dumps(value)[:80]}; it has to be a whole number", param=name)
    if not said:
        return {**body, names[0]: most}
    return {**body, **{name: min(value, most) for name, value in said.items()}}


def _says_length(body: Json) -> bool:
    """Whether the client itself says how long the answer may be."""
    return any(body.get(name) is not None for name in LENGTHS)


def _check_stream(body: Json) -> None:
    """An engine that takes 1 for true would answer with events where we expect a whole answer."""
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInput(f"stream is {json.dumps(stream)[:80]}; it has to be true or false", param="stream")

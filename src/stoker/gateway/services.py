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
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import Ask, Inference
from stoker.gateway.measures import Measures
from stoker.gateway.settling import Settler
from stoker.meter.accounts import Account
from stoker.meter.charge import Caller
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.tenants import TenantStore
from stoker.policy import routing
from stoker.queue import Queue
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
    queue: Queue
    keys: KeyStore
    tenants: TenantStore
    ledger: Ledger
    settler: Settler
    measures: Measures
    clock: Clock
    started_at: float

    def ask(self, request: Request, key: Account, endpoint: str, prefix: str | None, body: Json) -> Ask:
        """The request as it will be run: its model chosen, its output bounded.

        Raises InvalidInput; NotFound for a model that is not there, NotPermitted for one that the key may not use."""
        route = routing.choose(prefix, _model_in(body), routing.features_of(body), self.table)
        model = self.platform.llm.models[route.model]
        permit(key, prefix, route.model, self.platform.gateway.routes, list(self.platform.llm.models))
        _check_stream(body)
        return Ask(
            caller=caller(request, key),
            endpoint=endpoint,
            body=bounded({**body, "model": route.model}, endpoint, model.limits.max_output_tokens),
            model=route.model,
            route=route.reason,
            prices=model.prices,
            max_attempts=self.platform.queue.max_attempts,
            timeout_s=self.platform.gateway.timeouts.total_seconds,
            continuous_usage=model.engine == EMBEDDED,
        )


def caller(request: Request, key: Account) -> Caller:
    """Raises InvalidInput for a session or run that is no id."""
    session, run = _id_in(request.headers, SESSION_HEADER), _id_in(request.headers, RUN_HEADER)
    return Caller(key.tenant, key.id, session, run, key.team)


def _id_in(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None and not _ID.fullmatch(value):
        raise InvalidInput(
            f"the header {name} holds {value[:40]!r}; an id is 1 to 256 printable characters without spaces", param=name
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


def _check_stream(body: Json) -> None:
    """An engine that takes 1 for true would answer with events where we expect a whole answer."""
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInput(f"stream is {json.dumps(stream)[:80]}; it has to be true or false", param="stream")

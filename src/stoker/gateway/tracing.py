"""What spans of requests say, by OpenTelemetry's conventions for HTTP and generative AI; what they have no name for
begins with `stoker.`. Never a key, and of what people and models wrote nothing unless their tenant says so.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.gateway.endpoints import Endpoint
from stoker.meter.charge import Charge
from stoker.meter.spans import usage_attributes
from stoker.telemetry.spans import TRACEPARENT, Open, Tracer
from stoker.web.direct import Failed

if TYPE_CHECKING:
    from stoker.gateway.ask import Ask

Json = dict[str, Any]


@dataclass(slots=True)
class Told:
    """What is known of a request, for its span."""

    spans: "Spans"
    endpoint: Endpoint
    path: str
    span: Open | None
    ask: "Ask | None" = None
    charge: Charge | None = None
    status: int = 200
    is_open: bool = False

    def of(self, ask: "Ask") -> "Ask":
        """The request with its span, below which its parts are."""
        self.ask = ask if self.span is None else replace(ask, trace=self.span)
        return self.ask

    def goes_on(self) -> Callable[[], None]:
        """The answer has begun: call what is returned at its end."""
        self.is_open = True
        return self.end

    def end(self, error: str | None = None) -> None:
        if self.span is not None:
            self.span.attributes = request_attributes(self.endpoint, self.path, self.ask, self.charge, self.status)
            failed = str(self.status) if self.status >= 400 else None
            self.spans.tracer.end(self.span, self.spans.clock.now(), error=error or failed)


@dataclass(frozen=True, slots=True)
class Spans:
    tracer: Tracer
    clock: Clock

    @contextmanager
    def of_request(self, endpoint: Endpoint, path: str, headers: Mapping[str, str]) -> Iterator[Told]:
        """The span of what is done inside; of an answer that goes on, to its end."""
        span = self.tracer.begin(headers.get(TRACEPARENT), f"POST {path}", "server", self.clock.now())
        told = Told(self, endpoint, path, span)
        try:
            yield told
        except BaseException as error:
            problem = error.error if isinstance(error, Failed) else error
            told.status = problem.status if isinstance(problem, StokerError) else 500
            told.end(word_of(problem))
            raise
        if not told.is_open:
            told.end()


def word_of(error: BaseException) -> str:
    """For `error.type`: few values, and nothing that anybody wrote."""
    if isinstance(error, StokerError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__


def header_of(span: Open | None) -> str | None:
    return None if span is None else span.place.header


def request_attributes(endpoint: Endpoint, path: str, ask: "Ask | None", charge: Charge | None, status: int) -> Json:
    """Of the span of a whole request; `ask` is None for one that was refused before its caller was known."""
    found: Json = {"http.request.method": "POST", "url.path": path, "http.response.status_code": status}
    if ask is None:
        return {**found, "gen_ai.operation.name": endpoint.operation}
    caller = ask.caller
    return {
        **found,
        **_of_model(ask),
        **({} if charge is None else usage_attributes(charge)),
        "gen_ai.conversation.id": caller.session,
        "stoker.tenant": caller.tenant,
        "stoker.team": caller.team,
        "stoker.run": caller.run,
        "stoker.agent": caller.agent,
        "stoker.route": ask.route,
        "stoker.request": ask.id,
    }


def call_attributes(ask: "Ask", charge: Charge) -> Json:
    """Of the span of a call to a replica."""
    return {**_of_model(ask), **usage_attributes(charge)}


def sent_attributes(ask: "Ask") -> Json:
    """Of the span of putting a request into the queue."""
    return {
        "messaging.system": "redis",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"stoker:tasks:{ask.model}",
        "messaging.message.id": ask.id,
    }


def _of_model(ask: "Ask") -> Json:
    return {
        "gen_ai.operation.name": ask.endpoint.operation,
        "gen_ai.provider.name": "stoker",
        "gen_ai.request.model": ask.model,
    }

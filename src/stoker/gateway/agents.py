"""`/v1/agents` and all below it: passed on to the agents' service, with a signed word of who calls in place of the key.

The service answers; here the key is checked, and the sizes. It hears nothing of the caller's `Authorization`: what its
runs spend comes back as requests with a grant (`meter.grants`).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import NotFound, StokerError, Unauthenticated, Unavailable
from stoker.base.ids import new_id
from stoker.gateway import refusals, spans
from stoker.gateway.auth import SUBPROTOCOL, Authenticator, authorization_of
from stoker.meter.accounts import Account
from stoker.meter.grants import CALLER_HEADER, CLAIM_S, CallerClaim
from stoker.telemetry.spans import Span, Tracing, parent_in
from stoker.web import problems, socket_client
from stoker.web.client import Answer, HttpClient, Stream, Timeouts
from stoker.web.server import read_body, while_connected
from stoker.web.sockets import stopping_in
from stoker.web.sse import EventStream

# Longer than anybody may wait for the end of a run (`?wait=`), and than an event stream is silent.
SILENCE_S = 330.0
RUNS = "/v1/agents/{name}/runs"
_RUN = f"{RUNS}/{{id}}"
SOCKET = f"{_RUN}/ws"
PATHS: Mapping[str, list[str]] = {
    "/v1/agents": ["GET"],
    "/v1/agents/{name}": ["GET"],
    RUNS: ["GET", "POST"],
    _RUN: ["GET"],
    f"{_RUN}/cancel": ["POST"],
    f"{_RUN}/resume": ["POST"],
    f"{_RUN}/events": ["GET"],
    f"{_RUN}/trace": ["GET"],
    SOCKET: ["GET"],  # without a handshake
    "/v1/agents/{name}/threads/{id}": ["GET", "DELETE"],
    "/v1/agents/{name}/schedules": ["GET", "POST"],
    "/v1/agents/{name}/schedules/{id}": ["DELETE"],
}
"""What the document says that there is; the service has each run by `/v1/agents/runs/{id}`, too."""
BELOW = "/v1/agents/{path:path}"
PASSED = ("Accept", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "traceparent", "tracestate")
"""Of the caller's headers; its key stays here. A run is told of our own span in the place of the caller's."""
# Of the service's: what is said of its connection, of the form in which its body came, and to proxies in between.
_NOT_PASSED = frozenset(
    (
        *("connection", "content-encoding", "content-length", "date", "keep-alive", "server", "trailer"),
        *("transfer-encoding", "upgrade", "x-accel-buffering"),
    )
)
NORMAL, RESTART, KEY_REFUSED = 1000, 1012, 4401


@dataclass(frozen=True, slots=True)
class AgentsService:
    """Where it is, and the secret that it knows us by."""

    url: str
    secret: str
    http: HttpClient

    @classmethod
    def at(cls, url: str | None, secret: str | None) -> "AgentsService | None":
        """None: there are no agents here. Raises InvalidInput for what is no URL."""
        if url is None or secret is None:
            return None
        http = HttpClient(url, timeouts=Timeouts(read_s=SILENCE_S), name="the agents' service")
        return cls(url.rstrip("/"), secret, http)


def routes(
    auth: Authenticator,
    service: AgentsService | None,
    clock: Clock,
    *,
    max_body_bytes: int,
    refused: Callable[[str], None],
    tracing: Tracing | None = None,
) -> list[BaseRoute]:
    forwarding = _Forwarding(auth, service, clock, max_body_bytes, refused, tracing)
    listed = [Route(path, forwarding.request, methods=methods) for path, methods in PATHS.items()]
    return [
        *listed,
        WebSocketRoute(SOCKET, forwarding.socket),
        _Beside(listed, forwarding.request),
        WebSocketRoute(BELOW, forwarding.socket),
    ]


class _Beside(Route):
    """What the service has beside the paths that are listed, which is its own affair; a method that one of those has
    not is none here either."""

    def __init__(self, listed: Sequence[Route], endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__(BELOW, endpoint, methods=["GET", "POST", "DELETE"], include_in_schema=False)
        self._listed = listed

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_listed = any(route.matches(scope)[0] is not Match.NONE for route in self._listed)
        return (Match.NONE, {}) if is_listed else super().matches(scope)


@dataclass(frozen=True, slots=True)
class _Said:
    """A request as far as its caller is concerned."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Forwarding:
    auth: Authenticator
    service: AgentsService | None
    clock: Clock
    max_body_bytes: int
    refused: Callable[[str], None]
    tracing: Tracing | None

    # --- requests -----------------------------------------------------------------------------------------------------

    async def request(self, request: Request) -> Response:
        if self.tracing is None or not _begins_run(request):
            return await self._passed_on(request, {})
        span = self.tracing.begin(parent_in(request.headers), spans.request(RUNS), self.clock.now())
        logs.bound.set(span)
        try:
            answer = await self._passed_on(request, span.context.headers)
        except BaseException as error:
            self._end(span, request, error)
            raise
        self._end(span, request, answer)
        return answer

    def _end(self, span: Span, request: Request, outcome: Response | BaseException) -> None:
        """A stranger's is never told (`gateway.refusals`)."""
        account: Account | None = getattr(request.state, "account", None)
        if account is None:
            return
        span.say("stoker.tenant", account.tenant)
        if isinstance(outcome, BaseException):
            refusals.end(span, outcome, self.clock.now())
        else:
            spans.answered_with(span, outcome.status_code, self.clock.now())

    async def _passed_on(self, request: Request, caused_by: Mapping[str, str]) -> Response:
        request_id = new_id("req")
        request.state.headers = {"X-Request-Id": request_id}  # for an answer that is an error, too
        account, body = await self.auth.user_and_body(request, self._body)
        service = self._there()
        headers = {name: request.headers[name] for name in PASSED if name in request.headers} | dict(caused_by)
        asking = service.http.open(
            # A client that wants the head alone is given that of the answer: nothing here can read half an answer.
            "GET" if request.method == "HEAD" else request.method,
            _target(request),
            body=body or None,
            headers={**headers, **self._claim(service, account, request_id)},
        )
        try:
            opened = await while_connected(request, asking, unwanted=_closed)
        except Unavailable as error:
            raise _away(error) from error
        if opened.error is None and request.method != "HEAD":
            passed = _passed_back(opened.headers, request_id)
            passed.pop("cache-control", None)  # ours says the same
            return EventStream(_lines(opened), headers=passed)
        opened.close()
        said = Answer(opened.status, opened.headers, b"") if opened.error is None else opened.error
        return Response(said.body, said.status, headers=_passed_back(said.headers, request_id))

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, max_bytes=self.max_body_bytes)

    def _there(self) -> AgentsService:
        if self.service is None:
            raise NotFound(
                "agents are not enabled on this platform",
                hint='pip install "stoker[agents]", and set agents.enabled in platform.yaml',
                code="agents_not_enabled",
            )
        return self.service

    def _claim(self, service: AgentsService, account: Account, request_id: str) -> dict[str, str]:
        grant = account.grant
        claim = CallerClaim(
            key_id=account.id,
            tenant=account.tenant,
            team=account.team,
            role=account.role,
            expires_at=self.clock.now() + CLAIM_S,
            request_id=request_id,
            run=None if grant is None else grant.run,
            agent=None if grant is None else grant.agent,
        )
        return {CALLER_HEADER: claim.signed(service.secret)}

    # --- WebSockets ---------------------------------------------------------------------------------------------------

    async def socket(self, socket: WebSocket) -> None:
        said = authorization_of(socket)
        asked = _Said({} if said is None else {"authorization": said})
        try:
            account = await self.auth.user(asked)
            service = self._there()
            headers = self._claim(service, account, new_id("req"))
            try:
                there = await socket_client.dial(service.url + _target(socket), headers)
            except Unavailable as error:
                raise _away(error) from error
        except StokerError as error:
            self.refused(error.code)
            await socket.send_denial_response(problems.response_of(error))
            return
        except socket_client.Denied as denied:
            answer = denied.answer
            await socket.send_denial_response(
                Response(answer.body, answer.status, headers=_passed_back(answer.headers, None))
            )
            return
        code = RESTART
        try:
            await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
            code = await self._between(socket, there, asked)
        finally:
            await there.close(code)
            with suppress(WebSocketDisconnect, RuntimeError):  # the client was the first to go
                await socket.close(code)

    async def _between(self, socket: WebSocket, there: socket_client.Socket, asked: _Said) -> int:
        """Pass messages both ways until one side closes, or the server stops: the code for the other side."""
        parts = [
            asyncio.create_task(part)
            for part in (self._up(socket, there, asked), _down(there, socket), _stopped(socket))
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _up(self, socket: WebSocket, there: socket_client.Socket, asked: _Said) -> int:
        try:
            while True:
                received = await socket.receive()
                if received["type"] == "websocket.disconnect":
                    return int(received.get("code") or NORMAL)
                await self.auth.user(asked)  # a key that was revoked says nothing more
                text = received.get("text")
                await there.send(received["bytes"] if text is None else text)
        except Unauthenticated:
            return KEY_REFUSED
        except StokerError:
            return socket_client.INTERNAL_ERROR
        except socket_client.Closed as closed:
            return closed.code


async def _down(there: socket_client.Socket, socket: WebSocket) -> int:
    try:
        while True:
            message = await there.receive()
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)
    except socket_client.Closed as closed:
        return closed.code
    except (WebSocketDisconnect, RuntimeError):  # what Starlette raises when a connection is closed
        return NORMAL


async def _stopped(socket: WebSocket) -> int:
    await stopping_in(socket.scope).wait()
    return RESTART


def _begins_run(request: Request) -> bool:
    name = request.path_params.get("name")
    return request.method == "POST" and request.url.path == RUNS.replace("{name}", str(name))


def _target(asked: Request | WebSocket) -> str:
    """The path and the query as they came."""
    path: bytes = asked.scope.get("raw_path") or asked.scope["path"].encode()
    query: bytes = asked.scope["query_string"]
    return (path + (b"?" + query if query else b"")).decode("latin-1")


async def _lines(opened: Stream) -> AsyncGenerator[bytes, None]:
    """The bytes of the stream as they come, whole lines at a time: something may be said in between."""
    rest = b""
    try:
        while data := await opened.read_bytes():
            lines, end, rest = (rest + data).rpartition(b"\n")
            if end:
                yield lines + end
        if rest:
            yield rest
    except StokerError:
        return  # in the middle of events: who reads along asks again, after the last one that came
    finally:
        opened.close()


async def _closed(opened: Stream) -> None:
    opened.close()


def _passed_back(headers: Mapping[str, str], request_id: str | None) -> dict[str, str]:
    passed = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED}
    if request_id is not None:
        passed.setdefault("x-request-id", request_id)
    return passed


def _away(error: Unavailable) -> Unavailable:
    made = Unavailable("the agents' service does not answer", hint="try again in a moment", code="agents_unavailable")
    made.detail = error.in_log
    return made

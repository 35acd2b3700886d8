"""The server loop: one application on one socket, until it is told to stop; and what every application shares."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import uvicorn
import uvloop
from starlette import responses
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.base import json_text
from stoker.base.errors import InvalidInput, PortTaken, StokerError, TooLarge, Unavailable
from stoker.web import problems, uploads
from stoker.web.direct import Direct, protocol
from stoker.web.sockets import PING_S, SocketProtocol
from stoker.web.sse import until_gone

T = TypeVar("T")

MOST_DEPTH = 128
"""Of objects and arrays in each other, in a body of JSON. Schemas of tools have some ten."""
_LONG_BYTES = 4096


def application(
    routes: Sequence[BaseRoute], *, on_problem: Callable[[StokerError], None] = lambda _: None, **options: Any
) -> Starlette:
    """A Starlette application that answers every error in OpenAI's shape."""
    return Starlette(routes=list(routes), exception_handlers=problems.handlers(on_problem), **options)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises PortTaken, InvalidInput for a host that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where a socket names its protocol; with it on, the body of an answer
    # waits 40 ms for the client's system to acknowledge the head.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # A client that takes nothing of what was sent for so long, on whatever route: the system ends the connection.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * uploads.UNREAD_S))
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as exc:
        listening.close()
        if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
            raise InvalidInput(f"cannot listen on host {host!r}: {exc.strerror}", param="gateway.host") from exc
        raise PortTaken(
            f"cannot listen on {host}:{port}: {exc.strerror}", hint="choose another port with --port N, or 0 for any"
        ) from exc
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket) -> str:
    """Where this socket is reached, as `http://127.0.0.1:8080`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on the faster loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class JSONResponse(responses.JSONResponse):
    """With whatever texts that came as JSON: half a surrogate pair is written as it was read."""

    def render(self, content: Any) -> bytes:
        return json_text.dumps(content)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self.leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def main_loop(self) -> None:
        """Ends when told, where uvicorn's own looks ten times a second whether it should."""
        await self.on_tick(0)
        await self.leave.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own business (base.process); uvicorn is told by `leave`."""
        yield


class _Cancellable:
    """A request that is cancelled when the server stops is told so, where uvicorn would say 500 and log a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not has_begun:
                stopping = Unavailable("this server is stopping", hint="ask again")
                await problems.response_of(stopping)(scope, receive, send)


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    on_ready: Callable[[], None] = lambda: None,
    grace_s: float = 5.0,
    direct: Direct | None = None,
    max_message_bytes: int | None = None,
) -> None:
    """Answer requests until `stop` is set, then let running ones end for at most `grace_s` seconds. What `direct` knows
    does not reach `app`. `max_message_bytes`: of a WebSocket's; None: there are no WebSockets.

    What still runs then is cancelled, and when this returns it is over: nothing uses the parts behind the application
    any more.
    """
    config = uvicorn.Config(
        _Cancellable(app),
        loop="none",
        http="httptools" if direct is None else protocol(direct),
        ws="none" if max_message_bytes is None else SocketProtocol,
        ws_max_size=max_message_bytes or 0,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        # Chunks are small, and inflating what strangers send costs more than the bytes.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=grace_s,  # type: ignore[arg-type]  # it goes to asyncio.wait_for as it is
        # A client that closes an idle connection later than we do never meets a reset.
        timeout_keep_alive=75,
    )
    server = _Server(config, on_ready)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.leave.set()
        await running
        # uvicorn cancels what outlives the grace, and does not wait for it.
        await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


async def while_connected(
    request: Request, work: Awaitable[T], *, unwanted: Callable[[T], Awaitable[None]] | None = None
) -> T:
    """The result of `work`, or ClientDisconnect: it is cancelled as soon as the client has gone away.

    `unwanted` gets a result that was there at the moment when nobody could take it any more, to close it.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(until_gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await _drop(working, unwanted)
        raise
    finally:
        leaving.cancel()
    if working.done():
        return working.result()
    await _drop(working, unwanted)
    raise ClientDisconnect


async def _drop(working: "asyncio.Future[T]", unwanted: Callable[[T], Awaitable[None]] | None) -> None:
    working.cancel()
    await asyncio.wait({working})
    if working.cancelled() or working.exception() is not None:
        return
    if unwanted is not None:
        await unwanted(working.result())


async def read_json(request: Request, *, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object. Raises InvalidInput, TooLarge for more than `max_bytes`, TooSlow."""
    return json_object(await read_body(request, max_bytes=max_bytes))


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Raises TooLarge for more than `max_bytes`, TooSlow."""
    parts: list[bytes] = []
    size = 0
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + uploads.time_for(0)) as limit:
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise TooLarge(f"the body has more than {max_bytes} bytes", hint="send less, or raise maxBodyBytes")
                parts.append(part)
                limit.reschedule(began + uploads.time_for(size))
    except TimeoutError:
        raise uploads.too_slow(size) from None
    return b"".join(parts)


def json_object(body: bytes) -> dict[str, Any]:
    """Raises InvalidInput for what is none."""
    try:
        value = json_text.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"the body is not JSON: {exc}", code="invalid_json") from exc
    # There are no more levels than brackets. To count them in a long body takes longer than to look at its values.
    is_flat = len(body) < _LONG_BYTES and body.count(b"{") + body.count(b"[") <= MOST_DEPTH
    if not is_flat and _is_deeper(value, MOST_DEPTH):
        raise InvalidInput(
            f"the body is nested more than {MOST_DEPTH} levels deep; it has to be flatter", code="invalid_json"
        )
    if not isinstance(value, dict):
        raise InvalidInput(
            f"the body is a JSON {_JSON_TYPES[type(value)]}; it has to be an object", code="invalid_json"
        )
    return value


def _is_deeper(value: object, most: int) -> bool:
    """Level by level: what is nested deeper than Python can call itself is no trouble here. What was read from JSON has
    these very types."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [
            inner
            for holder in level
            for inner in (holder.values() if type(holder) is dict else holder)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


_JSON_TYPES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}

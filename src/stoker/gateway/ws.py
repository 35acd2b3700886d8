"""`/v1/ws`: many requests, several at once, over one connection; messages are JSON objects chosen by their `action`.

Each message that generates goes to the same handler as a POST to that endpoint (`openai.direct`), so its key, its
scope, its budgets and its route are looked at as they are there. What the handler answers becomes frames. A connection
is a session of its own unless it, or the message, names one.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stoker.base import json_text
from stoker.base.errors import InvalidInput, NotFound, Refused, StokerError, Unauthenticated, Unavailable
from stoker.base.ids import new_id
from stoker.gateway import openai, streams
from stoker.gateway.auth import SUBPROTOCOL, authorization_of
from stoker.gateway.endpoints import shown
from stoker.gateway.services import RUN_HEADER, SESSION_HEADER, Services
from stoker.web import problems, sse
from stoker.web.direct import DirectAnswer, DirectRequest, Failed, Handler
from stoker.web.server import json_object
from stoker.web.sockets import stopping_in

Json = dict[str, Any]
Work = Callable[[], Awaitable[DirectAnswer]]

GENERATES = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}
"""Actions, and the endpoints whose requests they are."""
ACTIONS = (*GENERATES, "resume", "cancel", "ping")

MOST_AT_ONCE = 16
"""Messages of one connection that are answered at once."""
# A peer that takes nothing any more must not hold up the end of the process.
CLOSE_S = 0.5
_OWN = ("action", "id", "body", "session", "run", "resumable")
_LONGEST_ID = 256

# Close codes: RFC 6455's, the registry's "service restart", and ours, after HTTP's 401.
NORMAL, RESTART, KEY_REFUSED = 1000, 1012, 4401


def routes(services: Services) -> list[WebSocketRoute]:
    handlers = openai.direct(services).handlers

    async def connect(socket: WebSocket) -> None:
        try:
            asked = _Asked(_handshake(socket))
            await services.auth.user(asked)
        except StokerError as error:
            services.measures.refused(error.code)
            await socket.send_denial_response(problems.response_of(error))
            return
        offered = socket.scope["subprotocols"]
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        await _Connection(services, handlers, socket, asked).run()

    return [WebSocketRoute("/v1/ws", connect)]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as far as its caller is concerned."""

    headers: Mapping[str, str]


def _handshake(socket: WebSocket) -> dict[str, str]:
    """What a connection says for all its messages."""
    said = {name: socket.headers[name] for name in (SESSION_HEADER, RUN_HEADER) if name in socket.headers}
    authorization = authorization_of(socket)
    return said if authorization is None else {**said, "authorization": authorization}


@dataclass(slots=True)
class _Running:
    """A message that is being answered. `stream`: the id of a stream that goes on by itself."""

    task: asyncio.Task[None]
    stream: str | None = None


class _Connection:
    def __init__(self, services: Services, handlers: Mapping[str, Handler], socket: WebSocket, asked: _Asked) -> None:
        self._services = services
        self._handlers = handlers
        self._socket = socket
        self._asked = asked
        # 80 random bits, known to nobody before: no client can have called a session of its own that.
        self._session = new_id("ws")
        self._running: dict[str, _Running] = {}
        self._cancelling: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def run(self) -> None:
        """Until the client goes, its key is refused, or the server stops. What runs then is cancelled, but for streams
        that were asked for as resumable."""
        reading = asyncio.create_task(self._read())
        stopping = asyncio.create_task(self._stopped())
        code: int | None = RESTART
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                code = reading.result()
        except asyncio.CancelledError:
            pass  # the grace is over: there is nobody above who waits for more than our end
        finally:
            left = {reading, stopping, *self._cancelling, *(running.task for running in self._running.values())}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if code is not None:
            with suppress(_Gone, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    with _translated():
                        await self._socket.close(code)

    async def _stopped(self) -> None:
        """Returns when the server stops and nothing runs any more."""
        await stopping_in(self._socket.scope).wait()
        self._is_stopping = True
        while self._running:
            await asyncio.wait([running.task for running in self._running.values()])

    async def _read(self) -> int | None:
        """Take messages until there will be no more: the code to close with, or None when the client has gone."""
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                return None
            text = received.get("text")
            try:
                if not await self._take(received["bytes"] if text is None else text.encode()):
                    return KEY_REFUSED
            except _Gone:
                return None

    async def _take(self, data: bytes) -> bool:
        """One message; False when the key is none any more."""
        name: str | None = None
        try:
            message = json_object(data)
            name = _name_in(message)
            await self._services.auth.user(self._asked)
            await self._act(name, message)
        except StokerError as error:
            await self._refuse(name, error)
            return not isinstance(error, Unauthenticated)
        return True

    async def _act(self, name: str | None, message: Json) -> None:
        action = message.get("action")
        if action == "ping":
            await self._tell(name, "pong")
            return
        if action not in ACTIONS:
            raise InvalidInput(f"action is {shown(action)}; it has to be one of {', '.join(ACTIONS)}", param="action")
        if name is None:
            raise InvalidInput(f"{action} needs an id, which its answers will have", param="id")
        if action == "cancel":
            await self._cancel(name)
        elif action == "resume":
            stream, after = _text_in(message, "request_id"), message.get("cursor")
            if stream is None or not (after is None or isinstance(after, str)):
                raise InvalidInput("resume needs a request_id, and a cursor if it is not from the beginning")
            self._begin(name, lambda: self._resumed(name, stream, after))
        else:
            request = self._request(GENERATES[action], message)
            handler = self._handlers[request.path]
            self._begin(name, lambda: handler(request))
            if message.get("resumable"):
                self._running[name].stream = ""  # it has no id yet

    def _request(self, path: str, message: Json) -> DirectRequest:
        """The POST that a message stands for. Raises InvalidInput."""
        body = message.get("body")
        if body is None:
            body = {key: value for key, value in message.items() if key not in _OWN}
        if not isinstance(body, dict):
            raise InvalidInput("body has to be the JSON object that you would send to that endpoint", param="body")
        headers = dict(self._asked.headers)
        session, run, resumable = (
            _text_in(message, "session"),
            _text_in(message, "run"),
            message.get("resumable", False),
        )
        if session is None and SESSION_HEADER not in headers and body.get("conversation") is None:
            session = self._session
        for header, value in ((SESSION_HEADER, session), (RUN_HEADER, run)):
            if value is not None:
                headers[header] = value
        if not isinstance(resumable, bool):
            raise InvalidInput(f"resumable is {shown(resumable)}; it has to be true or false", param="resumable")
        if resumable:
            headers[streams.RESUMABLE] = "true"
        try:
            encoded = json_text.dumps(body)
        except RecursionError as exc:
            raise InvalidInput("body is nested too deeply", param="body") from exc
        return DirectRequest(path, {**headers, "content-length": str(len(encoded))}, encoded)

    async def _resumed(self, name: str, stream: str, after: str | None) -> DirectAnswer:
        if after is not None:
            streams.event_of(f"{stream}/{after}")
        key = await self._services.auth.user(self._asked)
        headers, events = await streams.resumed(self._services, key, stream, after)
        self._running[name].stream = stream
        return DirectAnswer(200, headers, events=events)

    # --- what runs --------------------------------------------------------------------------------------------------

    def _begin(self, name: str, work: Work) -> None:
        if self._is_stopping:
            raise Unavailable("this server is stopping", hint="connect again")
        if name in self._running:
            raise InvalidInput(f"id {name!r} is that of a message that is being answered", param="id", code="id_in_use")
        if len(self._running) >= MOST_AT_ONCE:
            raise Refused(
                f"{MOST_AT_ONCE} messages of this connection are being answered, which is all that may be at once",
                hint="wait for one to end, or open another connection",
                code="too_many_at_once",
            )
        task = asyncio.create_task(self._answer(name, work))
        self._running[name] = _Running(task)
        task.add_done_callback(lambda _: self._running.pop(name))

    async def _answer(self, name: str, work: Work) -> None:
        with suppress(_Gone):  # the reader learns of it, too, and ends everything
            try:
                await self._pass_on(name, await work())
            except Failed as failed:
                await self._refuse(name, failed.error, failed.headers)
            except StokerError as error:
                await self._refuse(name, error)
            except _Gone:
                raise
            except Exception as error:
                await self._refuse(name, problems.unexpected("/v1/ws", error))

    async def _pass_on(self, name: str, answer: DirectAnswer) -> None:
        if answer.events is None:
            said = json_text.loads(answer.body)
            about = {"status": answer.status, "headers": answer.headers}
            if answer.status < 400:
                await self._tell(name, "done", data=said, **about)
            else:
                await self._tell(name, "error", error=said.get("error"), **about)
            return
        request_id = answer.headers["X-Request-Id"]
        if self._running[name].stream == "":
            self._running[name].stream = request_id
        receipt: Any = None
        async with aclosing(answer.events) as pieces, aclosing(_events_in(pieces)) as events:
            await self._tell(name, "begin", request_id=request_id, headers=answer.headers)
            async for event in events:
                if event.receipt is not None:
                    receipt = event.receipt
                elif event.data == sse.DONE:
                    await self._tell(name, "done", receipt=receipt)
                else:
                    said = _value_of(event.data)
                    if isinstance(said, dict) and "error" in said:
                        await self._tell(name, "error", error=said["error"])
                        return
                    if isinstance(said, dict):
                        receipt = said.get("stoker", receipt)
                    cursor = {} if event.cursor is None else {"cursor": event.cursor}
                    await self._tell(name, "chunk", data=said, **cursor)

    async def _cancel(self, name: str) -> None:
        running = self._running.get(name)
        if running is None or running.task.cancelling():
            raise NotFound(f"no message with the id {name!r} is being answered")
        if running.stream:
            key = await self._services.auth.user(self._asked)
            await streams.cancelled(self._services, key, running.stream)
        running.task.cancel()
        # Beside the reading: what it used is asked of its engine first, and that takes a while.
        ending = asyncio.create_task(self._tell_cancelled(name, running.task))
        self._cancelling.add(ending)
        ending.add_done_callback(self._cancelling.discard)

    async def _tell_cancelled(self, name: str, task: "asyncio.Task[None]") -> None:
        await asyncio.wait({task})
        if task.cancelled():  # and not at its end by then
            with suppress(_Gone):
                await self._tell(name, "cancelled")

    # --- what is said -----------------------------------------------------------------------------------------------

    async def _refuse(self, name: str | None, error: StokerError, headers: Mapping[str, str] | None = None) -> None:
        self._services.measures.refused(error.code)
        said = {**(headers or {}), **problems.headers_of(error)}
        await self._tell(name, "error", status=error.status, headers=said, error=problems.body_of(error)["error"])

    async def _tell(self, name: str | None, kind: str, **what: Any) -> None:
        """One frame; waits while the client is slow to read. Raises _Gone."""
        frame = json_text.dumps({"id": name, "type": kind, **what})
        with _translated():
            await self._socket.send_text(frame.decode("utf-8", "replace"))


class _Gone(Exception):
    """Nobody is there to be told."""


@contextmanager
def _translated() -> Iterator[None]:
    """Raises _Gone for what Starlette raises when a connection is closed."""
    try:
        yield
    except (WebSocketDisconnect, RuntimeError) as error:
        raise _Gone from error


@dataclass(frozen=True, slots=True)
class _Event:
    data: bytes = b""
    cursor: str | None = None
    receipt: Any = None


async def _events_in(pieces: AsyncIterator[bytes]) -> AsyncGenerator[_Event, None]:
    """What server-sent events say: each event with its cursor, if it has an id, and the receipt that is a comment."""
    rest, cursor, data = b"", None, list[bytes]()
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            name, _, value = line.partition(b": ")
            if name == b"data":
                data.append(value)
            elif name == b"id":
                cursor = value.decode().rpartition("/")[2]
            elif value.startswith(b"receipt ") and not name:
                yield _Event(receipt=_value_of(value.removeprefix(b"receipt ")))
            elif not line and data:
                yield _Event(b"\n".join(data), cursor)
                cursor, data = None, []


def _value_of(text: bytes) -> Any:
    try:
        return json_text.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def _name_in(message: Json) -> str | None:
    name = _text_in(message, "id")
    if name is not None and not 1 <= len(name) <= _LONGEST_ID:
        raise InvalidInput(f"id has {len(name)} characters; it has to have 1 to {_LONGEST_ID}", param="id")
    return name


def _text_in(message: Json, field: str) -> str | None:
    value = message.get(field)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{field} is {shown(value)}; it has to be text", param=field)
    return value

"""Requests that are answered without a framework in between: those that a gateway exists for.

uvicorn's protocol class still accepts, parses (httptools), keeps connections alive and drains them at the end. What is
asked of a path in `Direct.handlers` goes from its parser to the handler, and the answer to the transport; all other
paths go the usual way, to the ASGI application. A client that goes away cancels the handler where it waits.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from stoker.base import logs
from stoker.base.errors import StokerError, TooLarge, Unavailable
from stoker.web import problems, uploads
from stoker.web.alarms import Alarm
from stoker.web.sse import KEEPALIVE, KEEPALIVE_S

MOST_IN_LINE = 64
"""Requests of one connection that wait for the answers to those before. A client that sends more is not read."""
MOST_PIECES_BYTES = 256 * 1024
"""Of a head that comes in several pieces: more is refused, so that a line without an end does not fill the memory."""
# A piece of an answer of this size goes out at once, without waiting for what else may be said.
_LARGE = 16 * 1024


def headers_of(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """By names in lower case; of several lines of one name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw)}


@dataclass(slots=True)
class DirectRequest:
    """A POST whose body is there. `path` is as the client wrote it, without the host and the query."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    turns: logs.Turns | None = None
    """Where one task answers all of a connection."""


@dataclass(slots=True)
class DirectAnswer:
    """`body`, or `events` (wire bytes of server-sent events), which are closed however the answer ends."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    events: AsyncGenerator[bytes, None] | None = None


class Failed(Exception):
    """An error with headers of its own: what the handler knew when it happened."""

    def __init__(self, error: StokerError, headers: dict[str, str]) -> None:
        super().__init__(error.message)
        self.error = error
        self.headers = headers


Handler = Callable[[DirectRequest], Awaitable[DirectAnswer]]


@dataclass(frozen=True, slots=True)
class Direct:
    """`handlers` by path, for POST. `on_problem` hears of each error that a client is told."""

    handlers: Mapping[str, Handler]
    max_body_bytes: int
    on_problem: Callable[[StokerError], None] = lambda _: None
    keepalive_s: float = KEEPALIVE_S
    unread_s: float = uploads.UNREAD_S
    by_raw_path: dict[bytes, Handler] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.by_raw_path.update({path.encode(): handler for path, handler in self.handlers.items()})


def protocol(direct: Direct) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the way round the application."""

    class DirectProtocol(HttpToolsProtocol):
        # The last one that was begun, one of ours or of uvicorn's, which knows the last one that came.
        running: Any = None
        # Of the last request that came there is more to come.
        is_receiving = False
        # Of the head that comes, what has come but for the first piece; None: none comes.
        head_bytes: int | None = None
        # Rings where no head is whole in time.
        waiting: Alarm
        is_waiting = False
        # Answers what comes on this connection; `turn` is what it has to answer next, `_has_turn` wakes it.
        _answering: asyncio.Task[None] | None = None
        _turn: Any = None
        _has_turn: asyncio.Future[None] | None = None
        _is_over = False
        # Of the head that comes: bytes of the names and values of its headers.
        headers_bytes = 0
        # Of the body that comes: all that came but for the first piece, and what of it is body.
        raw_bytes = body_bytes = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(cast(asyncio.Transport, transport))
            self.waiting = Alarm(self.loop, transport.close)
            self.turns = logs.Turns()
            self._await_head(uploads.HEAD_S)

        def connection_lost(self, exc: Exception | None) -> None:
            self.waiting.close()
            if self.running is not None and not self.running.response_complete:
                self.running.disconnected = True
                self.running.message_event.set()
            self._end_answering()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            """As uvicorn's, but that an upgrade that is not made is left out of the request, which goes on."""
            if self.head_bytes is not None:
                self.head_bytes += len(data)
            if self.is_receiving:
                self.raw_bytes += len(data)
            while data:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    if self._should_upgrade():
                        self.waiting.close()
                        self._end_answering()
                        self.handle_websocket_upgrade()
                        return
                    data = self._without_upgrade() + data[upgrade.args[0] :]
                except httptools.HttpParserError as error:
                    if isinstance(error.__context__, StokerError):
                        self._refuse(error.__context__)
                    else:
                        self.send_400_response("Invalid HTTP request received.")
                    return
            if self.head_bytes is not None and self.head_bytes > MOST_PIECES_BYTES:
                self._refuse(uploads.head_too_large())
            if self.is_receiving and uploads.is_padded(self.raw_bytes, self.body_bytes):
                self._refuse(uploads.padded())
            if self.cycle is not None and not self.cycle.response_complete:
                self.is_waiting = False
                self.waiting.off()
            elif not self.is_waiting:
                self._await_head(uploads.HEAD_S)

        def _refuse(self, error: StokerError) -> None:
            """For what is no request that a handler could see. Nothing is said in the middle of an answer."""
            direct.on_problem(error)
            if self.cycle is None or self.cycle.response_complete or self.is_receiving:
                body = problems.encoded(error)
                head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
                self.transport.write(STATUS_LINE[error.status] + head + body)
            self.transport.close()

        def _without_upgrade(self) -> bytes:
            """The head again, for a parser that then takes the body for one; this one skips it."""
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            lines = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
            return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines))

        def _await_head(self, within_s: float) -> None:
            self.is_waiting = True
            self.waiting.set(self.loop.time() + within_s)

        def on_message_begin(self) -> None:
            self.head_bytes = self.headers_bytes = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            super().on_url(url)
            if len(self.url) > uploads.MOST_URL_BYTES:
                raise uploads.url_too_long()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self.is_receiving:  # it stands behind the body, where nobody looks for what a head says
                return
            self.headers_bytes += len(name) + len(value)
            if self.headers_bytes > uploads.MOST_HEAD_BYTES or len(self.headers) == uploads.MOST_HEADERS:
                raise uploads.head_too_large()
            # From here on as uvicorn's, which is not called since there are many headers.
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

        def on_body(self, body: bytes) -> None:
            self.body_bytes += len(body)
            super().on_body(body)

        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            self.running = cycle
            if not isinstance(cycle, Cycle):
                # It may come of the task that answers those before it on this connection.
                logs.bearing(None).run(super()._start_asgi_task, cycle, app)
                return
            self._turn = cycle
            if self._answering is None or self._answering.done():
                self._answering = self.loop.create_task(self._answer())
                self._answering.add_done_callback(self.tasks.discard)
                self.tasks.add(self._answering)
            elif self._has_turn is not None and not self._has_turn.done():
                self._has_turn.set_result(None)

        async def _answer(self) -> None:
            """One task for all requests of the connection, one after the other: one for each costs more than parsing
            them."""
            logs.bound.set(self.turns)
            while not self._is_over:
                cycle, self._turn = self._turn, None
                await cycle.answer()
                del cycle  # while the connection has nothing to do
                if self._turn is None and not self._is_over:
                    self._has_turn = self.loop.create_future()
                    await self._has_turn

        def _end_answering(self) -> None:
            """What is answered goes on to its end; nothing comes after it."""
            self._is_over = True
            if self._has_turn is not None:
                self._has_turn.cancel()

        def on_message_complete(self) -> None:
            if self.parser.should_upgrade() and not self._should_upgrade():
                return
            self.is_receiving = False
            super().on_message_complete()

        def on_response_complete(self) -> None:
            """As uvicorn's, with another timer for a connection that nobody uses."""
            self.server_state.total_requests += 1
            if self.transport.is_closing():
                return
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self.is_waiting = False  # the first byte of a head begins its time
                self.waiting.set(self.loop.time() + self.timeout_keep_alive)
            if self.is_receiving and self.cycle.response_complete:
                # It was refused before its body was there. What comes of it is dropped, but not for ever.
                self.loop.call_later(uploads.WAIT_S, self._give_up, self.cycle)

        def _give_up(self, cycle: object) -> None:
            if self.is_receiving and self.cycle is cycle:
                self.transport.close()

        def on_headers_complete(self) -> None:
            self.head_bytes = None
            if self.parser.should_upgrade() and not self._should_upgrade():
                if self.parser.get_method() == b"CONNECT":
                    raise ValueError("a tunnel to nowhere")  # answered as what cannot be parsed
                return
            self.is_receiving = True
            self.raw_bytes = self.body_bytes = 0
            handler = direct.by_raw_path.get(self.path())
            if handler is None or self.parser.get_method() != b"POST":
                super().on_headers_complete()
                self._read_on()
                return
            self.scope["method"] = "POST"
            before = self.cycle
            keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            cycle: Any = Cycle(self, direct, handler, keep_alive=keep_alive)
            self.cycle = cycle
            if before is None or before.response_complete:
                self._start_asgi_task(cycle, self.app)
            else:  # one that came before the answer to the last: it waits for its turn
                self.flow.pause_reading()
                self.pipeline.appendleft((cycle, self.app))
                self._read_on()

        def path(self) -> bytes:
            """Without the query; of a URL that is whole, as a proxy is sent, what follows the host."""
            if self.url.startswith(b"/"):
                return self.url.partition(b"?")[0]
            return httptools.parse_url(self.url).path or b""

        def _read_on(self) -> None:
            """Whoever does not read does not notice that the client has gone: so some requests may wait in line."""
            if 0 < len(self.pipeline) < MOST_IN_LINE:
                self.flow.resume_reading()

        def _should_upgrade(self) -> bool:
            """Never in the middle of an answer, which would go on between the frames."""
            is_idle = self.cycle is None or self.cycle.response_complete
            return bool(is_idle and self.parser.get_method() == b"GET" and super()._should_upgrade())

    return DirectProtocol


class Cycle:
    """One request and its answer, in the place of uvicorn's RequestResponseCycle: the protocol fills `body`, clears
    `more_body`, sets `disconnected`, and rings `message_event` for each."""

    def __init__(self, connection: Any, direct: Direct, handler: Handler, *, keep_alive: bool) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._direct = direct
        self._handler = handler
        self._headers = connection.headers
        self._url = connection.url
        self._path = connection.path()
        self._expects_100 = connection.expect_100_continue
        self._task: asyncio.Task[Any] | None = None
        self._has_body: asyncio.Future[None] | None = None
        self._said: list[bytes] = []
        # A client of HTTP/1.0 reads until the connection is closed.
        self._is_chunked = connection.parser.get_http_version() != "1.0"
        # What uvicorn's protocol looks at:
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = keep_alive

    @property
    def message_event(self) -> "Cycle":
        """A field would hold the cycle, and its body, until the garbage collector comes by."""
        return self

    def set(self) -> None:
        """Something has come, or the client has gone."""
        if self.disconnected and not self.response_complete:
            if self._task is not None:
                self._task.cancel()
        elif self.more_body and len(self.body) <= self._direct.max_body_bytes:
            self._flow.resume_reading()
        if self._has_body is not None and not self._has_body.done() and (not self.more_body or self._is_too_large):
            self._has_body.set_result(None)

    @property
    def _is_too_large(self) -> bool:
        return len(self.body) > self._direct.max_body_bytes

    async def answer(self) -> None:
        if self.disconnected:
            return
        self._task = asyncio.current_task()
        answer: DirectAnswer | None = None
        try:
            try:
                await self._read()
                body, self.body = bytes(self.body), bytearray()
                path, turns = self._path.decode("latin-1"), self._connection.turns
                answer = await self._handler(DirectRequest(path, headers_of(self._headers), body, turns))
                del body  # it may be large, and a stream takes its time
            except Failed as failed:
                answer = self._told(failed.error, failed.headers)
            except StokerError as error:
                answer = self._told(error, {})
            except asyncio.CancelledError:
                if self.disconnected:
                    return
                answer = self._told(Unavailable("this server is stopping", hint="ask again"), {})
            except Exception as error:
                answer = self._told(problems.unexpected(self._url.decode("latin-1"), error), {})
            await self._send(answer)
        except asyncio.CancelledError:
            if not self.disconnected:  # the server stops; the head is sent, so nothing else can be said
                self._transport.abort()  # to close it would wait for a client that may not read
        finally:
            if answer is not None and answer.events is not None:
                await answer.events.aclose()
            if not self.response_complete and not self.disconnected:
                self._transport.close()

    async def _read(self) -> None:
        """Returns when the whole body is there. Raises TooLarge, TooSlow."""
        if self.more_body and self._expects_100:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self.more_body and not self._is_too_large:
            self._has_body = loop.create_future()
            self._flow.resume_reading()
            try:
                async with asyncio.timeout_at(began + uploads.time_for(len(self.body))):
                    await self._has_body
            except TimeoutError:
                if loop.time() >= began + uploads.time_for(len(self.body)):  # with what has come meanwhile
                    raise uploads.too_slow(len(self.body)) from None
        if self._is_too_large:
            self.keep_alive = False  # the rest of the body is never read
            raise TooLarge(
                f"the body has more than {self._direct.max_body_bytes} bytes", hint="send less, or raise maxBodyBytes"
            )

    def _told(self, error: StokerError, headers: dict[str, str]) -> DirectAnswer:
        self._direct.on_problem(error)
        if self.more_body:
            self.keep_alive = False
        return DirectAnswer(error.status, {**headers, **problems.headers_of(error)}, problems.encoded(error))

    async def _send(self, answer: DirectAnswer) -> None:
        lines = [f"{name}: {value}\r\n" for name, value in answer.headers.items()]
        if answer.events is None:
            lines.append(f"content-type: application/json\r\ncontent-length: {len(answer.body)}\r\n")
        else:
            lines.append(_STREAM_HEADERS)
            if self._is_chunked:
                lines.append("transfer-encoding: chunked\r\n")
        lines.append("\r\n" if self.keep_alive else "connection: close\r\n\r\n")
        head = STATUS_LINE[answer.status] + "".join(lines).encode("latin-1")
        if answer.events is None:
            self._transport.write(head + answer.body)
        else:
            self._say(head)
            await self._send_events(answer.events)
        self._complete()

    async def _send_events(self, events: AsyncGenerator[bytes, None]) -> None:
        loop = asyncio.get_running_loop()
        beat = self._beat = Alarm(loop, self._keep_alive)
        beat.set(loop.time() + self._direct.keepalive_s)
        try:
            async for piece in events:
                if self.disconnected:  # whoever waited for the piece has swallowed the cancellation
                    raise asyncio.CancelledError
                if piece:
                    beat.set(loop.time() + self._direct.keepalive_s)
                    self._say(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
                    if len(piece) >= _LARGE:
                        self._flush()
                    if self._flow.write_paused:  # a slow client: nothing more is made before it has read
                        await self._has_read()
        finally:
            beat.close()
        if self._is_chunked:
            self._say(b"0\r\n\r\n")
        self._flush()

    async def _has_read(self) -> None:
        """Returns when the client has taken what was said. One that takes nothing is cut off: what is made for it holds
        money and a place at the engine."""
        try:
            async with asyncio.timeout(self._direct.unread_s):
                await self._flow.drain()
        except TimeoutError:
            self.disconnected = True
            self._transport.abort()
            raise asyncio.CancelledError from None

    def _say(self, data: bytes) -> None:
        """Goes out before anything else happens, in one piece with what is said until then: each write is a call of the
        system, which costs more than what is written."""
        if not self._said:
            asyncio.get_running_loop().call_soon(self._flush)
        self._said.append(data)

    def _flush(self) -> None:
        said, self._said = self._said, []
        if said and not self.disconnected:
            self._transport.write(said[0] if len(said) == 1 else b"".join(said))

    def _keep_alive(self) -> None:
        """A comment where nothing was said for long, so that no proxy closes the connection."""
        loop = asyncio.get_running_loop()
        if not self._flow.write_paused:
            self._transport.write(b"%x\r\n%b\r\n" % (len(KEEPALIVE), KEEPALIVE) if self._is_chunked else KEEPALIVE)
        self._beat.set(loop.time() + self._direct.keepalive_s)

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()


_STREAM_HEADERS = (
    "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)

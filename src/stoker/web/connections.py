"""HTTP/1.1 to one server: kept-alive connections, one exchange at a time on each. What `client.HttpClient` is made of.

A general client costs more than all that a gateway does with a request (docs/benchmarks-gateway.md), so this one does
only what an engine needs: httptools parses (llhttp, Node's parser), asyncio or uvloop transports move bytes, TLS is
Python's own. It follows no redirect, asks for no compression, and sends each request once.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from stoker.web.alarms import Alarm

# An idle connection is given up before most servers do it, and no more of them are kept.
IDLE_S = 30.0
MOST_IDLE = 100
# What has come and nobody has read yet: beyond it the server has to wait.
MOST_UNREAD = 256 * 1024


class Headers(dict[str, str]):
    """An answer's headers. Kept in lower case, found in any; of several lines of one name the last."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower() if isinstance(name, str) else name)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Lost(Exception):
    """The connection ended, or said what is no HTTP. `was_sent`: the request may have reached the server. `what` the
    server did, in our words, if they say more than that; `detail` is what the system or a library says of it, addresses
    and all."""

    def __init__(self, what: str, detail: str = "", *, was_sent: bool) -> None:
        super().__init__(f"{what} {detail}".strip())
        self.what = what
        self.detail = detail
        self.was_sent = was_sent


class Silent(Exception):
    """Nothing came for the longest time that was given."""


class Connection(asyncio.Protocol):
    """One connection. `exchange`, then `head`, then `read` until it is empty, or `whole`; then it is idle again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_idle: "Callable[[Connection], None]") -> None:
        self._loop = loop
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._alarm = Alarm(loop, self._look)
        self.idle_since = 0.0
        self.is_open = True
        self._reset()

    def _reset(self, silence_s: float = 0.0, ends_at: float = math.inf) -> None:
        self.status = 0
        self.headers = Headers()
        self._chunks: list[bytes] = []
        self._unread = 0
        self._is_paused = False
        self._has_head = False
        self._is_complete = False
        self._keeps_alive = False
        self._error: Exception | None = None
        self._silence_s = silence_s
        self._ends_at = ends_at
        self._heard_at = 0.0

    # --- for the client -----------------------------------------------------------------------------------------------

    def exchange(self, request: bytes, silence_s: float, ends_at: float = math.inf) -> None:
        """Send one whole request. From then on the longest silence is `silence_s`, and at `ends_at` (the loop's time)
        it is over."""
        self._reset(silence_s, ends_at)
        self._is_busy = True
        self._parser = httptools.HttpResponseParser(self)
        self._heard_at = now = self._loop.time()
        self._alarm.set(min(now + silence_s, ends_at))
        assert self._transport is not None  # noqa: S101 - it was made before anybody had this connection
        self._transport.write(request)

    async def head(self) -> None:
        """Returns when status and headers are there. Raises Lost, Silent."""
        while not self._has_head:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """What has come of the body, some of it at least; empty at its end. Raises Lost, Silent."""
        while not self._chunks:
            if self._is_complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._unread = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
            self._heard_at = self._loop.time()  # the silence was ours
        return data

    async def whole(self) -> bytes:
        """The whole body, however long. Raises Lost, Silent."""
        parts: list[bytes] = []
        while True:
            if self._is_complete:
                parts += self._chunks
                self._chunks.clear()
                return parts[0] if len(parts) == 1 else b"".join(parts)
            if self._is_paused:
                parts.append(await self.read())
                continue
            if self._error is not None:
                raise self._error
            await self._wait()

    def done(self) -> None:
        """The exchange is over for the client. Read to its end, the connection is idle now; else it is closed."""
        self._alarm.off()
        self._is_busy = False
        if self._is_paused and self._transport is not None:
            self._transport.resume_reading()
        if self._is_complete and self._keeps_alive and self.is_open:
            self.idle_since = self._loop.time()
            self._on_idle(self)
        else:
            self.close()

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abort(self, error: Exception) -> None:
        """End the exchange; whoever reads gets this error, after what has come."""
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.is_open = False
        if self._error is None and not self._is_complete:
            self._error = error
        self._wake()
        if self._transport is not None:
            self._transport.abort()

    def _look(self) -> None:
        """The longest silence has passed since the alarm was set, not perhaps since something came."""
        now = self._loop.time()
        silent_at = self._silence_s + (now if self._is_paused else self._heard_at)
        if now < min(silent_at, self._ends_at):
            self._alarm.set(min(silent_at, self._ends_at))
        else:
            self._fail(Silent())

    # --- from the transport -------------------------------------------------------------------------------------------

    _is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a TCP or TLS transport

    def data_received(self, data: bytes) -> None:
        if not self._is_busy or self._parser is None or self._is_complete:
            self.close()  # an answer to nothing: what comes here next could be taken for that to something else
            return
        self._heard_at = self._loop.time()
        try:
            self._parser.feed_data(data)
            self._wake()
        except httptools.HttpParserUpgrade:
            self._fail(Lost("wants to speak another protocol", was_sent=True))
        except httptools.HttpParserError as error:
            self._fail(Lost("does not speak HTTP", str(error), was_sent=True))

    def eof_received(self) -> None:
        self._ended("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended("" if exc is None else str(exc) or type(exc).__name__)
        self._transport = None
        self._alarm.close()

    def _ended(self, detail: str) -> None:
        self.is_open = False
        if self._is_complete or not self._is_busy:
            return
        if self._has_head and "content-length" not in self.headers and "transfer-encoding" not in self.headers:
            self._is_complete = True  # HTTP/1.0: the end of the connection is that of the body
            self._wake()
        else:
            where = "in the middle of the answer" if self._has_head else "without an answer"
            self._fail(Lost(f"closed the connection {where}", detail, was_sent=True))

    # --- from the parser ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._keeps_alive = False  # a second answer, that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_complete:
            return
        dict.__setitem__(self.headers, name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it is the one who calls
        if self._is_complete:
            return
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200
        if self._has_head:
            self._keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if self._is_complete:
            return
        self._chunks.append(body)
        self._unread += len(body)
        if self._unread > MOST_UNREAD and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._has_head:  # 100 Continue and the like: the answer comes after it
            self.headers.clear()
            return
        self._is_complete = True


class Connections:
    """All connections to one server."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()

    async def take(self, connect_s: float) -> Connection:
        """An idle connection, or a new one. Raises Lost when there is none within `connect_s` seconds."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S
        while self._idle:
            found = self._idle.pop()
            if found.is_open and found.idle_since >= oldest:
                self._busy.add(found)
                return found
            found.close()
        try:
            async with asyncio.timeout(connect_s):
                _, made = await loop.create_connection(
                    lambda: Connection(loop, self._became_idle),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError as exc:
            raise Lost("did not accept the connection in time", was_sent=False) from exc
        except OSError as exc:
            raise Lost("", exc.strerror or str(exc) or type(exc).__name__, was_sent=False) from exc
        self._busy.add(made)
        return made

    def give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.done()

    def close(self) -> None:
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        self._busy.clear()

    def _became_idle(self, connection: Connection) -> None:
        self._idle.append(connection)
        oldest = connection.idle_since - IDLE_S
        while self._idle and (
            len(self._idle) > MOST_IDLE or self._idle[0].idle_since < oldest or not self._idle[0].is_open
        ):
            self._idle.popleft().close()

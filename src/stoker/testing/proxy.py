"""A door of our own before a server, to see what its clients do when the way to it is bad: bytes pass, or do not."""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

_PIECE = 64 * 1024


@dataclass(eq=False, slots=True)
class _Link:
    """One connection of a client, and ours to the server. `answer_left`: how many bytes of answers may still pass
    before it is cut; None: any number."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    answer_left: int | None = None

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


@dataclass(slots=True)
class Proxy:
    """A context manager: what connects to `port` of loopback is connected with the server at `target`, a URL with a
    host and a port, or `unix://PATH`. All of it happens in the test's own event loop.

    `target` may be changed: connections that are made from then on go there (`cut` ends those before). `cuts` counts
    the answers that were cut off.
    """

    target: str
    cuts: int = 0
    _links: set[_Link] = field(default_factory=set)
    _asked: tuple[bytes, int] | None = None
    _answers: asyncio.Event = field(default_factory=asyncio.Event)
    _held_word: bytes | None = None
    _is_held: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _is_open: bool = True
    _server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None  # noqa: S101 - within the context
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    # --- what a test does to it -------------------------------------------------------------------------------------

    def cut(self) -> None:
        """All connections that there are end now, as when a cable is pulled and the other end noticed."""
        for link in list(self._links):
            link.cut()

    def cut_answer_to(self, word: bytes, *, after: int) -> None:
        """The next request with `word` in it reaches the server; of what the server says upon it on that connection,
        `after` bytes reach the client, and then the connection is gone. Once."""
        self._asked = (word, after)

    def hold_answers(self) -> None:
        """Requests reach the server, and nobody hears an answer, until `let_go`."""
        self._answers.clear()

    async def hold_answer_to(self, word: bytes) -> None:
        """As `hold_answers` from the next request with `word` in it on; returns once it has reached the server."""
        self._held_word = word
        self._is_held.clear()
        await self._is_held.wait()

    def let_go(self) -> None:
        self._answers.set()

    def turn_away(self) -> None:
        """Who connects from now on finds nobody."""
        self._is_open = False

    # --- how it is done ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> "Proxy":
        self._answers.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None  # noqa: S101 - it was entered
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs it as one
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if not self._is_open:
                raise ConnectionRefusedError
            upstream, to_server = await self._connect()
        except OSError:
            writer.transport.abort()  # as if there were nobody
            return
        link = _Link(writer, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(self._requests(link, reader), self._responses(link, upstream))
        except (OSError, asyncio.CancelledError):
            pass  # one of the ends has gone, or the test is over
        finally:
            self._links.discard(link)
            link.cut()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(self.target)
        if url.scheme == "unix":
            return await asyncio.open_unix_connection(url.path)
        return await asyncio.open_connection(url.hostname, url.port)

    async def _requests(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_PIECE):
            if self._asked is not None and self._asked[0] in data:
                link.answer_left, self._asked = self._asked[1], None
            is_last = self._held_word is not None and self._held_word in data
            if is_last:
                self._held_word = None
                self._answers.clear()
            link.server.write(data)
            await link.server.drain()
            if is_last:
                self._is_held.set()
        raise ConnectionResetError("the client has gone")

    async def _responses(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_PIECE):
            await self._answers.wait()
            if link.answer_left is None:
                link.client.write(data)
                await link.client.drain()
                continue
            passed, link.answer_left = data[: link.answer_left], link.answer_left - len(data)
            if passed:
                link.client.write(passed)
                await link.client.drain()
            if link.answer_left <= 0:
                self.cuts += 1
                link.client.close()  # what has passed is read first
                raise ConnectionResetError("cut")
        raise ConnectionResetError("the server has gone")

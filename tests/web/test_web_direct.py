"""Requests that go past the framework, on the wire: whole, streamed, pipelined, broken off, wrong."""

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stoker.base.errors import InvalidInput, Refused, StokerError
from stoker.web import server, uploads
from stoker.web.direct import Cycle, Direct, DirectAnswer, DirectRequest, Failed


@dataclass
class World:
    port: int = 0
    seen: list[DirectRequest] = field(default_factory=list)
    tasks: set[object] = field(default_factory=set)
    pieces: int = 0
    problems: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def echo(self, request: DirectRequest) -> DirectAnswer:
        self.seen.append(request)
        self.tasks.add(asyncio.current_task())
        return DirectAnswer(200, {"X-Word": request.headers.get("x-word", "-")}, request.body)

    async def wait(self, request: DirectRequest) -> DirectAnswer:
        self.seen.append(request)
        self.begun.set()
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            self.ended.set()
            raise
        return DirectAnswer(200, {}, b"{}")

    async def events(self, _: DirectRequest) -> DirectAnswer:
        async def made() -> AsyncGenerator[bytes, None]:
            try:
                yield b""
                yield b"data: one\n\n"
                self.begun.set()
                await self.may_go_on.wait()
                yield b"data: two\n\n"
                self.ends.append("whole")
            except asyncio.CancelledError:
                self.ends.append("cancelled")
                raise
            finally:
                self.ended.set()

        return DirectAnswer(200, {"X-Word": "stream"}, events=made())

    async def deaf(self, _: DirectRequest) -> DirectAnswer:
        async def made() -> AsyncGenerator[bytes, None]:
            try:
                yield b"data: one\n\n"
                self.begun.set()
                with suppress(asyncio.CancelledError):
                    await self.may_go_on.wait()
                yield b"data: two\n\n"
                self.ends.append("went on")
            finally:
                self.ended.set()

        return DirectAnswer(200, {}, events=made())

    async def flood(self, _: DirectRequest) -> DirectAnswer:
        async def made() -> AsyncGenerator[bytes, None]:
            try:
                for number in range(200):
                    self.pieces = number
                    yield b"x" * 1_000_000
                self.ends.append("whole")
            finally:
                self.ended.set()

        return DirectAnswer(200, {}, events=made())

    async def wrong(self, request: DirectRequest) -> DirectAnswer:
        match request.body:
            case b"input":
                raise InvalidInput("no", param="p", hint="ask better")
            case b"failed":
                raise Failed(Refused("later", retry_after_s=1.2), {"X-Word": "known"})
        raise RuntimeError("a secret of ours")

    async def connect(self) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, path: str, body: bytes = b"", *lines: str, method: str = "POST") -> None:
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
        self.writer.write("\r\n".join(head).encode() + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        body = b""
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split(" ")[1]), headers, body

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def a_world(
    *,
    grace_s: float = 2.0,
    keepalive_s: float = 15.0,
    unread_s: float = 60.0,
    max_message_bytes: int | None = None,
) -> AsyncIterator[World]:
    world = World()

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("a page")

    async def slow(request: Request) -> PlainTextResponse:
        world.begun.set()
        await server.until_gone(request.receive)
        world.ends.append("disconnected")
        world.ended.set()
        return PlainTextResponse("to nobody")

    def problem(error: StokerError) -> None:
        world.problems.append(error.code)

    handlers = {
        "/echo": world.echo,
        "/wait": world.wait,
        "/events": world.events,
        "/wrong": world.wrong,
        "/deaf": world.deaf,
        "/flood": world.flood,
    }
    direct = Direct(handlers, max_body_bytes=100_000, on_problem=problem, keepalive_s=keepalive_s, unread_s=unread_s)
    application = server.application(
        [Route("/page", page), Route("/slow", slow), Route("/echo", page, methods=["PUT"])]
    )
    listening = server.bind("127.0.0.1", 0)
    world.port = listening.getsockname()[1]
    ready = asyncio.Event()
    serving = asyncio.create_task(
        server.serve(
            application,
            listening,
            world.stop,
            on_ready=ready.set,
            grace_s=grace_s,
            direct=direct,
            max_message_bytes=max_message_bytes,
        )
    )
    await ready.wait()
    try:
        yield world
    finally:
        world.may_go_on.set()
        world.stop.set()
        await serving


async def test_an_answer_and_the_next_on_the_same_connection() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/echo?x=1", b'{"a":1}', "X-Word: hello", "x-word: again")
        assert await client.answer() == (
            200,
            {"x-word": "hello", "content-type": "application/json", "content-length": "7"},
            b'{"a":1}',
        )
        assert (world.seen[0].path, world.seen[0].body) == ("/echo", b'{"a":1}')
        client.send("/page", method="GET")
        assert (await client.answer())[2] == b"a page"
        client.send("/echo", method="PUT")  # another method is the framework's
        assert (await client.answer())[2] == b"a page"
        client.send("/echo", b"2", "Connection: close")
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"2")
        assert await client.reader.read() == b""
        client.close()


async def test_a_body_in_chunks_and_pieces_and_one_that_is_waited_for() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await client.writer.drain()
        client.writer.write(b"2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[2] == b"abcde"
        client.writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 90000\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(b"x" * 90_000)
        assert (await client.answer())[2] == b"x" * 90_000
        client.close()


async def test_a_body_that_is_too_large_ends_the_connection() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/echo", b"x" * 200_000)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body)["error"]["message"] == (
            "the body has more than 100000 bytes (send less, or raise maxBodyBytes)"
        )
        assert (world.seen, world.problems) == ([], ["too_large"])
        client.close()


@pytest.mark.parametrize(
    ("said", "status", "headers", "message"),
    [
        (b"input", 400, {}, "no (ask better)"),
        (b"failed", 429, {"retry-after": "2", "x-word": "known"}, "later"),
        (b"else", 500, {}, "something went wrong here; the log has the details"),
    ],
)
async def test_what_goes_wrong_is_told_and_counted(
    said: bytes, status: int, headers: dict[str, str], message: str
) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/wrong", said)
        found, given, body = await client.answer()
        assert (found, json.loads(body)["error"]["message"]) == (status, message)
        assert headers.items() <= given.items()
        assert len(world.problems) == 1
        client.send("/echo", b"the connection lives")
        assert (await client.answer())[2] == b"the connection lives"
        client.close()


async def test_requests_one_after_the_other_are_answered_in_their_order() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/wait", b"1")
        client.send("/echo", b"2")
        client.send("/page", method="GET")
        client.send("/echo", b"3")
        await world.begun.wait()
        assert [request.body for request in world.seen] == [b"1"]
        world.may_go_on.set()
        assert [(await client.answer())[2] for _ in range(4)] == [b"{}", b"2", b"a page", b"3"]
        client.close()


@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_a_client_that_goes_away_cancels_its_request(is_pipelined: bool) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/wait", b"1")
        if is_pipelined:
            client.send("/echo", b"2")
        await world.begun.wait()
        client.close()
        await asyncio.wait_for(world.ended.wait(), 5)
        assert (world.ends, world.problems) == (["cancelled"], [])
        assert [request.body for request in world.seen] == [b"1"]


async def test_a_stream_piece_by_piece() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/events")
        status, headers, _ = await client.answer()
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (headers["transfer-encoding"], headers["x-word"]) == ("chunked", "stream")
        assert await client.chunk() == b"data: one\n\n"
        world.may_go_on.set()
        assert [await client.chunk(), await client.chunk()] == [b"data: two\n\n", b""]
        assert world.ends == ["whole"]
        client.send("/echo", b"next")
        assert (await client.answer())[2] == b"next"
        client.close()


async def test_a_reader_that_goes_away_ends_its_stream_at_once() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/events")
        await world.begun.wait()
        client.close()
        await asyncio.wait_for(world.ended.wait(), 5)
        assert world.ends == ["cancelled"]


async def test_a_silent_stream_has_comments() -> None:
    async with a_world(keepalive_s=0.01) as world:
        client = await world.connect()
        client.send("/events")
        await client.answer()
        assert [await client.chunk() for _ in range(3)] == [b"data: one\n\n", b": keepalive\n", b": keepalive\n"]
        client.close()


async def test_a_server_that_stops_says_so_to_those_whose_answer_has_not_begun() -> None:
    async with a_world(grace_s=0.05) as world:
        waits, streams = await world.connect(), await world.connect()
        waits.send("/wait")
        await world.begun.wait()
        world.begun.clear()
        streams.send("/events")
        await world.begun.wait()
        world.stop.set()
        status, _, body = await waits.answer()
        assert (status, json.loads(body)["error"]["message"]) == (503, "this server is stopping (ask again)")
        await streams.answer()
        assert await streams.chunk() == b"data: one\n\n"
        assert await streams.reader.read() == b""  # it breaks off: it never looks whole
        assert sorted(world.ends) == ["cancelled", "cancelled"]
        waits.close()
        streams.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /echo HTTP/1.1\r\nHost : x\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_what_two_parsers_could_read_in_two_ways_is_refused(nonsense: bytes) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(nonsense)
        said = await client.reader.read()
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.count(b"HTTP/1.1") == 1
        assert world.seen == []
        client.close()


# --- found by benchmarks/gateway/fuzz.py ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["/wait", "/slow"])
async def test_a_client_that_leaves_with_requests_without_bodies_in_line_is_noticed(first: str) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send(first, method="POST" if first == "/wait" else "GET")
        await world.begun.wait()
        client.send("/page", method="GET")
        client.send("/echo")
        client.close()
        await asyncio.wait_for(world.ended.wait(), 5)
        assert (world.ends, world.seen[1:]) == (["cancelled" if first == "/wait" else "disconnected"], [])


async def test_more_requests_than_may_wait_in_line_are_answered_all_the_same() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/wait")
        for number in range(300):
            client.send("/echo", b"%d" % number)
        await world.begun.wait()
        world.may_go_on.set()
        answers = [(await client.answer())[2] for _ in range(301)]
        assert answers == [b"{}", *(b"%d" % number for number in range(300))]
        client.close()


async def test_what_stands_behind_the_body_is_no_header() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Word: late\r\n\r\n"
        )
        status, headers, _ = await client.answer()
        assert (status, headers["x-word"]) == (200, "-")
        assert dict(world.seen[0].headers) == {"host": "x", "transfer-encoding": "chunked"}
        client.close()


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
async def test_an_upgrade_that_is_not_made_is_a_request_and_so_is_the_next(protocol: str) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/echo", b"GET /page HTTP/1.1\r\n\r\n", "Connection: Upgrade", f"Upgrade: {protocol}")
        client.send("/page", b"", "Connection: Upgrade", "Upgrade: h2c", method="GET")
        client.send("/echo", b"3")
        answers = [(await client.answer())[2] for _ in range(3)]
        assert answers == [b"GET /page HTTP/1.1\r\n\r\n", b"a page", b"3"]
        client.close()


async def test_a_tunnel_is_refused() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")
        client.close()


async def test_a_url_may_be_whole() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("http://x/echo?a=b", b"1")
        assert (await client.answer())[2] == b"1"
        assert world.seen[0].path == "/echo"
        client.close()


@pytest.mark.parametrize(
    ("is_first", "said"),
    [(True, b""), (True, b"\r\n"), (True, b"POST /echo HTTP/1.1\r\nHos"), (False, b"\r\n"), (False, b"POST /e")],
)
async def test_a_connection_whose_head_does_not_come_is_closed(
    monkeypatch: pytest.MonkeyPatch, is_first: bool, said: bytes
) -> None:
    monkeypatch.setattr("stoker.web.uploads.HEAD_S", 0.05)
    async with a_world() as world:
        client = await world.connect()
        if not is_first:
            client.send("/echo", b"1")
            await client.answer()
        client.writer.write(said)
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
        client.close()


async def test_a_head_that_trickles_in_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.web.uploads.HEAD_S", 0.05)
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(b"POST /echo HTTP/1.1\r\nX: ")
        closed = asyncio.create_task(client.reader.read())
        while not closed.done():
            client.writer.write(b"x")
            await asyncio.sleep(0.01)
        await asyncio.gather(closed, return_exceptions=True)
        assert world.seen == []
        client.close()


@pytest.mark.parametrize(("way", "status"), [(b"POST /echo HTTP/1.1\r\nX: ", b"431 Requ"), (b"POST /", b"414 Requ")])
async def test_a_head_that_does_not_end_is_refused(way: bytes, status: bytes) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(way)
        answer = asyncio.create_task(client.reader.read(17))
        sent = 0
        while not answer.done() and sent < 50_000_000:
            client.writer.write(b"x" * 50_000)
            sent += 50_000
            await asyncio.sleep(0)
        said = await asyncio.gather(answer, return_exceptions=True)
        assert said[0] == b"HTTP/1.1 " + status or isinstance(said[0], ConnectionResetError)
        assert (sent < 50_000_000, world.seen) == (True, [])
        client.close()


# It looks at all objects that there are, torch's among them where another test has loaded it.
@pytest.mark.filterwarnings("ignore:.*reduce_op:FutureWarning")
async def test_what_has_ended_is_freed_without_the_garbage_collector() -> None:
    """A body may be large: a thousand that wait for the collector are the memory of the process."""
    async with a_world() as world:
        world.may_go_on.set()
        client = await world.connect()
        gc.collect()
        gc.disable()
        try:
            for path in ("/echo", "/events", "/wrong"):
                client.send(path, b"input")
                if path == "/events":
                    await client.reader.readuntil(b"0\r\n\r\n")
                else:
                    await client.answer()
            client.send("/page", method="GET")  # whoever is answered last is still known to the connection
            await client.answer()
            assert [each for each in gc.get_objects() if isinstance(each, Cycle)] == []
        finally:
            gc.enable()
            client.close()


async def test_requests_of_a_connection_share_one_task_and_an_idle_one_does_not_hold_up_the_end() -> None:
    async with a_world(grace_s=60.0) as world:
        client = await world.connect()
        for _ in range(3):
            client.send("/echo", b"1")
            assert (await client.answer())[0] == 200
        assert len(world.tasks) == 1
        world.stop.set()
        assert await client.reader.read() == b""
        client.close()


async def test_a_connection_that_becomes_a_websocket_leaves_nothing_of_its_requests_behind() -> None:
    async with a_world(max_message_bytes=1000) as world:
        client = await world.connect()
        client.send("/echo", b"1")
        assert (await client.answer())[2] == b"1"
        [task] = world.tasks
        assert isinstance(task, asyncio.Task)
        assert not task.done()
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 13")
        client.send("/page", b"", *upgrade, method="GET")
        assert await client.reader.readuntil(b" ") == b"HTTP/1.1 "
        await asyncio.wait({task})
        assert task.cancelled()
        client.close()


async def test_events_end_with_their_client_also_where_the_cancellation_is_swallowed() -> None:
    async with a_world() as world:
        client = await world.connect()
        client.send("/deaf")
        await world.begun.wait()
        client.close()
        await world.ended.wait()
        assert world.ends == []


async def said_to(*pieces: bytes) -> tuple[World, bytes]:
    """All that the server says to these bytes until it closes the connection, which the last piece lets it do."""
    async with a_world() as world:
        client = await world.connect()
        for piece in pieces:
            client.writer.write(piece)
            await asyncio.sleep(0)
        said = await asyncio.wait_for(client.reader.read(), 20)
        client.close()
    return world, said


def head(*lines: bytes, path: bytes = b"/echo") -> bytes:
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *lines, b"", b""])


def code_in(said: bytes) -> tuple[bytes, str, str]:
    error = json.loads(said.partition(b"\r\n\r\n")[2])["error"]
    return said[9:12], error["code"], error["message"]


async def test_the_longest_url_is_taken_and_a_longer_one_is_refused_with_what_would_be_right() -> None:
    most = b"/echo?" + b"x" * (uploads.MOST_URL_BYTES - 6)
    world, said = await said_to(head(b"Content-Length: 2", path=most) + b"{}")
    assert (said[:15], len(world.seen)) == (b"HTTP/1.1 200 OK", 1)
    world, said = await said_to(head(b"Content-Length: 2", path=most + b"x") + b"{}")
    assert code_in(said) == (
        b"414",
        "url_too_long",
        "the URL has more than 8192 bytes (put what is long into the body)",
    )
    assert (world.seen, world.problems) == ([], ["url_too_long"])


async def test_as_many_headers_as_there_may_be_are_taken_and_one_more_is_refused() -> None:
    beside = 3  # Host, Connection, Content-Length
    lines = [b"X-%d: y" % number for number in range(uploads.MOST_HEADERS - beside)]
    world, said = await said_to(head(b"Content-Length: 2", *lines) + b"{}")
    assert (said[:15], len(world.seen)) == (b"HTTP/1.1 200 OK", 1)
    world, said = await said_to(head(b"Content-Length: 2", *lines, b"X: y") + b"{}")
    assert code_in(said) == (
        b"431",
        "head_too_large",
        "the request has more than 128 headers, or more than 65536 bytes of them (send fewer)",
    )
    assert (world.seen, world.problems) == ([], ["head_too_large"])


async def test_headers_as_long_as_they_may_be_are_taken_and_a_byte_more_is_refused() -> None:
    beside = len(b"HostxConnectioncloseContent-Length2X")
    longest = b"X: " + b"y" * (uploads.MOST_HEAD_BYTES - beside)
    world, said = await said_to(head(b"Content-Length: 2", longest) + b"{}")
    assert (said[:15], len(world.seen)) == (b"HTTP/1.1 200 OK", 1)
    world, said = await said_to(head(b"Content-Length: 2", longest + b"y") + b"{}")
    assert code_in(said)[:2] == (b"431", "head_too_large")
    assert world.seen == []


async def test_small_chunks_are_taken() -> None:
    body = b'{"a": "' + b"x" * 3000 + b'"}'
    chunked = [b"1\r\n" + body[place : place + 1] + b"\r\n" for place in range(len(body))]
    world, said = await said_to(head(b"Transfer-Encoding: chunked"), *chunked, b"0\r\n\r\n")
    assert said[:15] == b"HTTP/1.1 200 OK"
    assert [request.body for request in world.seen] == [body]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"2\r\n{}\r\n0\r\n", b"X-Trailer: " + b"y" * 1000 + b"\r\n"),
        (b"2;", b"name=value;" * 100),
        (b"0" * 15, b"0" * 1000),
    ],
    ids=["trailers", "an extension", "zeros"],
)
async def test_what_stands_around_a_body_is_bounded(begin: bytes, more: bytes) -> None:
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(head(b"Transfer-Encoding: chunked") + begin)
        said = asyncio.create_task(client.reader.read())
        sent = 0
        while not said.done() and sent < 10_000_000:
            client.writer.write(more)
            sent += len(more)
            await asyncio.sleep(0)
        answer = (await asyncio.gather(said, return_exceptions=True))[0]
        client.close()
    assert sent < 10_000_000
    assert world.seen == []
    if not isinstance(answer, ConnectionError):  # it may be reset before it has read what was said
        assert answer[9:12] == b"400"


async def test_nothing_is_said_in_the_middle_of_an_answer() -> None:
    """A second request behind one whose events still come: its head is too large, so the connection ends."""
    async with a_world() as world:
        client = await world.connect()
        client.writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        await world.begun.wait()
        client.writer.write(head(b"X: " + b"y" * (uploads.MOST_HEAD_BYTES + 1)))
        said = await asyncio.gather(client.reader.read(), return_exceptions=True)
        client.close()
    assert isinstance(said[0], ConnectionError) or b" 431 " not in said[0]
    assert world.ends == ["cancelled"]


async def test_no_more_is_made_for_a_client_than_it_reads_and_one_that_reads_nothing_is_cut_off() -> None:
    async with a_world(unread_s=0.05) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=1000)
        client = Client(reader, writer)
        client.send("/flood")
        await reader.readexactly(1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
        await world.ended.wait()
        assert world.ends == []
        assert world.pieces < 100
        writer.transport.abort()


async def test_a_server_that_stops_does_not_wait_for_a_client_that_reads_nothing() -> None:
    async with a_world(grace_s=0.05) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=1000)
        Client(reader, writer).send("/flood")
        await reader.readexactly(1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
        world.stop.set()
        await world.ended.wait()
        assert world.ends == []
    # `serve` has returned, or the block would not have ended.
    writer.transport.abort()


async def test_a_stream_for_a_client_of_http_1_0_is_what_it_can_read() -> None:
    async with a_world() as world:
        world.may_go_on.set()
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(b"POST /events HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"data: one\n\ndata: two\n\n"
        writer.close()

"""Connections to one server: kept, given up, and never used again after anything that is not a whole answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stoker.base import errors
from stoker.web import connections
from stoker.web.client import HttpClient, Timeouts

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of its answers; `None` closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.closed.set()


@asynccontextmanager
async def serving(*answers: bytes | None) -> AsyncIterator[tuple[Server, HttpClient]]:
    server = Server(*answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/base"
    try:
        async with HttpClient(url, key="k", timeouts=Timeouts(read_s=5)) as client:
            yield server, client
        await server.closed.wait()
    finally:
        listening.close()


async def test_a_request_on_the_wire() -> None:
    async with serving(OK) as (server, client):
        await client.request("GET", "/a b?x=1", params=None, headers={"X-Y": "z"})
        [head] = server.requests
        lines = head.decode().split("\r\n")
        assert lines[0] == "GET /base/a%20b?x=1 HTTP/1.1"
        assert lines[1].startswith("Host: 127.0.0.1:")
        assert lines[2:] == ["Accept: */*", "Authorization: Bearer k", "X-Y: z", "", ""]


async def test_one_connection_serves_many_requests() -> None:
    async with serving(OK, OK, OK) as (server, client):
        for _ in range(3):
            assert (await client.request("GET", "/")).body == b"ok"
        assert server.connections == 1


async def test_requests_at_once_have_a_connection_each() -> None:
    async with serving(*[OK] * 4) as (server, client):
        await asyncio.gather(*(client.request("GET", "/") for _ in range(4)))
        assert server.connections == 4


@pytest.mark.parametrize(
    "last",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nyours",  # an answer that nobody asked for
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(last: bytes) -> None:
    async with serving(last, OK) as (server, client):
        assert (await client.request("GET", "/")).body == b"ok"
        await asyncio.wait_for(server.closed.wait(), 5)
        assert (await client.request("GET", "/")).body == b"ok"
        assert server.connections == 2


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", -1.0)
    async with serving(OK, OK) as (server, client):
        await client.request("GET", "/")
        await client.request("GET", "/")
        assert server.connections == 2


async def test_a_request_is_sent_once_even_when_its_answer_never_comes() -> None:
    async with serving(OK, None) as (server, client):
        await client.request("GET", "/")
        with pytest.raises(errors.Unavailable, match="closed the connection without an answer") as caught:
            await client.request("POST", "/", body={})
        assert not isinstance(caught.value, errors.Unreachable)
        assert len(server.requests) == 2


async def test_an_interim_answer_is_passed_over() -> None:
    async with serving(b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + OK) as (_, client):
        answer = await client.request("GET", "/")
        assert (answer.status, answer.body, "x-early" in answer.headers) == (200, b"ok", False)


@pytest.mark.parametrize(
    ("nonsense", "what"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP: "),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "does not speak HTTP: "),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "wants to speak another protocol",
        ),
    ],
)
async def test_what_is_no_answer_of_http(nonsense: bytes, what: str) -> None:
    async with serving(nonsense) as (_, client):
        with pytest.raises(errors.Unavailable, match=f"^{client.base_url} {what}"):
            await client.request("GET", "/")


async def test_more_than_anybody_reads_waits_at_the_server() -> None:
    size = 3 * connections.MOST_UNREAD
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % (size + 8)
    long = serving(head + b"data: " + b"x" * size + b"\n\n")
    async with long as (_, client), client.stream("GET", "/") as answer:
        assert [len(event) async for event in answer.events] == [size]
    async with serving(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"y" * size, OK) as (server, client):
        assert (await client.request("GET", "/")).body == b"y" * size
        assert (await client.request("GET", "/")).body == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "ü"])
async def test_what_cannot_stand_in_a_header_is_not_sent(value: str) -> None:
    async with HttpClient("http://127.0.0.1:9") as client:
        with pytest.raises(errors.InvalidInput, match="X-Request-Id holds what no header can hold"):
            await client.request("GET", "/", headers={"X-Request-Id": value})


async def test_a_stream_that_is_closed_has_nothing_to_do_with_what_its_connection_does_next() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-which: first\r\n"
    second = b"HTTP/1.1 404 No\r\nx-which: second\r\ncontent-length: 2\r\n\r\nno"
    async with serving(head + b"content-length: 11\r\n\r\ndata: one\n\n", second, OK) as (server, client):
        stream = await client.open("GET", "/")
        assert [event async for event in stream.events] == [b"one"]
        stream.close()
        assert (await client.request("GET", "/")).status == 404
        assert (stream.status, stream.headers["x-which"]) == (200, "first")
        stream.abort(errors.TimedOut("too late"))
        assert (await client.request("GET", "/")).body == b"ok"
        assert server.connections == 1


class Transport(asyncio.Transport):
    """Notes what a connection asks of it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def write(self, data: object) -> None:
        self.said.append("write")

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def abort(self) -> None:
        self.said.append("abort")


def a_connection() -> tuple[connections.Connection, Transport, list[connections.Connection]]:
    idle: list[connections.Connection] = []
    made, transport = connections.Connection(asyncio.get_running_loop(), idle.append), Transport()
    made.connection_made(transport)
    return made, transport, idle


async def test_a_server_that_sends_more_than_is_read_is_not_read_until_somebody_does() -> None:
    connection, transport, _ = a_connection()
    connection.exchange(b"GET / HTTP/1.1\r\n\r\n", 60.0)
    most = connections.MOST_UNREAD
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * most) + b"x" * most)
    assert transport.said == ["write"]
    connection.data_received(b"x")
    assert transport.said == ["write", "pause"]
    assert await connection.read() == b"x" * (most + 1)
    assert transport.said == ["write", "pause", "resume"]
    connection.close()


async def test_an_idle_connection_on_which_something_comes_is_closed_not_taken_for_an_answer() -> None:
    connection, transport, idle = a_connection()
    connection.exchange(b"GET / HTTP/1.1\r\n\r\n", 60.0)
    connection.data_received(OK)
    assert await connection.whole() == b"ok"
    connection.done()
    assert (idle, connection.is_open) == ([connection], True)
    connection.data_received(OK)  # nobody asked
    assert (transport.said, connection.is_open) == (["write", "abort"], False)

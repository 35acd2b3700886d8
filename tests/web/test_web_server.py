"""The server loop, real sockets, and what every application of ours has."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stoker.base import errors
from stoker.web import sse, uploads
from stoker.web.client import HttpClient
from stoker.web.server import MOST_DEPTH, application, bind, json_object, read_json, serve, url_of, while_connected

Handler = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def served(handler: Handler, *, grace_s: float = 0.1, **options: Any) -> AsyncIterator[HttpClient]:
    listening = bind("127.0.0.1", 0)
    stop, ready = asyncio.Event(), asyncio.Event()
    app = application([Route("/", handler, methods=["GET", "POST"])], **options)
    url = url_of(listening)
    serving = asyncio.create_task(serve(app, listening, stop, on_ready=ready.set, grace_s=grace_s))
    await ready.wait()
    try:
        async with HttpClient(url) as client:
            yield client
    finally:
        stop.set()
        await serving


# --- sockets ----------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_with_a_way_out() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.PortTaken, match=f"cannot listen on 127.0.0.1:{port}: ") as caught:
            bind("127.0.0.1", port)
    assert caught.value.hint == "choose another port with --port N, or 0 for any"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(errors.InvalidInput, match=f"cannot listen on host '{host}'"):
        bind(host, 0)


def test_urls_of_both_families() -> None:
    with bind("127.0.0.1", 0) as four:
        assert url_of(four) == f"http://127.0.0.1:{four.getsockname()[1]}"
    if socket.has_ipv6:
        try:
            six = bind("::1", 0)
        except errors.StokerError:
            return  # a machine without IPv6 on loopback
        with six:
            assert url_of(six) == f"http://[::1]:{six.getsockname()[1]}"


async def test_the_second_part_of_an_answer_does_not_wait_for_the_first_to_be_acknowledged() -> None:
    """Head and body are two writes; Nagle's algorithm would hold the body back for 40 ms."""
    delays_are_off: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepting = writer.get_extra_info("socket")
        delays_are_off.set_result(bool(accepting.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        writer.close()

    async with await asyncio.start_server(accepted, sock=bind("127.0.0.1", 0)) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await delays_are_off is True
        writer.close()
        await writer.wait_closed()


# --- problems ---------------------------------------------------------------------------------------------------------


async def test_errors_have_openais_shape_and_are_counted() -> None:
    seen: list[str] = []

    async def refuse(_: Request) -> Response:
        raise errors.Refused("too many requests", retry_after_s=1.2, hint="ask later")

    async with served(refuse, on_problem=lambda error: seen.append(error.code)) as client:
        answer = await client.request("GET", "/")
    assert answer.status == 429
    assert answer.headers["retry-after"] == "2"  # never too early
    error = {"message": "too many requests (ask later)", "type": "rate_limit_error", "code": "rate_limited"}
    assert answer.json() == {"error": {**error, "param": None}}
    assert seen == ["rate_limited"]


async def test_what_nobody_expected_is_an_error_without_details_and_is_counted() -> None:
    seen: list[str] = []

    async def fail(_: Request) -> Response:
        raise ZeroDivisionError("secret")

    async with served(fail, on_problem=lambda error: seen.append(error.code)) as client:
        answer = await client.request("GET", "/")
    assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.body.decode()
    assert seen == ["internal_error"]


async def test_half_a_surrogate_pair_that_a_client_sent_does_not_spoil_the_answer() -> None:
    async def fail(_: Request) -> Response:
        raise errors.InvalidInput("there is no '\ud800'", param="\udc00")

    async with served(fail) as client:
        answer = await client.request("GET", "/")
    error = answer.json()["error"]
    assert (answer.status, error["message"], error["param"]) == (400, "there is no '?'", "?")


async def test_headers_that_the_route_has_set_are_on_its_error() -> None:
    async def fail(request: Request) -> Response:
        request.state.headers = {"X-Request-Id": "r1"}
        raise errors.InvalidInput("no", param="n")

    async with served(fail) as client:
        answer = await client.request("GET", "/")
    assert (answer.status, answer.headers["x-request-id"], answer.json()["error"]["param"]) == (400, "r1", "n")


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", errors.InvalidInput, "the body is not JSON: "),
        (b"\xff", errors.InvalidInput, "the body is not JSON: "),
        (b"[" * 100_000, errors.InvalidInput, "the body is not JSON: "),
        (b'"text"', errors.InvalidInput, "the body is a JSON string; it has to be an object"),
        (b" " * 200_001, errors.TooLarge, "the body has more than 200000 bytes"),
    ],
)
async def test_a_body_that_is_no_object_is_refused(body: bytes, kind: type[Exception], message: str) -> None:
    async def read(request: Request) -> Response:
        return JSONResponse(await read_json(request, max_bytes=200_000))

    async with served(read) as client:
        with pytest.raises(kind) as caught:
            (await client.request("POST", "/", body=body)).raise_for_error()
        assert str(caught.value).startswith(message)
        assert await client.post_json("/", {"a": 1}) == {"a": 1}  # the connection is as good as before


# --- a client that goes away ------------------------------------------------------------------------------------------


class Work:
    def __init__(self, *, tidies_for_s: float = 0.0) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()
        self._tidies_for_s = tidies_for_s

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self._tidies_for_s)
            self.cancelled.set()
            raise
        return "never"


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_a_body_may_be_nested_so_deep_and_not_deeper() -> None:
    assert list(json_object(nested(MOST_DEPTH))) == ["a"]
    for depth in (MOST_DEPTH + 1, 900, 100_000):
        with pytest.raises(errors.InvalidInput) as caught:
            json_object(nested(depth))
        assert caught.value.code == "invalid_json"
    with pytest.raises(errors.InvalidInput) as caught:
        json_object(nested(MOST_DEPTH + 1))
    assert caught.value.message == "the body is nested more than 128 levels deep; it has to be flatter"


def test_many_brackets_are_no_depth() -> None:
    flat = b'{"a": [' + b",".join([b"{}"] * 1000) + b'], "b": "' + b"[" * 1000 + b'"}'
    assert len(json_object(flat)["a"]) == 1000


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    work = Work()

    async def handler(request: Request) -> Response:
        return Response(await while_connected(request, work()))

    async with served(handler) as client:
        asking = asyncio.create_task(client.request("GET", "/"))
        async with asyncio.timeout(20):
            await work.begun.wait()
            asking.cancel()
            await work.cancelled.wait()
        await asyncio.wait({asking})


async def test_work_that_outlives_the_grace_is_over_when_the_server_is() -> None:
    work = Work(tidies_for_s=0.05)

    async def handler(request: Request) -> Response:
        return Response(await while_connected(request, work()))

    listening, stop, ready = bind("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    url = url_of(listening)
    app = application([Route("/", handler)])
    serving = asyncio.create_task(serve(app, listening, stop, on_ready=ready.set, grace_s=0.05))
    await ready.wait()
    async with HttpClient(url) as client:
        asking = asyncio.create_task(client.request("GET", "/"))
        await work.begun.wait()
        stop.set()
        await serving
        assert work.cancelled.is_set()
        answer = await asking
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["message"] == "this server is stopping (ask again)"


class Gone(Request):
    """A request whose client leaves when `leave` is set."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()

        async def receive() -> Any:
            await self.leave.wait()
            return {"type": "http.disconnect"}

        super().__init__({"type": "http"}, receive)


async def test_a_result_that_nobody_can_take_is_given_back() -> None:
    dropped: list[str] = []

    async def drop(result: str) -> None:
        dropped.append(result)

    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):  # it was ready at that very moment
            await asyncio.Event().wait()
        return "opened"

    request = Gone()
    request.leave.set()
    with pytest.raises(ClientDisconnect):
        await while_connected(request, stubborn(), unwanted=drop)
    assert dropped == ["opened"]

    waiting = asyncio.create_task(while_connected(Gone(), stubborn(), unwanted=drop))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert dropped == ["opened", "opened"]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system cannot end such connections by itself")
async def test_a_client_that_reads_nothing_is_cut_off_on_every_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UNREAD_S", 0.2)
    ended = asyncio.Event()

    async def flood(_: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                for _ in range(200):
                    yield b"x" * 1_000_000
            finally:
                ended.set()

        return sse.EventStream(events())

    async with served(flood) as client:
        host, _, port = client.base_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1000)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
        await ended.wait()
        writer.transport.abort()

"""The client: what the other side says and fails to say, as our errors."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stoker.base import errors
from stoker.web.client import Answer, HttpClient, Timeouts, error_of


@asynccontextmanager
async def saying(*said: bytes, hangs: bool = False) -> AsyncIterator[str]:
    """A server that answers each connection with these bytes, and then closes it."""
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in said:
            writer.write(part)
            await writer.drain()
        if hangs:
            await ended.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


def http(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"content-length: %d" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + b"\r\n".join([length, *headers]) + b"\r\n\r\n" + body


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with HttpClient(url) as client:
        with pytest.raises(errors.Unreachable, match=f"cannot reach {url}"):
            await client.request("GET", "/")
        with pytest.raises(errors.Unreachable, match=f"cannot reach {url}"):
            async with client.stream("GET", "/"):
                pass


async def test_the_address_of_a_server_with_a_name_is_for_the_log_alone() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with HttpClient(url, name="replica r1") as client:
        with pytest.raises(errors.Unreachable) as unreachable:
            await client.request("GET", "/")
    assert unreachable.value.message == "cannot reach replica r1"
    assert unreachable.value.in_log.startswith(f"cannot reach replica r1 ({url}: ")

    async with saying(hangs=True) as url, HttpClient(url, name="r1", timeouts=Timeouts(read_s=0.05)) as client:
        with pytest.raises(errors.TimedOut) as silent:
            await client.request("GET", "/")
    assert (silent.value.message, silent.value.in_log) == (
        "r1 did not answer in time",
        f"r1 did not answer in time ({url})",
    )
    async with saying() as url, HttpClient(url, name="r1") as client:
        with pytest.raises(errors.Unavailable) as broken_off:
            await client.request("GET", "/")
    assert broken_off.value.message == "r1 closed the connection without an answer"
    assert broken_off.value.in_log.startswith(f"r1 closed the connection without an answer ({url}")
    async with saying(http(b"nonsense", b"content-encoding: gzip")) as url, HttpClient(url, name="r1") as client:
        with pytest.raises(errors.UpstreamError) as damaged:
            await client.request("GET", "/")
    assert damaged.value.message == "r1 sent bytes that cannot be decompressed"
    assert damaged.value.detail == url


async def test_a_host_that_no_name_leads_to_is_named_in_the_log_alone() -> None:
    async with HttpClient("http://private.invalid", name="r1") as client:
        with pytest.raises(errors.Unreachable) as caught:
            await client.request("GET", "/")
    assert caught.value.message == "cannot reach r1"
    assert "http://private.invalid" in caught.value.in_log


async def test_a_server_that_says_nothing() -> None:
    async with saying(hangs=True) as url, HttpClient(url, timeouts=Timeouts(read_s=0.05)) as client:
        with pytest.raises(errors.TimedOut, match="did not answer in time"):
            await client.request("GET", "/")


async def test_a_server_that_closes_without_a_word() -> None:
    async with saying() as url, HttpClient(url) as client:
        with pytest.raises(errors.Unavailable):
            await client.request("GET", "/")


async def test_a_body_that_ends_with_its_connection() -> None:
    async with saying(b"HTTP/1.0 200 OK\r\n\r\nto the end") as url, HttpClient(url) as client:
        assert (await client.request("GET", "/")).body == b"to the end"


async def test_an_answer_that_cannot_be_decompressed() -> None:
    async with saying(http(b"nonsense", b"content-encoding: gzip")) as url, HttpClient(url) as client:
        with pytest.raises(errors.UpstreamError, match="cannot be decompressed"):
            await client.request("GET", "/")


async def test_events_may_be_compressed() -> None:
    body = gzip.compress(b"data: one\n\ndata: two\n\n")
    whole = http(body, b"content-type: text/event-stream", b"content-encoding: gzip")
    async with saying(whole) as url, HttpClient(url) as client, client.stream("GET", "/") as answer:
        assert [event async for event in answer.events] == [b"one", b"two"]


async def test_a_stream_that_breaks_off() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    async with saying(head, b"b\r\ndata: one\n\n\r\n") as url, HttpClient(url) as client:
        seen = []
        with pytest.raises(errors.Unavailable, match=f"^{url} closed the connection in the middle"):  # noqa: PT012
            async with client.stream("GET", "/") as answer:
                async for event in answer.events:
                    seen.append(event)
        assert seen == [b"one"]


async def test_events_are_closed_with_the_block() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    async with saying(head, b"b\r\ndata: one\n\n\r\n", hangs=True) as url, HttpClient(url) as client:
        async with client.stream("GET", "/") as answer:
            await anext(answer.events)
        assert await anext(answer.events, "closed") == "closed"  # type: ignore[arg-type]


async def test_an_answer_that_is_not_json() -> None:
    async with saying(http(b"<html>")) as url, HttpClient(url) as client:
        with pytest.raises(errors.UpstreamError, match=r"the answer \(status 200\) is not JSON"):
            await client.get_json("/")


@pytest.mark.parametrize("key", ["sk-secret\n", "sk secret\r\nX: y", " sk-secret", "sk-sécret"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        HttpClient("http://127.0.0.1:1", key=key)
    assert "secret" not in str(caught.value)
    assert "http://127.0.0.1:1" in str(caught.value)


def test_a_url_that_is_none() -> None:
    with pytest.raises(errors.InvalidInput, match="http://host:port is not a URL"):
        HttpClient("http://host:port")


async def test_however_long_an_answer_may_take_a_silent_host_is_given_up_soon() -> None:
    with socket.socket() as silent:  # the kernel accepts for it, and nobody says anything of TLS
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with HttpClient(url, timeouts=Timeouts(connect_s=0.05, read_s=600)) as client:
            with pytest.raises(errors.Unreachable, match="did not accept the connection in time"):
                await client.request("GET", "/", timeout_s=600)


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, body if isinstance(body, bytes) else json.dumps({"error": body}).encode())


@pytest.mark.parametrize(
    ("status", "kind", "own_status"),
    [
        (400, errors.InvalidInput, 400),
        (401, errors.Unauthenticated, 401),
        (403, errors.NotPermitted, 403),
        (404, errors.NotFound, 404),
        (409, errors.Conflict, 409),
        (413, errors.TooLarge, 413),
        (422, errors.InvalidInput, 422),
        (429, errors.Refused, 429),
        (500, errors.UpstreamError, 502),
        (503, errors.Unavailable, 503),
        (504, errors.TimedOut, 504),
    ],
)
def test_an_error_keeps_its_words(status: int, kind: type[errors.StokerError], own_status: int) -> None:
    error = error_of(answer(status, {"message": "no", "code": "why", "param": "n"}))
    assert type(error) is kind
    assert (error.message, error.code, error.status) == ("no", "why", own_status)
    if isinstance(error, errors.InvalidInput):
        assert error.param == "n"


@pytest.mark.parametrize("body", [b"<html>busy</html>", b'{"error": "busy"}', b"[]", b'{"error": {"text": "busy"}}'])
def test_an_error_of_another_shape_is_quoted(body: bytes) -> None:
    error = error_of(answer(502, body))
    assert isinstance(error, errors.UpstreamError)
    assert error.message == f"the server answered with status 502: {body.decode()}"
    assert error.upstream_status == 502

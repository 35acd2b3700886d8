"""/metrics of a process that serves nothing else."""

import asyncio

import pytest

from stoker.base.errors import PortTaken
from stoker.telemetry.metrics import CONTENT_TYPE, Metrics


async def ask(url: str, line: bytes) -> tuple[bytes, bytes]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(line + b"\r\nHost: x\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def test_it_answers_metrics_and_nothing_else() -> None:
    metrics = Metrics()
    metrics.counter("stoker_requests_total", "Requests.").inc(2)
    async with metrics.served(0, "127.0.0.1") as url:
        assert url is not None
        head, body = await ask(url, b"GET /metrics HTTP/1.1")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"Content-Type: {CONTENT_TYPE}".encode() in head
        assert b"stoker_requests_total 2.0\n" in body
        assert (await ask(url, b"GET / HTTP/1.1"))[0].startswith(b"HTTP/1.1 404 ")
        assert (await ask(url, b"POST /metrics HTTP/1.1"))[0].startswith(b"HTTP/1.1 404 ")
        with pytest.raises(PortTaken, match="for /metrics"):
            async with metrics.served(int(url.rpartition(":")[2]), "127.0.0.1"):
                pass


async def test_without_a_port_it_does_not_listen() -> None:
    async with Metrics().served(None, "127.0.0.1") as url:
        assert url is None

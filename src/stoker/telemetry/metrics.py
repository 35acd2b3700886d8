"""Prometheus metrics: one registry a process, made by whoever owns the process and handed to what counts.

No module-level metric: two gateways in one test would share it. Labels have few values: a model, a status, a kind of
error; never a tenant, a key or a request.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.parser import text_string_to_metric_families

from stoker.base.errors import PortTaken

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. From a token of the embedded engine (a millisecond) to the longest answer; each step at most 2.5 times.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_HEAD_BYTES, _PATIENCE_S = 16 * 1024, 5.0  # what a question may be long, and may take


class Made(NamedTuple):
    """One metric of a registry, for who describes it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help_text: str


class Metrics:
    """The registry of one process. Names are given in full; counters lose and regain their `_total`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.made: list[Made] = []
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        self.made.append(Made(name, "counter", tuple(labels), help_text))
        return Counter(name, help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        self.made.append(Made(name, "gauge", tuple(labels), help_text))
        return Gauge(name, help_text, labels, registry=self.registry)

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS
    ) -> Histogram:
        self.made.append(Made(name, "histogram", tuple(labels), help_text))
        return Histogram(name, help_text, labels, registry=self.registry, buckets=buckets)

    def text(self) -> bytes:
        """The exposition format, for `GET /metrics` with CONTENT_TYPE."""
        return generate_latest(self.registry)

    @contextlib.asynccontextmanager
    async def served(self, port: int | None, host: str) -> AsyncIterator[str | None]:
        """Within the block a process that serves nothing else answers `GET /metrics`, one connection an answer; with
        None it does not. Gives where, as `http://127.0.0.1:9100`; port 0 takes a free one. Raises PortTaken."""
        if port is None:
            yield None
            return
        try:
            server = await asyncio.start_server(self._answer, host, port, limit=_HEAD_BYTES)
        except OSError as error:
            raise _taken(host, port, error) from error
        try:
            yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    def serve_in_thread(self, host: str, port: int) -> tuple[Callable[[], None], str]:
        """For a process without a loop: answers until the first of the pair is called; the second is where. Raises
        PortTaken."""
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise _taken(host, port, error) from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop, f"http://{host}:{server.server_port}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                is_ours = head.startswith((b"GET /metrics ", b"GET /metrics?"))
                status, body = (b"200 OK", self.text()) if is_ours else (b"404 Not Found", b"only GET /metrics\n")
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                    % (status, CONTENT_TYPE.encode(), len(body), body)
                )
                await writer.drain()
        writer.close()


def _taken(host: str, port: int, error: OSError) -> PortTaken:
    return PortTaken(
        f"cannot listen on {host}:{port} for /metrics: {error.strerror}", hint="choose another port, or 0 for any"
    )


def read_by(text: str, label: str, *names: str) -> dict[str, dict[str, float]]:
    """For each named sample in an exposition, the sum for each value of one label; a name that is not there has none.

    Raises ValueError when `text` is not an exposition.
    """
    sums: dict[str, dict[str, float]] = {name: {} for name in names}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in sums and label in sample.labels:
                found, value = sums[sample.name], sample.labels[label]
                found[value] = found.get(value, 0.0) + sample.value
    return sums


def read(text: str, *names: str) -> dict[str, float]:
    """The sum over all labels of each named sample in an exposition; a name that is not there is left out.

    Raises ValueError when `text` is not an exposition.
    """
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums

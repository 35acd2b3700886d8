"""Prometheus metrics: one registry a process, made by whoever owns the process and handed to what counts.

No module-level metric: two gateways in one test would share it. Labels have few values: a model, a status, a kind of
error; never a tenant, a key or a request.
"""

import asyncio
import contextlib
import itertools
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
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
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric, Sample
from prometheus_client.parser import text_string_to_metric_families

from stoker.base.errors import PortTaken

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. From a token of the embedded engine (a millisecond) to the longest answer; each step at most 2.5 times.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LE = (*map(str, LATENCY_BUCKETS), "+Inf")

_HEAD_BYTES, _PATIENCE_S = 16 * 1024, 5.0  # what a question may be long, and may take


class Made(NamedTuple):
    """One metric of a registry, for who describes it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help_text: str


class Sum:
    """A counter that costs its owner an addition: no lock, so one thread adds to `value`, and any may read it."""

    __slots__ = ("began", "value")

    def __init__(self) -> None:
        self.value, self.began = 0, time.time()


class Spread:
    """A histogram over LATENCY_BUCKETS, as cheap and for one thread as a Sum is."""

    __slots__ = ("began", "counts", "seconds")

    def __init__(self) -> None:
        self.counts, self.seconds, self.began = [0] * len(_LE), 0.0, time.time()

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1


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

    def sums(
        self, name: str, help_text: str, labels: Sequence[str], parts: int = 1
    ) -> defaultdict[tuple[str, ...], Sum]:
        """A counter for where each microsecond counts: a Sum by the values of its labels, made when it is first asked
        for. It counts in whole parts, of which `parts` are one of what is shown."""
        self.made.append(Made(name, "counter", tuple(labels), help_text))
        sums = defaultdict[tuple[str, ...], Sum](Sum)
        self.registry.register(_Sums(name, help_text, labels, parts, sums))
        return sums

    def spreads(self, name: str, help_text: str, labels: Sequence[str]) -> defaultdict[tuple[str, ...], Spread]:
        """A histogram for where each microsecond counts, as `sums` is a counter."""
        self.made.append(Made(name, "histogram", tuple(labels), help_text))
        spreads = defaultdict[tuple[str, ...], Spread](Spread)
        self.registry.register(_Spreads(name, help_text, labels, spreads))
        return spreads

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


class _Sums:
    """What a registry collects of sums."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], parts: int, sums: dict[tuple[str, ...], Sum]
    ) -> None:
        self._name, self._help_text, self._labels, self._parts, self._sums = name, help_text, labels, parts, sums

    def describe(self) -> list[CounterMetricFamily]:
        return [CounterMetricFamily(self._name, self._help_text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        (family,), is_dated = self.describe(), _is_dated()
        for values, each in self._sums.copy().items():  # a copy: their owner may add one meanwhile
            family.add_metric(values, each.value / self._parts, created=each.began if is_dated else None)
        return [family]


class _Spreads:
    """What a registry collects of spreads."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], spreads: dict[tuple[str, ...], Spread]
    ) -> None:
        self._name, self._help_text, self._labels, self._spreads = name, help_text, labels, spreads

    def describe(self) -> list[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._help_text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        (family,), is_dated = self.describe(), _is_dated()
        for values, each in self._spreads.copy().items():
            upto = itertools.accumulate(map(float, each.counts))
            family.add_metric(values, list(zip(_LE, upto, strict=True)), each.seconds)
            if is_dated:  # the family has no argument for it, as a counter's does
                labels = dict(zip(self._labels, values, strict=True))
                family.samples.append(Sample(f"{self._name}_created", labels, each.began))
        return [family]


def _is_dated() -> bool:
    """Whether counters say when they were made: PROMETHEUS_DISABLE_CREATED_SERIES as prometheus_client reads it."""
    return any(one.name == "x_created" for each in Counter("x", "x", registry=None).collect() for one in each.samples)


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

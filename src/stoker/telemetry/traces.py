"""Spans sent to an OpenTelemetry collector, over OTLP/HTTP. The only place that knows OpenTelemetry.

Spans come here as plain data (`telemetry.spans`, `agents.spans`), with their ids and times, when they are over: nothing
is measured here, and no tracer is set up in anybody's process. They wait in a bounded queue and leave in a thread of
their own, so a backend that is away costs spans, and never a request or a step.

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT    where they go; nowhere without one
    OTEL_EXPORTER_OTLP_HEADERS, ..._TIMEOUT, ..._COMPRESSION, ..._CERTIFICATE,
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES                        as OpenTelemetry's SDK reads them
    OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none                  nothing is sent
    OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG                       which traces are made (`telemetry.spans`)
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stoker.base import logs
from stoker.base.background import Background
from stoker.base.errors import InvalidInput, Unavailable
from stoker.telemetry import otlp
from stoker.telemetry.spans import NOTHING, Fields, Told, Tracing, sampler_of, shape

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"
WRITTEN_AT_ONCE = 64
"""Spans: a seventh of a millisecond."""
MOST_WAITING = 20_000
MOST_AT_ONCE = 5000
"""Spans, where each batch is full. Two megabytes: collectors take up to twenty, Langfuse 4.5."""
MOST_TRIES = 30
"""With 10 s between two, a batch is given up after five minutes: one that the collector refuses may not keep back all
that come after it."""
_SCOPE = "stoker"
SEND_EVERY_S = 1.0
"""Spans of so long leave together: a request to the collector costs the process more than a span does."""
_log = logs.get("traces")


class _Batch:
    """Spans that are written together. It waits to be sent from its first one on, and takes more until it is full, or
    on its way."""

    __slots__ = ("content", "size")

    def __init__(self) -> None:
        self.content: list[Fields] | bytes = []
        self.size = 0
        """Spans, once it takes no more."""


class Traces:
    """Where spans that have ended are told, from any thread.

    Whoever fills a batch writes it: one by one between two requests they would cost more, and a thread that writes
    them keeps the interpreter from requests all the same, when nobody knows."""

    def __init__(self, service: str = "stoker", *, pause_s: float = 10.0) -> None:
        """`service`: what it calls itself where OTEL_SERVICE_NAME says nothing. Raises ImportError where the extra
        `otel` is not installed. The endpoint is the environment's."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        quieten()
        self._resource = resource_of(service)
        self._exporter = OTLPSpanExporter()
        self._tries = 0
        self._background = Background[_Batch](
            "traces",
            self._send,
            most_waiting=max(1, MOST_WAITING // WRITTEN_AT_ONCE),
            most_at_once=max(1, MOST_AT_ONCE // WRITTEN_AT_ONCE),
            pause_s=pause_s,
            linger_s=SEND_EVERY_S,
            size=lambda batch: batch.size or len(batch.content),
        )
        self._lock = threading.Lock()
        self._filling: _Batch | None = None
        self._lost = 0
        self._mistake: Exception | None = None
        """Why spans could not be written since this was last said: each second at most, however many there are."""

    @property
    def dropped(self) -> int:
        """Spans that went nowhere."""
        return self._background.dropped + self._lost

    def tell(self, span: Fields) -> None:
        """Never waits, and never fails."""
        with self._lock:
            batch = self._filling
            if batch is None:
                batch = self._filling = _Batch()
            spans = batch.content
            spans.append(span)  # type: ignore[union-attr]  # it is written when it is full, or on its way
            size = len(spans)
            if size >= WRITTEN_AT_ONCE:
                self._filling, batch.size = None, size
        if size == 1:
            self._background.add(batch)
        if size >= WRITTEN_AT_ONCE:
            self._written(batch)

    def add(self, trace_id: str, spans: Sequence[Mapping[str, Any]]) -> None:
        """Those of one trace (`agents.spans`). Never waits. Spans that are still open are passed over: OpenTelemetry
        knows only ended ones."""
        for span in spans:
            if span["ended_at"] is not None:
                self.tell(
                    Told(
                        bytes.fromhex(trace_id),
                        bytes.fromhex(span["id"]),
                        None if span["parent"] is None else bytes.fromhex(span["parent"]),
                        shape(span["kind"], span["name"]),
                        span["started_at"],
                        span["ended_at"],
                        span.get("state"),
                        span["attributes"],
                        is_wrong=span["status"] == "error",
                        with_content=span.get("with_content", False),
                    )
                )

    def close(self, timeout_s: float = 5.0) -> None:
        """What waits is tried once more, for so long at most. It blocks: from an event loop, call it in a thread."""
        self._background.close(timeout_s)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, batches: Sequence[_Batch]) -> None:
        with self._lock:
            for batch in batches:
                if batch is self._filling:
                    self._filling, batch.size = None, len(batch.content)
        count = sum(batch.size for batch in batches)
        body = otlp.request(self._resource.attributes, _SCOPE, map(self._written, batches))
        if (mistake := self._mistake) is not None:
            self._mistake = None
            _log.error("spans_not_written", exc_info=mistake)
        # Not its `export`, which takes the SDK's spans only; the versions that have this are named in pyproject.toml.
        why = why_not_taken(self._exporter._client.export(body))
        if why is None:
            self._tries = 0
            return
        self._tries += 1
        if self._tries < MOST_TRIES:
            raise Unavailable(f"the collector of traces did not take {count} spans: {why}")
        self._tries = 0
        self._lose(count)
        _log.warning("traces_given_up", spans=count, tries=MOST_TRIES, why=why)

    def _written(self, batch: _Batch) -> bytes:
        """Of one that takes no more. Two threads may do it at once, and come to the same."""
        spans = batch.content
        if not isinstance(spans, list):
            return spans
        parts: list[bytes] = []
        for span in spans:
            try:
                otlp.write(span, parts)
            except Exception as mistake:
                self._lose(1)
                self._mistake = mistake
        batch.content = b"".join(parts)
        return batch.content

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count


def traces_from(environ: Mapping[str, str] = os.environ, service: str = "stoker") -> Traces | None:
    """As the environment says; None where it names no endpoint. Raises InvalidInput where it names one, and the extra
    `otel` is not installed."""
    endpoint = next((name for name in ENDPOINTS if environ.get(name)), None)
    if endpoint is None or is_off(environ, "OTEL_TRACES_EXPORTER"):
        return None
    said = next((environ[name] for name in PROTOCOLS if environ.get(name)), SPOKEN)
    if said != SPOKEN:
        _log.warning("otlp_protocol", said=said, spoken=SPOKEN, hint="its port is 4318 with most collectors, not 4317")
    try:
        return Traces(service)
    except ImportError as error:
        raise InvalidInput(
            f"{endpoint} is set, and OpenTelemetry is not installed",
            param=endpoint,
            hint="pip install 'stoker[otel]', or unset it",
        ) from error


def tracing_from(traces: Traces | None, environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """What makes spans of requests for `traces`; without, nothing does. Raises InvalidInput for an unknown sampler."""
    return None if traces is None else Tracing(traces, sampler_of(environ))


def is_off(environ: Mapping[str, str], exporter: str) -> bool:
    """Whether the environment says that nothing is sent; `exporter` is the variable of this kind of signal."""
    said = (environ.get("OTEL_SDK_DISABLED", ""), environ.get(exporter, ""))
    return said[0].strip().lower() == "true" or said[1].strip().lower() == "none"


class _WithoutArguments(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.args = tuple("(not shown: it may hold a key)" for _ in record.args or ())
        return True


_WITHOUT_ARGUMENTS = _WithoutArguments()


def quieten() -> None:
    """Before an exporter of OpenTelemetry's is made. It would say again with each try what our own log says once; and
    of a header that is none, such as `Authorization: Bearer KEY` without `=`, all that it holds."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.util.re").addFilter(_WITHOUT_ARGUMENTS)


def why_not_taken(result: Any) -> str | None:
    """Of what OpenTelemetry's client says of a request; None: it was taken. Redirects are not followed, so one that was
    answered by one went nowhere, though its client calls that a success. Messages of errors may hold what was sent."""
    if result.status_code is not None:
        return None if 200 <= result.status_code < 300 else f"it answered {result.status_code}"
    return "it did not answer" if result.error is None else type(result.error).__name__


def resource_of(service: str, about: Mapping[str, str] = NOTHING) -> "Resource":
    """`about`: attributes beside those of the environment, which wins."""
    from opentelemetry.sdk.resources import Resource

    from stoker import __version__

    found = Resource({**about}).merge(Resource.create({"service.version": __version__}))
    named = str(found.attributes.get("service.name", ""))
    return found if not named.startswith("unknown_service") else found.merge(Resource({"service.name": service}))

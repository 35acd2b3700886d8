"""Spans sent to an OpenTelemetry collector, over OTLP/HTTP. The only place that knows OpenTelemetry.

Spans come here as plain data (`telemetry.spans`, `agents.spans`), with their ids and times, when they are over: nothing
is measured here, and no tracer is set up in anybody's process. They wait in a bounded queue and leave in a thread of
their own, so a backend that is away costs spans, and never a request or a step.

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT    where they go; nowhere without one
    OTEL_EXPORTER_OTLP_HEADERS, ..._TIMEOUT, ..._COMPRESSION, ..._CERTIFICATE,
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES                        as OpenTelemetry's SDK reads them
    OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none                  nothing is sent
    OTEL_BSP_SCHEDULE_DELAY                                            milliseconds until what has ended leaves, 5000
    OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG                       which traces are made (`telemetry.spans`)
"""

import contextlib
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from stoker.base import logs
from stoker.base.background import Background
from stoker.base.errors import InvalidInput, Unavailable
from stoker.telemetry import otlp
from stoker.telemetry.spans import NOTHING, Span, Tracing, sampler_of, shape

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"
WRITTEN_AT_ONCE = 64
"""Spans, with their calls: a seventh of a millisecond."""
MOST_WAITING = 20_000
MOST_AT_ONCE = 10_000
"""Spans, where each batch is full: nearly six megabytes with a call of each. As many leave before their time."""
MOST_BYTES = 4_000_000
"""Of one request, unless one batch alone is larger: collectors take up to twenty millions, Langfuse 4.5."""
MOST_TRIES = 30
"""With 10 s between two, a batch is given up after five minutes: one that the collector refuses may not keep back all
that come after it."""
_SCOPE = "stoker"
DELAY = "OTEL_BSP_SCHEDULE_DELAY"
"""Spans of so long leave together: a request to the collector costs the process as much as a thousand spans."""
_log = logs.get("traces")


@dataclass(slots=True)
class _Batch:
    """Spans as they are sent."""

    written: bytes = b""
    size: int = 0


class Traces:
    """Where spans that have ended are told, from any thread.

    Whoever fills a batch writes it: one by one between two requests they would cost more, and a thread that writes
    them keeps the interpreter from requests all the same, when nobody knows."""

    def __init__(self, service: str = "stoker", *, pause_s: float = 10.0) -> None:
        """`service`: what it calls itself where OTEL_SERVICE_NAME says nothing. Raises ImportError where the extra
        `otel` is not installed, InvalidInput for a delay that is none. The endpoint is the environment's."""
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
            linger_s=_delay_s(os.environ),
            size=lambda batch: batch.size,
        )
        self._told: deque[Span] = deque()
        """Those that nobody has written yet: fewer than WRITTEN_AT_ONCE, but for the moment in which they are."""
        self._is_due = False
        """They will be sent: the thread knows that there are some."""
        self._tracing = Tracing(self, lambda *_: True)
        self._lock = threading.Lock()
        self._lost = 0
        self._mistake: Exception | None = None
        """Why spans could not be written since this was last said: once with all that leave, however many there are."""

    @property
    def dropped(self) -> int:
        """Spans that went nowhere."""
        return self._background.dropped + self._lost

    def tell(self, span: Span) -> None:
        """Never waits, and never fails. Without a lock: each step is one that threads do not part."""
        told = self._told
        told.append(span)
        if len(told) >= WRITTEN_AT_ONCE:
            self._background.add(self._written())
        elif not self._is_due:
            self._is_due = True
            self._background.add(_Batch())  # it comes to be sent, and then all that is there is

    def add(self, trace_id: str, spans: Sequence[Mapping[str, Any]]) -> None:
        """Those of one trace (`agents.spans`). Never waits. Spans that are still open are passed over: OpenTelemetry
        knows only ended ones."""
        for said in spans:
            if said["ended_at"] is not None:
                parent = None if said["parent"] is None else bytes.fromhex(said["parent"])
                ids = bytes.fromhex(trace_id), bytes.fromhex(said["id"]), parent
                of = shape(said["kind"], said["name"])
                span = Span.of(*ids, of, said["started_at"], said.get("state"), self._tracing, True)
                span.ended_at, span.attributes = said["ended_at"], said["attributes"]
                span.is_wrong, span.with_content = said["status"] == "error", said.get("with_content", False)
                self.tell(span)

    def close(self, timeout_s: float = 5.0) -> None:
        """What waits is tried once more, for so long at most. It blocks: from an event loop, call it in a thread."""
        self._background.close(timeout_s)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, batches: Sequence[_Batch]) -> None:
        self._is_due = False
        rest, last = self._written(), batches[-1]
        last.written, last.size = last.written + rest.written, last.size + rest.size
        if (mistake := self._mistake) is not None:
            self._mistake = None
            _log.error("spans_not_written", exc_info=mistake)
        for together in _together(batches):
            self._send_together(together)

    def _send_together(self, batches: Sequence[_Batch]) -> None:
        count = sum(batch.size for batch in batches)
        body = otlp.request(self._resource.attributes, _SCOPE, [batch.written for batch in batches])
        # Not its `export`, which takes the SDK's spans only; the versions that have this are named in pyproject.toml.
        why = why_not_taken(self._exporter._client.export(body))
        if why is not None:
            self._tries += 1
            if self._tries < MOST_TRIES:
                raise Unavailable(f"the collector of traces did not take {count} spans: {why}")
            self._lose(count)
            _log.warning("traces_given_up", spans=count, tries=MOST_TRIES, why=why)
        self._tries = 0
        for batch in batches:  # others may be refused, and come again with these
            batch.written, batch.size = b"", 0

    def _written(self) -> _Batch:
        """Of those that were told, as many as are written at once."""
        spans: list[Span] = []
        with contextlib.suppress(IndexError):  # they are fewer, or another thread was faster
            spans.extend(islice(iter(self._told.popleft, None), WRITTEN_AT_ONCE))
        written, size, wrong = otlp.write(spans)
        if wrong:
            self._lose(len(wrong))
            self._mistake = wrong[-1]
        return _Batch(written, size)

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count


def _together(batches: Sequence[_Batch]) -> Iterator[list[_Batch]]:
    """Those of one request to the collector, and of the next."""
    found: list[_Batch] = []
    size = 0
    for batch in batches:
        if found and size + len(batch.written) > MOST_BYTES:
            yield found
            found, size = [], 0
        if batch.size:
            found.append(batch)
            size += len(batch.written)
    if found:
        yield found


def _delay_s(environ: Mapping[str, str]) -> float:
    said = environ.get(DELAY) or "5000"
    if re.fullmatch("[0-9]{1,7}", said) is None:
        raise InvalidInput(f"{DELAY} is {said!r}; it must be a number of milliseconds, such as 5000", param=DELAY)
    return int(said) / 1000


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

"""The metrics of one process sent to an OpenTelemetry collector now and then: its Prometheus registry as OTLP.

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT    where they go; nowhere without one
    OTEL_METRIC_EXPORT_INTERVAL                                         milliseconds between two points; 60000
    OTEL_METRICS_EXPORTER=none, OTEL_SDK_DISABLED=true                  nothing is sent
    OTEL_EXPORTER_OTLP_HEADERS, ..._TIMEOUT, OTEL_SERVICE_NAME, ...     as OpenTelemetry's SDK reads them

They leave in a thread of its own (`Background`); of what a collector that is away does not take, the last points are
kept, and the others are lost: counters are cumulative, so nothing but detail is. Where OpenTelemetry's conventions for
generative AI have the same metric it bears their name (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/).
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prometheus_client import Metric

from stoker.base import logs
from stoker.base.background import Background
from stoker.base.errors import InvalidInput, Unavailable
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.spans import NOTHING
from stoker.telemetry.traces import is_off, quieten, resource_of, why_not_taken

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

_log = logs.get("otlp_metrics")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_S = 60.0
MOST_WAITING = 2
GEN_AI: Mapping[str, str] = MappingProxyType(
    {
        "stoker_request_duration_seconds": "gen_ai.server.request.duration",
        "stoker_time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
        "stoker_time_per_output_token_seconds": "gen_ai.server.time_per_output_token",
    }
)
"""Ours -> the conventions'. Their label for the model is gen_ai.request.model, and they name a provider."""


@contextlib.asynccontextmanager
async def sending(
    metrics: Metrics,
    service: str,
    environ: Mapping[str, str] = os.environ,
    *,
    refresh: Callable[[], object] = lambda: None,
    close_s: float = 1.0,
) -> AsyncIterator[None]:
    """Within the block the registry is sent, as the environment says, and once more at the end, which takes `close_s`.
    `refresh` sets what is known only when somebody asks; it may be a coroutine function. Raises InvalidInput where the
    environment names an endpoint and the extra `otel` is not installed, or an interval that is none."""
    interval_s = interval_of(environ)
    if interval_s is None:
        yield
        return
    sender = _Sender(service)
    task = asyncio.create_task(_send_forever(metrics, sender, interval_s, refresh))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        sender.add(metrics)
        await asyncio.to_thread(sender.close, close_s)


def send_in_thread(
    metrics: Metrics, service: str, environ: Mapping[str, str] = os.environ, *, about: Mapping[str, str] = NOTHING
) -> Callable[[], None] | None:
    """The same for a process without a loop: until what it gives is called, which takes a second at most. None: the
    environment names no endpoint. `about`: attributes of the resource beside its name. Raises InvalidInput."""
    interval_s = interval_of(environ)
    if interval_s is None:
        return None
    sender, over = _Sender(service, about), threading.Event()

    def send() -> None:
        while not over.wait(interval_s):
            sender.add(metrics)

    thread = threading.Thread(target=send, name="otlp-points", daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()
        sender.add(metrics)
        sender.close(1.0)

    return stop


def interval_of(environ: Mapping[str, str]) -> float | None:
    """Seconds between two points; None: nothing is sent. Raises InvalidInput."""
    if not any(environ.get(name) for name in ENDPOINTS):
        return None
    if is_off(environ, "OTEL_METRICS_EXPORTER"):
        return None
    said = environ.get(INTERVAL, "").strip()
    if not said:
        return INTERVAL_S
    if not said.isdecimal() or int(said) == 0:
        raise InvalidInput(f"{INTERVAL} is {said!r}; it is a whole number of milliseconds above 0", param=INTERVAL)
    return int(said) / 1000


async def _send_forever(metrics: Metrics, sender: "_Sender", interval_s: float, refresh: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        try:
            done = refresh()
            if asyncio.iscoroutine(done):
                await done
        except Exception:  # a mistake of ours: points are as old as the last look, and go on
            _log.exception("points_not_refreshed")
        sender.add(metrics)


class _Sender:
    def __init__(self, service: str, about: Mapping[str, str] = NOTHING) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError as error:
            raise InvalidInput(
                f"{' or '.join(ENDPOINTS)} is set, and OpenTelemetry is not installed",
                param=ENDPOINTS[-1],
                hint="pip install 'stoker[otel]', or unset it",
            ) from error
        quieten()
        self._exporter = OTLPMetricExporter()
        self._resource = resource_of(service, about)
        self._began_ns = time.time_ns()
        self._background = Background["MetricsData"]("otlp-metrics", self._send, most_waiting=MOST_WAITING)

    def add(self, metrics: Metrics) -> None:
        """Never waits, and raises nothing."""
        try:
            families = metrics.registry.collect()
            points = as_otlp(families, self._resource, began_ns=self._began_ns, now_ns=time.time_ns())
        except Exception:  # a mistake of ours: it costs these points, and not all that come after
            _log.exception("points_not_made")
        else:
            self._background.add(points)

    def close(self, timeout_s: float) -> None:
        self._background.close(timeout_s)
        self._exporter.shutdown()

    def _send(self, items: Sequence["MetricsData"]) -> None:
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

        body = encode_metrics(items[-1]).SerializeToString()  # the last has all that others have
        # Not its `export`, which does not tell why it failed.
        why = why_not_taken(self._exporter._client.export(body))
        if why is not None:
            raise Unavailable(f"the collector of metrics did not take the points: {why}")


def as_otlp(families: Iterable[Metric], resource: Any, *, began_ns: int, now_ns: int) -> "MetricsData":
    """Counters as cumulative sums, from `began_ns` on; gauges; histograms with explicit bounds."""
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    cumulative = export.AggregationTemporality.CUMULATIVE
    found = []
    for family in families:
        data: Any
        if family.type == "histogram":
            data = export.Histogram(_histograms(family, began_ns, now_ns), cumulative)
        else:
            is_sum = family.type == "counter"
            kept = [one for one in family.samples if not is_sum or one.name.endswith("_total")]
            points = [
                export.NumberDataPoint(_labels(family.name, one.labels), began_ns if is_sum else 0, now_ns, one.value)
                for one in kept
            ]
            data = export.Sum(points, cumulative, is_monotonic=True) if is_sum else export.Gauge(points)
        if data.data_points:
            name = GEN_AI.get(family.name, family.name + ("_total" if family.type == "counter" else ""))
            unit = "s" if family.name.endswith("_seconds") else ""
            found.append(export.Metric(name, family.documentation, unit, data))
    scope = export.ScopeMetrics(InstrumentationScope("stoker"), found, "")
    return export.MetricsData([export.ResourceMetrics(resource, [scope], "")])


def _histograms(family: Metric, began_ns: int, now_ns: int) -> list[Any]:
    """Prometheus' buckets hold all up to their bound; OTLP's only what is between two."""
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for one in family.samples:
        key = tuple(sorted((name, value) for name, value in one.labels.items() if name != "le"))
        each = series.setdefault(key, {"bounds": [], "upto": [], "sum": 0.0})
        if one.name.endswith("_bucket"):
            each["bounds"].append(float(one.labels["le"]))
            each["upto"].append(int(one.value))
        elif one.name.endswith("_sum"):
            each["sum"] = one.value
    return [
        HistogramDataPoint(
            attributes=_labels(family.name, dict(key)),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=each["upto"][-1],
            sum=each["sum"],
            bucket_counts=[upto - before for upto, before in zip(each["upto"], [0, *each["upto"]], strict=False)],
            explicit_bounds=each["bounds"][:-1],
            # Prometheus knows none, and 0 would be taken for the longest. None is left out, whatever the type says.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )
        for key, each in series.items()
    ]


def _labels(family: str, labels: Mapping[str, str]) -> dict[str, str]:
    if family not in GEN_AI:
        return dict(labels)
    renamed = {("gen_ai.request.model" if name == "model" else name): value for name, value in labels.items()}
    return {"gen_ai.provider.name": "stoker", **renamed}

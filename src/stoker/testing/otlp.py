"""`python -m stoker.testing.otlp FILE`: a collector that writes down what it gets, one JSON object a line.

Speaks OTLP over HTTP as its specification has it (https://opentelemetry.io/docs/specs/otlp/): POST of protobuf to
/v1/traces, /v1/metrics and /v1/logs, plain or gzip; 400 for what cannot be read, 404 and 415 for the rest. A span is
`{"span": {...}}` with its resource's service and its scope; a metric and a log record are as protobuf's JSON has them.
Listens on a free port of 127.0.0.1, and says its URL as processes of the platform do.
"""

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Json = dict[str, Any]
PROTOBUF = "application/x-protobuf"
MOST_BYTES = 64 * 1024 * 1024


def spans_in(request: ExportTraceServiceRequest) -> Iterator[Json]:
    for resource in request.resource_spans:
        service = attributes(resource.resource.attributes).get("service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "span": {
                        "service": service,
                        "scope": scope.scope.name,
                        "trace": span.trace_id.hex(),
                        "id": span.span_id.hex(),
                        "parent": span.parent_span_id.hex() or None,
                        "name": span.name,
                        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                        "began_ns": span.start_time_unix_nano,
                        "ended_ns": span.end_time_unix_nano,
                        "status": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
                        "attributes": attributes(span.attributes),
                    }
                }


def attributes(found: Any) -> Json:
    return {each.key: _value(each.value) for each in found}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def metrics_in(request: ExportMetricsServiceRequest) -> Iterator[Json]:
    for resource in request.resource_metrics:
        service = attributes(resource.resource.attributes).get("service.name")
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield {"metric": {"service": service, **MessageToDict(metric, preserving_proto_field_name=True)}}


def logs_in(request: ExportLogsServiceRequest) -> Iterator[Json]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield {"log": MessageToDict(record, preserving_proto_field_name=True)}


_SIGNALS: dict[str, tuple[Any, Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse, spans_in),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_in),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse, logs_in),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    path_of_file: Path
    lock: Lock

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_BYTES))
        signal = _SIGNALS.get(self.path)
        if signal is None:
            self._answer(404, b"")
        elif self.headers.get("Content-Type") != PROTOBUF:
            self._answer(415, b"")
        else:
            asked, answer, read = signal
            try:
                plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                found = list(read(asked.FromString(plain)))
            except (DecodeError, OSError, EOFError, zlib.error) as error:
                self._answer(400, str(error).encode())
                return
            lines = "".join(json.dumps(each) + "\n" for each in found)
            with self.lock, self.path_of_file.open("a") as file:
                file.write(lines)
            self._answer(200, answer().SerializeToString())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", PROTOBUF)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stoker.testing.otlp", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(argv)
    _Handler.path_of_file, _Handler.lock = options.file, Lock()
    options.file.touch()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), _Handler)
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()

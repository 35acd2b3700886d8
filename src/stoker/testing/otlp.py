"""A collector of OpenTelemetry's on loopback, for tests and benchmarks: OTLP over HTTP, in protobuf.

    python -m stoker.testing.otlp received.jsonl            # says its URL on stdout, and runs until it is terminated

    with Collector(path) as collector:                      # or in a thread of this process
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url

Each request that it takes becomes one line, with the headers that came and the message as protobuf's JSON mapping
writes it; ids are in hexadecimal digits, as OTLP's JSON has them
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). What is no message of OTLP is refused as the
specification says (400, 404, 405, 415), and is no line.
"""

import argparse
import base64
import gzip
import json
import signal
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
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

Json = dict[str, Any]
_PROTOBUF = "application/x-protobuf"
_MOST_BYTES = 64 * 1024 * 1024
_IDS = frozenset(("traceId", "spanId", "parentSpanId"))
_SIGNALS: dict[str, tuple[str, Any, Any]] = {
    "/v1/traces": ("traces", ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": ("metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": ("logs", ExportLogsServiceRequest, ExportLogsServiceResponse),
}


class Collector:
    """Serves from threads of its own, from `__enter__` to `__exit__`; lines are appended to `path`. `discards`: it
    takes everything unread, for benchmarks on a machine that has no core to spare for it."""

    def __init__(self, path: Path, *, port: int = 0, discards: bool = False) -> None:
        self.path = path
        self._discards = discards
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self) -> None:
        """Until `stop` is called, from another thread."""
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        self._server.shutdown()

    def __enter__(self) -> "Collector":
        self._thread = threading.Thread(target=self.serve, name="otlp", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The status and the answer to one request."""
        if path not in _SIGNALS:
            return 404, b""
        if headers.get("content-type", "").partition(";")[0].strip() != _PROTOBUF:
            return 415, b""
        signal_name, kind, answer = _SIGNALS[path]
        if self._discards:
            return 200, b""
        try:
            message = kind.FromString(_unpacked(body, headers.get("content-encoding", "identity")))
        except (DecodeError, OSError, EOFError, ValueError, zlib.error):
            return 400, b""
        line = {"signal": signal_name, "headers": headers, "message": _with_hex_ids(MessageToDict(message))}
        with self._lock, self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return 200, answer().SerializeToString()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                size = self.headers.get("content-length", "")
                if not size.isdigit() or int(size) > _MOST_BYTES:
                    self.close_connection = True
                    self._say(411 if not size else 413, b"")
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._say(*collector.take(self.path, headers, self.rfile.read(int(size))))

            def do_GET(self) -> None:
                self._say(405 if self.path in _SIGNALS else 404, b"")

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", _PROTOBUF)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def received(path: Path, signal_name: str = "traces") -> list[Json]:
    """What was taken of one signal, in its order; a last line that is not whole yet is left out."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["signal"] == signal_name]


def spans_in(path: Path) -> Iterator[Json]:
    """Each span that was taken, as OTLP writes it, with `service` (of its resource), `kind` without `SPAN_KIND_`, and
    its attributes as a plain dict."""
    for line in received(path):
        for of_resource in line["message"].get("resourceSpans", []):
            service = _plain(of_resource.get("resource", {}).get("attributes", [])).get("service.name")
            for of_scope in of_resource.get("scopeSpans", []):
                for span in of_scope.get("spans", []):
                    kind = span.get("kind", "").removeprefix("SPAN_KIND_")
                    yield {
                        **span,
                        "service": service,
                        "kind": kind,
                        "attributes": _plain(span.get("attributes", [])),
                    }


def _plain(attributes: list[Json]) -> Json:
    return {each["key"]: _value(each["value"]) for each in attributes}


def _value(value: Json) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(each) for each in value["arrayValue"].get("values", [])]
    return next(iter(value.values()), None)


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding != "identity":
        raise ValueError(encoding)
    return body


def _with_hex_ids(value: Any) -> Any:
    """Protobuf's JSON mapping has bytes in base64, OTLP's has ids in hexadecimal digits."""
    if isinstance(value, dict):
        return {
            name: base64.b64decode(each).hex() if name in _IDS else _with_hex_ids(each) for name, each in value.items()
        }
    return [_with_hex_ids(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stoker.testing.otlp", description="An OTLP collector for tests.")
    parser.add_argument("path", type=Path, help="the file of JSON lines that it appends to")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0: a free one")
    parser.add_argument("--discard", action="store_true", help="take everything, and read nothing")
    said = parser.parse_args()
    collector = Collector(said.path, port=said.port, discards=said.discard)
    for each in (signal.SIGTERM, signal.SIGINT):
        # `stop` waits for the loop that this handler interrupts.
        signal.signal(each, lambda *_: threading.Thread(target=collector.stop).start())
    print(collector.url, flush=True)  # noqa: T201 - its answer
    collector.serve()


if __name__ == "__main__":
    main()

"""The collector of tests speaks OTLP/HTTP: what the real exporter sends is read, what is nonsense is refused."""

import gzip
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from stoker.telemetry.traces import Traces
from stoker.testing import otlp


def posted(url: str, body: bytes, **headers: str) -> int:
    request = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_what_the_exporter_sends_is_read_by_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "received.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "stoker.testing.otlp", str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", process.stdout.readline().strip())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "story")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
        made = Traces(pause_s=0.0)
        attributes: dict[str, Any] = {"text": "a", "number": 2, "texts": ["b", "c"]}
        span = {"id": "12" * 8, "parent": None, "kind": "model", "name": "chat m", "status": "ok"}
        made.add("ab" * 16, [{**span, "started_at": 1.0, "ended_at": 2.5, "attributes": attributes}])
        made.close()
    finally:
        process.terminate()
        assert process.wait() == 0
        assert process.stdout is not None
        process.stdout.close()
    [found] = otlp.spans_in(path)
    assert (found["traceId"], found["spanId"], found["service"]) == ("ab" * 16, "12" * 8, "story")
    assert (found["name"], found["kind"], found["attributes"]) == ("chat m", "CLIENT", attributes)
    [line] = otlp.received(path)
    assert (line["headers"]["x-key"], line["headers"]["content-encoding"]) == ("secret", "gzip")


def test_nonsense_is_refused_and_is_no_line(tmp_path: Path) -> None:
    protobuf = "application/x-protobuf"
    with otlp.Collector(tmp_path / "received.jsonl") as collector:
        assert posted(collector.url + "/v1/traces", b"\xff\xff", content_type=protobuf) == 400
        assert posted(collector.url + "/v1/traces", b"x", content_type=protobuf, content_encoding="gzip") == 400
        assert posted(collector.url + "/v1/traces", b"x", content_type=protobuf, content_encoding="br") == 400
        assert posted(collector.url + "/v1/traces", b"{}", content_type="application/json") == 415
        assert posted(collector.url + "/v1/other", b"", content_type=protobuf) == 404
        assert otlp.received(collector.path) == []
        empty = gzip.compress(b"")
        assert posted(collector.url + "/v1/metrics", empty, content_type=protobuf, content_encoding="gzip") == 200
        assert posted(collector.url + "/v1/logs", b"", content_type=protobuf) == 200
    assert [len(otlp.received(collector.path, each)) for each in ("traces", "metrics", "logs")] == [0, 1, 1]

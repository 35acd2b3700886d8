"""What stands between a client and an S3 server (moto's) and does to requests what networks and S3 do on bad days.

    with S3Faults(moto_url) as faults:
        faults.add(Fault("status", method="PUT", key="HEAD", status=503, code="SlowDown", times=2))

A request that no fault wants is passed on. The proxy also keeps S3's promise about conditions where moto does not: moto
5.2 looks at `If-None-Match` and `If-Match` of PutObject without a lock, and knows no `If-Match` of
CompleteMultipartUpload. Here a write that makes or removes an object is alone while its condition is looked at.
"""

import contextlib
import http.client
import os
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal[
    "status", "error_in_200", "reset_request", "reset_answer", "cut", "slow", "stall", "lost", "lost_before", "hide"
]
"""status        answered with `status` and an XML body with `code`; the server never sees it
error_in_200  the same body with status 200, as S3 does when it fails after it began to answer
reset_request the connection is reset after half of the request's body was read
reset_answer  the server does it; of its answer half of the body comes, and then the connection is reset (where the
              answer has no body, nothing comes)
cut           the same, and the connection is closed in good order: the answer is too short
slow          request and answer pass at `bytes_per_s`
stall         nothing happens until `let_go`; then the connection is reset
lost          the server does it, and the connection is reset without an answer
lost_before   the connection is reset before the server sees it
hide          a listing does not show keys that hold `hides`, as a store does whose listings lag
"""

_STALL_S = 60.0
_PIECE = 4096


@dataclass
class Fault:
    """Which requests, and what happens to them. `query` are names that the query has to have (`uploads`, `partNumber`,
    `uploadId`, `list-type`). The first `skip` that match are let through, and then `times` are hit (None: all)."""

    kind: Kind
    method: str = ""
    key: str = ""
    query: str = ""
    skip: int = 0
    times: int | None = 1
    status: int = 503
    code: str = "SlowDown"
    bytes_per_s: int = 1 << 20
    hides: str = ""

    def wants(self, method: str, key: str, query: Mapping[str, Any]) -> bool:
        return (
            (not self.method or method == self.method)
            and self.key in key
            and (not self.query or self.query in query)
            and self.times != 0
        )


class S3Faults:
    """`done` counts what was done, by kind; `seen` are all requests: method, path and the query's names."""

    def __init__(self, url: str) -> None:
        self._behind = urlsplit(url)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._let_go = threading.Event()
        self.stalled = threading.Event()  # a request stalls now
        self.done: Counter[str] = Counter()
        self.seen: list[tuple[str, str, frozenset[str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "S3Faults":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults += faults

    def clear(self) -> None:
        """No faults any more, and nothing counted."""
        with self._lock:
            self._faults.clear()
            self.done.clear()
            self.seen.clear()

    def let_go(self) -> None:
        """Whatever stalls is reset."""
        self._let_go.set()

    def count(self, method: str, query: str = "") -> int:
        """How many such requests there were."""
        return sum(each == method and (not query or query in names) for each, _, names in self.seen)

    # --- one request ------------------------------------------------------------------------------------------------

    def _wanted(self, method: str, key: str, query: Mapping[str, Any]) -> Fault | None:
        with self._lock:
            self.seen.append((method, key, frozenset(query)))
            for fault in self._faults:
                if not fault.wants(method, key, query):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                self.done[fault.kind] += 1
                return fault
        return None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):  # whoever asked is not there any more
            self._serve_or_fail(handler)

    def _serve_or_fail(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        key, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        size = int(handler.headers.get("content-length") or 0)
        fault = self._wanted(handler.command, key, query)
        kind = fault.kind if fault else None
        if kind == "reset_request":
            handler.rfile.read(size // 2)
            return _reset(handler)
        pace = fault.bytes_per_s if fault and kind == "slow" else None
        body = self._paced_read(handler, size, pace)
        if kind == "stall":
            self.stalled.set()
            self._let_go.wait(_STALL_S)
            return _reset(handler)
        if kind == "lost_before":
            return _reset(handler)
        if fault and kind in ("status", "error_in_200"):
            status = 200 if kind == "error_in_200" else fault.status
            return self._answer(handler, status, {"content-type": "application/xml"}, _error(fault.code), None)
        status, headers, said = self._pass_on(handler, body, query)
        if kind == "lost" or (kind in ("cut", "reset_answer") and not said):
            return _reset(handler)
        if fault and kind == "hide":
            said = _without(said, fault.hides)
        if kind in ("cut", "reset_answer"):
            _begin(handler, status, headers, len(said))
            handler.wfile.write(said[: len(said) // 2])
            handler.wfile.flush()
            handler.close_connection = True
            return _reset(handler) if kind == "reset_answer" else None
        return self._answer(handler, status, headers, said, pace)

    def _answer(
        self, handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes, pace: int | None
    ) -> None:
        announced = int(headers.get("content-length", 0)) if handler.command == "HEAD" else len(body)
        _begin(handler, status, headers, announced)
        if handler.command == "HEAD":
            return
        if pace is None:
            handler.wfile.write(body)
            return
        for at in range(0, len(body), _PIECE):
            self._let_go.wait(_PIECE / pace)
            handler.wfile.write(body[at : at + _PIECE])

    def _paced_read(self, handler: BaseHTTPRequestHandler, size: int, pace: int | None) -> bytes:
        if pace is None:
            return handler.rfile.read(size)
        parts = []
        while size:
            self._let_go.wait(_PIECE / pace)
            part = handler.rfile.read(min(size, _PIECE))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    # --- the server behind ------------------------------------------------------------------------------------------

    def _pass_on(
        self, handler: BaseHTTPRequestHandler, body: bytes, query: Mapping[str, Any]
    ) -> tuple[int, dict[str, str], bytes]:
        makes = handler.command == "PUT" and "partNumber" not in query
        completes = handler.command == "POST" and "uploadId" in query
        if not (makes or completes or handler.command == "DELETE" or "delete" in query):
            return self._ask(handler.command, handler.path, dict(handler.headers), body)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _CONDITIONS}
        with self._writing:
            refused = self._refused(handler)
            if refused:
                status, code = refused
                return status, {"content-type": "application/xml"}, _error(code)
            return self._ask(handler.command, handler.path, headers, body)

    def _refused(self, handler: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        absent, match = handler.headers.get("If-None-Match"), handler.headers.get("If-Match")
        if absent is None and match is None:
            return None
        path = urlsplit(handler.path).path
        signed = {"authorization": handler.headers.get("authorization", "")}  # moto looks whether there is one
        status, headers, _ = self._ask("HEAD", path, signed, b"")
        if absent == "*" and status == 200:
            return 412, "PreconditionFailed"
        if match is not None and status != 200:
            return 404, "NoSuchKey"
        if match is not None and match.strip('"') != headers.get("etag", "").strip('"'):
            return 412, "PreconditionFailed"
        return None

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._behind.hostname or "", self._behind.port, timeout=60)
        try:
            passed = {name: value for name, value in headers.items() if name.lower() not in _HOP}
            connection.request(method, path, body=body or None, headers=passed)
            answer = connection.getresponse()
            said = answer.read()
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, said
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                faults._serve(self)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the names that http.server asks for

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


_CONDITIONS = {"if-match", "if-none-match"}
_HOP = {"connection", "expect", "content-length", "transfer-encoding"}
_OURS = {"connection", "content-length", "transfer-encoding", "server", "date"}


def _begin(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], size: int) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if name not in _OURS:
            handler.send_header(name, value)
    if status != 204:
        handler.send_header("content-length", str(size))
    handler.end_headers()


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """RST instead of FIN, as from a machine that is gone."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())  # at once: the server would send FIN before it closes


def _error(code: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>made by a test</Message></Error>'
    ).encode()


def _without(listing: bytes, word: str) -> bytes:
    def kept(found: "re.Match[bytes]") -> bytes:
        return b"" if word.encode() in found.group(0) else found.group(0)

    return re.sub(rb"<Contents>.*?</Contents>", kept, listing, flags=re.DOTALL)

"""AWS on loopback: moto's server as a process, and a gate in front of it that a test can shut, or hold answers at."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-west-2"}
START_S = 60.0


@contextlib.contextmanager
def moto_server(log: Path) -> Iterator[str]:
    """The URL of a server that knows AWS' services and holds everything in memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environ = {**os.environ, **CREDENTIALS}
        with subprocess.Popen(command, stdout=out, stderr=out, env=environ) as process:  # noqa: S603 - words of our own
            try:
                _wait_until_it_answers(url, process)
                yield url
            finally:
                process.kill()


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5):  # noqa: S310 - our own, on loopback
                return
        except OSError as exc:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"moto's server does not answer on {url}") from exc
            time.sleep(0.05)


class Gate:
    """What stands between a client and a server. `shut`: every call is answered 503. `hold`: calls of that operation
    reach the server, and nobody is told what it said, until the gate is opened. `refuse`: calls of that operation are
    answered 503."""

    def __init__(self, url: str) -> None:
        self._behind = url
        self.shut = False
        self.hold: str | None = None
        self.refuse: str | None = None
        self.held = threading.Event()  # an answer is held now
        self.calls: list[str] = []
        self._open = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Gate":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def let_go(self) -> None:
        """From now on every answer is passed on."""
        self.hold = None
        self._open.set()

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        operation = handler.headers.get("x-amz-target", "").rpartition(".")[2]
        self.calls.append(operation)
        if self.shut or operation == self.refuse:
            _answer(handler, 503, b'{"__type":"ServiceUnavailable","message":"shut"}')
            return
        status, said = self._ask(handler, body)
        if operation == self.hold:
            self.held.set()
            self._open.wait(60)
        with contextlib.suppress(OSError):  # whoever asked is not there any more
            _answer(handler, status, said)

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "connection"}
        asking = urllib.request.Request(self._behind + handler.path, data=body, headers=headers, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(asking, timeout=30) as answer:  # noqa: S310 - our own, on loopback
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                gate._pass_on(self)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def _answer(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("content-type", "application/x-amz-json-1.0")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)

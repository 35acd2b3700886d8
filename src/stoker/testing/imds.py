"""The metadata service of an EC2 instance (IMDSv2) on loopback, for tests and drills: what it says is told to it.

    with FakeImds() as imds:                       # or `async with`; it serves from a thread of its own
        os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.url
        imds.notice("terminate", in_s=120)         # two minutes from now by `clock`
        ...
        imds.withdraw()
        assert imds.asked("spot/instance-action") > 0

It is as strict as the real one: nothing is said without a token that is valid, and no token is given to a request that
a proxy has passed on.
"""

import contextlib
import json
import secrets
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stoker.base.clock import Clock, SystemClock
from stoker.policy.leaving import SpotAction

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
DATA_PATH = "/latest/meta-data/"
_TOKEN = "x-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_TTL = "x-aws-ec2-metadata-token-ttl-seconds"
_MOST_TTL_S = 21600


@dataclass(frozen=True)
class Asked:
    """One request that came. `status` is what it was answered; None: nothing."""

    method: str
    path: str
    headers: dict[str, str]
    status: int | None


@dataclass
class _Failing:
    status: int | None
    path: str
    times: int | None


class FakeImds:
    """`tokens_arrive`: False is what a container sees beyond the hop limit: it connects, and hears nothing of a token.
    `maintenance`: the events that are scheduled, as AWS writes them."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        life_cycle: str = "spot",
        instance_type: str = "g5.xlarge",
        instance_id: str = "i-0123456789abcdef0",
        zone: str = "us-west-2a",
    ) -> None:
        self.tokens_arrive = True
        self.maintenance: list[dict[str, str]] = []
        self.requests: list[Asked] = []
        self._clock = clock or SystemClock()
        self._facts = {
            "instance-life-cycle": life_cycle,
            "instance-type": instance_type,
            "instance-id": instance_id,
            "placement/availability-zone": zone,
            "placement/region": zone[:-1],
        }
        self._said: dict[str, str] = {}
        self._tokens: dict[str, float] = {}  # until when
        self._failing: list[_Failing] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Go away: who waits for an answer is cut off, and nobody listens any more."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # it ended by itself
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "FakeImds":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> "FakeImds":
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    # --- what it is told --------------------------------------------------------------------------------------------

    def notice(self, action: SpotAction = "terminate", in_s: float = 120.0) -> None:
        """From now on the instance is marked for that, in so many seconds (AWS gives two minutes)."""
        at = _written(self._clock.now() + in_s)
        self.say("spot/instance-action", json.dumps({"action": action, "time": at}))
        self.say("spot/termination-time", at if action == "terminate" else None)

    def withdraw(self) -> None:
        """It is not marked any more, and nothing is recommended."""
        for path in ("spot/instance-action", "spot/termination-time", "events/recommendations/rebalance"):
            self.say(path, None)

    def rebalance(self) -> None:
        """AWS recommends, now, to be somewhere else."""
        self.say("events/recommendations/rebalance", json.dumps({"noticeTime": _written(self._clock.now())}))

    def say(self, path: str, text: str | None) -> None:
        """What stands at a path below /latest/meta-data/, word for word; None: nothing does (404)."""
        with self._lock:
            if text is None:
                self._said.pop(path, None)
            else:
                self._said[path] = text

    def expire_tokens(self) -> None:
        """No token that was given is good any more."""
        with self._lock:
            self._tokens.clear()

    def fail(self, status: int | None, *, path: str = "/", times: int | None = None) -> None:
        """Requests whose path begins like this are answered with that status; None: with nothing, as long as they wait.
        The next so many; None: until `mend`."""
        with self._lock:
            self._failing.append(_Failing(status, path, times))

    def mend(self) -> None:
        with self._lock:
            self._failing.clear()

    # --- what is seen of it -----------------------------------------------------------------------------------------

    def asked(self, path: str) -> int:
        """How often that path below /latest/meta-data/ was asked for."""
        return sum(1 for request in list(self.requests) if request.path == DATA_PATH + path)

    @property
    def tokens_given(self) -> int:
        return sum(1 for request in list(self.requests) if request.path == TOKEN_PATH and request.status == 200)

    # --- how it answers ---------------------------------------------------------------------------------------------

    def _answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int | None, str, dict[str, str]]:
        """Status, body and headers; no status: nothing is answered."""
        with self._lock:
            for failing in self._failing:
                if path.startswith(failing.path) and failing.times != 0:
                    failing.times = None if failing.times is None else failing.times - 1
                    return failing.status, "", {}
            if path == TOKEN_PATH:
                return self._token(method, headers)
            if method != "GET":
                return 405, "", {}
            if self._tokens.get(headers.get(_TOKEN, ""), 0.0) <= self._clock.now():
                return 401, "", {}
            said = {**self._facts, "events/maintenance/scheduled": json.dumps(self.maintenance), **self._said}
            text = said.get(path.removeprefix(DATA_PATH)) if path.startswith(DATA_PATH) else None
            return (404, "", {}) if text is None else (200, text, {})

    def _token(self, method: str, headers: dict[str, str]) -> tuple[int | None, str, dict[str, str]]:
        if method != "PUT":
            return 405, "", {}
        if "x-forwarded-for" in headers:
            return 403, "", {}
        ttl = headers.get(_TTL, "")
        if not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= _MOST_TTL_S):
            return 400, "", {}
        if not self.tokens_arrive:
            return None, "", {}
        token = secrets.token_urlsafe(40)
        self._tokens[token] = self._clock.now() + int(ttl)
        return 200, token, {_TTL: ttl}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        imds = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with imds._lock:
                    imds._connections.add(self.connection)

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # whoever asked went without a word
                    super().handle()

            def finish(self) -> None:
                with imds._lock:
                    imds._connections.discard(self.connection)
                super().finish()

            def _serve(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.rfile.read(int(headers.get("content-length", 0)))
                status, body, more = imds._answer(self.command, self.path, headers)
                imds.requests.append(Asked(self.command, self.path, headers, status))
                if status is None:
                    imds._over.wait()
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {**more, "content-length": str(len(body.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self) -> None:
                self._serve()

            def do_PUT(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def _written(at: float) -> str:
    """As AWS writes times: UTC, in whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

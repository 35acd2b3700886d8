"""A real Prometheus beside a real `stoker up`: it scrapes each process, and its rules fire on what goes wrong."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flow_parts import Running, Start, wait_until

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.flow,
    pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus (Debian package prometheus; scripts/system-packages)"),
]
SUFFIX = re.compile("_(bucket|sum|count|created|total)$")
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


class Refusing(BaseHTTPRequestHandler):
    """An engine that is up and refuses each task."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def broken() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.05))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Watching:
    """A Prometheus on the files that `stoker up` wrote, which looks each second."""

    def __init__(self, running: Running, data: Path) -> None:
        files = running.state / "prometheus"
        wait_until((files / "prometheus.yml").exists, 30, lambda: "no prometheus.yml")
        quick = files / "quick.yml"
        quick.write_text((files / "prometheus.yml").read_text().replace('"5s"', '"1s"'))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert PROMETHEUS is not None
        with (data / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    PROMETHEUS,
                    *("--config.file", str(quick), "--storage.tsdb.path", str(data / "tsdb")),
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stderr=log,
                cwd=data,
                env={**os.environ, "GOMAXPROCS": "1"},
            )

    def ask(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as said:
                return json.load(said)["data"]
        except (urllib.error.URLError, ConnectionError):
            return None  # it is not up yet

    def up(self) -> dict[str, str]:
        """The health of each process that is scraped."""
        found = self.ask("targets?state=active") or {"activeTargets": []}
        return {each["labels"]["process"]: each["health"] for each in found["activeTargets"]}

    def firing(self) -> set[tuple[str, str]]:
        """Alerts, each with the model, code or role that it is about."""
        alerts = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {
            (each["labels"]["alertname"], each["labels"].get("model") or each["labels"].get("code", ""))
            for each in alerts
            if each["state"] == "firing"
        }

    def wait_for(self, alert: str, about: str) -> None:
        wait_until(lambda: (alert, about) in self.firing(), 60, lambda: f"no {alert} of {about}: {self.ask('alerts')}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


def post(running: Running, path: str, body: Any, key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(running.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as said:
            return json.load(said)
    except urllib.error.HTTPError as error:
        return json.load(error)


def test_each_process_is_scraped_and_what_goes_wrong_fires_its_alert(
    start: Start, broken: ThreadingHTTPServer, data: Path
) -> None:
    url = f"http://127.0.0.1:{broken.server_address[1]}/v1"
    running = start(spec=f"llm: {{models: {{general: {{}}, broken: {{engine: {{url: '{url}'}}}}}}}}")
    watching = Watching(running, data)
    try:
        everybody = {"supervisor", "gateway", "engine-general-1", "worker-general-1", "worker-broken-1"}
        wait_until(lambda: watching.up() == dict.fromkeys(everybody, "up"), 30, lambda: str(watching.up()))
        run: Any = running.run_json()
        assert {each["name"] for each in run["processes"]} == everybody - {"supervisor"} | {"redis"}
        assert watching.firing() == set(), "nothing is wrong yet"
        page = (Path(__file__).parents[2] / "docs" / "telemetry" / "metrics.md").read_text()
        scraped = [name for name in watching.ask("label/__name__/values") if name.startswith(("stoker_", "vllm:"))]
        assert len(scraped) > 40
        assert [name for name in scraped if f"| `{SUFFIX.sub('', name)}" not in page] == []

        # A task is given up.
        post(running, "/v1/tasks", {**CHAT, "model": "broken"}, running.key)
        watching.wait_for("DeadLetters", "broken")

        # A budget is used up.
        made = post(
            running, "/admin/v1/keys", {"tenant": "default", "budgets": {"tokensTotal": 100}}, running.admin_key
        )
        answers = [post(running, "/v1/chat/completions", {**CHAT, "model": "general"}, made["key"]) for _ in range(20)]
        assert answers[-1]["error"]["code"] == "budget_exhausted"
        watching.wait_for("BudgetUsedUp", "budget_exhausted")

        # An engine is gone for good.
        broken.shutdown()
        broken.server_close()
        watching.wait_for("NoWorkerInService", "broken")
        watching.wait_for("NoReplica", "broken")

        # Tasks wait and no worker takes them.
        stuck = running.pid_of("worker-general-1")
        os.kill(stuck, signal.SIGSTOP)
        try:
            post(running, "/v1/tasks", {**CHAT, "model": "general"}, running.key)
            watching.wait_for("QueueStuck", "general")
        finally:
            os.kill(stuck, signal.SIGCONT)
        wait_until(lambda: ("QueueStuck", "general") not in watching.firing(), 30, lambda: str(watching.firing()))
    finally:
        watching.process.terminate()
        watching.process.wait(20)
        running.stop()

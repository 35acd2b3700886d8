"""Secrets are planted wherever a platform takes one, and then looked for in all that it says and writes."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from flow_parts import STOKER, Running, Start, wait_until

from stoker.testing import otlp

pytestmark = [pytest.mark.flow, pytest.mark.redis]
Json = dict[str, Any]

UPSTREAM_KEY = "sk-planted-upstream-5c1f"
COLLECTOR_KEY = "planted-collector-9a2e"
HOOK_SECRET = "whsec_cGxhbnRlZC1ob29rLXNlY3JldC0wMTIzNDU2Nzg5YWI="
PROMPT, ANSWER = "planted-prompt-77d3", "planted-answer-41be"
SPEC = """
llm:
  models:
    general: {replicas: {min: 1, max: 1}}
    hosted: {engine: {url: "HOSTED/v1", apiKeyEnv: HOSTED_KEY}}
gateway: {defaultModel: general}
queue: {maxAttempts: 2, retryBaseSeconds: 0.05, retryCapSeconds: 0.1}
tenants: {default: {callbackHosts: [127.0.0.0/8], callbackSecretEnv: HOOKS}, spender: {budgets: {usdTotal: 0.00001}}}
costs: {alerts: {webhook: {url: "HOSTED/hook", secretEnv: HOOKS, networks: [127.0.0.0/8]}}}
agents: {enabled: true}
"""


class Hosted(BaseHTTPRequestHandler):
    """An engine of somebody else: it answers with what it was asked, and where it fails it tells the key and all."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = json.loads(body) if body else {}
        asked = json.dumps(said.get("messages", ""))
        if self.path.endswith("/hook"):
            self._answer(204, b"")
        elif "fail" in asked:
            message = f"invalid key {self.headers['Authorization']} for {asked}"
            self._answer(500, json.dumps({"error": {"message": message, "code": "bad"}}).encode())
        elif said.get("stream"):
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            first = {**chunk, "choices": [{"index": 0, "delta": {"content": ANSWER}, "finish_reason": None}]}
            last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
            events = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in (first, last))
            self._answer(200, events + b"data: [DONE]\n\n", "text/event-stream")
        else:
            message = {"role": "assistant", "content": ANSWER}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            self._answer(200, json.dumps({**whole, "usage": USAGE}).encode())

    def do_GET(self) -> None:
        self._answer(200, b'{"object": "list", "data": []}')

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@pytest.fixture
def hosted() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hosted)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def collected(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    path = tmp_path / "received.jsonl"
    argv = [sys.executable, "-P", "-m", "stoker.testing.otlp", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            path.touch()
            yield process.stdout.readline().strip(), path
        finally:
            process.terminate()


def ask(running: Running, path: str, body: Json, key: str) -> tuple[int, bytes]:
    said = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(running.url + path, json.dumps(body).encode(), said)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def said_by(state: Path, *command: str) -> bytes:
    done = subprocess.run([str(STOKER), *command, "--state", str(state)], capture_output=True, check=True)
    return done.stdout + done.stderr


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: bytes = answer.read()
        return text


def test_no_secret_is_in_anything_that_is_said_or_written(
    start: Start, hosted: str, collected: tuple[str, Path]
) -> None:
    collector, received = collected
    environ = {
        "HOSTED_KEY": UPSTREAM_KEY,
        "HOOKS": HOOK_SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={COLLECTOR_KEY}",
    }
    running = start(spec=SPEC.replace("HOSTED/", f"{hosted}/"), environ=environ)
    state = Path(str(running.state))
    made = json.loads(ask(running, "/admin/v1/keys", {"tenant": "spender"}, running.admin_key)[1])
    secrets = {
        "the user's key": running.key,
        "the admin's key": running.admin_key,
        "a key that was made": made["key"],
        "the upstream's key": UPSTREAM_KEY,
        "the collector's key": COLLECTOR_KEY,
        "the hooks' secret": HOOK_SECRET.removeprefix("whsec_"),
        "the engines' own key": _of_process(running, "engine-general-1", "STOKER_ENGINE_KEY"),
        "the agents' secret": _of_process(running, "agents", "STOKER_AGENTS_KEY"),
    }
    written = {"a prompt": PROMPT, "an answer": ANSWER}

    def chat(model: str, text: str, **more: Any) -> Json:
        return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 5, **more}

    answers = [
        ask(running, "/v1/chat/completions", chat("general", PROMPT), running.key),
        ask(running, "/v1/chat/completions", chat("hosted", PROMPT), running.key),
        ask(running, "/v1/chat/completions", chat("hosted", PROMPT, stream=True), running.key),
    ]
    assert [status for status, _ in answers] == [200, 200, 200]
    refused = [
        ask(running, "/v1/chat/completions", chat("hosted", f"fail {PROMPT}"), running.key),
        ask(running, "/v1/chat/completions", chat("hosted", f"fail {PROMPT}", stream=True), running.key),
        ask(running, "/v1/chat/completions", chat("general", PROMPT), UPSTREAM_KEY),
        ask(running, "/v1/chat/completions", chat("nothing", PROMPT), running.key),
        *(ask(running, "/v1/chat/completions", chat("general", PROMPT), made["key"]) for _ in range(4)),
    ]
    assert all(status >= 400 for status, _ in refused[:4])
    hook = {"callback_url": f"{hosted}/hook"}
    tasks = [
        ask(running, "/v1/tasks", {**chat("hosted", text), **hook}, running.key)[1]
        for text in (PROMPT, f"fail {PROMPT}")
    ]
    for task in tasks:
        _until_it_has_ended(state, json.loads(task)["id"])
    run = json.loads(ask(running, "/v1/agents/assistant/runs", {"input": PROMPT}, running.key)[1])
    wait_until(lambda: run["id"].encode() in received.read_bytes(), 90, lambda: "the run is not traced")

    outputs = {
        "errors that clients were told": b"".join(body for _, body in refused),
        # Its own key is in the head of what it got.
        "spans": json.dumps(list(otlp.spans_in(received))).encode(),
        "stderr of stoker up": state.with_suffix(".err").read_bytes(),
        "command lines": "\n".join(
            " ".join(child.cmdline()) for child in psutil.Process(running.pid).children(recursive=True)
        ).encode(),
        **{f"stoker {' '.join(command)}": said_by(state, *command) for command in COMMANDS},
        **{
            f"metrics of {process['name']}": get(f"{process['url']}/metrics")
            for process in running.run_json()["processes"]  # type: ignore[attr-defined]
            if process["role"] in ("gateway", "engine")
        },
    }
    running.stop()
    files = [path for path in state.rglob("*") if path.is_file() and path.name != "credentials.json"]
    outputs |= {str(path.relative_to(state)): path.read_bytes() for path in files}
    outputs["stderr of stoker up"] = state.with_suffix(".err").read_bytes()
    assert {"logs/gateway.jsonl", "logs/worker-hosted-1.jsonl", "ledger.sqlite", "run.json"} <= set(outputs)

    found = [
        f"{what} in {where}"
        for where, text in outputs.items()
        for what, each in secrets.items()
        if each.encode() in text
    ]
    assert found == []
    by_design = ("redis/", "agents", "errors that clients were told")
    found = [
        f"{what} in {where}"
        for where, text in outputs.items()
        if not where.startswith(by_design)
        for what, each in written.items()
        if each.encode() in text
    ]
    assert found == []


COMMANDS = (
    ("usage",),
    ("cost",),
    ("cost", "--by", "key", "--json"),
    ("budgets", "--json"),
    ("keys", "list", "--json"),
    ("tenants", "list", "--json"),
    ("tasks", "list", "--json"),
    ("tasks", "dead", "--json"),
    ("audit", "--json"),
    ("ps", "--json"),
)


def _until_it_has_ended(state: Path, task_id: str) -> None:
    def has_ended() -> bool:
        task = json.loads(said_by(state, "tasks", "show", task_id, "--json"))
        return task["state"] in ("done", "dead")

    wait_until(has_ended, 60, lambda: f"task {task_id} has not ended")


def _of_process(running: Running, name: str, variable: str) -> str:
    value = psutil.Process(running.pid_of(name)).environ()[variable]
    assert len(value) > 20
    return value


def test_what_a_tenant_wants_to_be_recorded_is_on_its_spans(start: Start, collected: tuple[str, Path]) -> None:
    collector, received = collected
    running = start(
        spec="{llm: {models: {general: {}}}, tenants: {default: {recordContent: true}}}",
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": collector},
    )
    body = {"model": "general", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5}
    _, answer = ask(running, "/v1/chat/completions", body, running.key)
    said = json.loads(answer)["choices"][0]["message"]["content"]
    wait_until(lambda: PROMPT.encode() in received.read_bytes(), 30, lambda: "the prompt is not recorded")
    assert json.dumps(said)[1:-1].encode() in received.read_bytes().replace(b"\\", b"")
    assert os.environ.get("STOKER_RECORD_CONTENT") is None

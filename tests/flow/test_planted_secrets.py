"""Secrets are planted wherever a platform takes one, and then looked for in all that it says and writes."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import pytest
from flow_parts import STOKER, STOP_S, Running, Start, begin, wait_until

from stoker.queue.server import find_binary
from stoker.testing import otlp
from stoker.testing.postgres import PostgresServer, find_programs

pytestmark = [pytest.mark.flow, pytest.mark.redis]
Json = dict[str, Any]

UPSTREAM_KEY = "sk-planted-upstream-5c1f"
COLLECTOR_KEY = "planted-collector-9a2e"
HOOK_SECRET = "whsec_cGxhbnRlZC1ob29rLXNlY3JldC0wMTIzNDU2Nzg5YWI="
# Of characters that URLs write otherwise.
REDIS_PASSWORD, POSTGRES_PASSWORD = "planted/redis?pass wörd:1", "planted/postgres@pass+word#2"
WRONG_PASSWORD = "planted/wrong@pass word:3"
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
agents: {enabled: true, store: {url: "RUNS", passwordEnv: THEIR_POSTGRES}}
redis: {url: "REDIS/0", passwordEnv: THEIR_REDIS}
ledger: {url: "LEDGER", passwordEnv: THEIR_POSTGRES}
"""


class Hosted(BaseHTTPRequestHandler):
    """An engine of somebody else: it answers with what it was asked, and where it fails it tells the key and all."""

    protocol_version = "HTTP/1.1"
    hooks: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = json.loads(body) if body else {}
        asked = json.dumps(said.get("messages", ""))
        if self.path.endswith("/hook"):
            self.hooks.append(str(self.headers).encode() + body)
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
    Hosted.hooks = []
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


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Somebody else's server on a port, which wants a password: its URL without it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "redis.conf"
    config.write_text(
        f'bind 127.0.0.1\nport {port}\ndir "{tmp_path}"\nsave ""\nrequirepass "{REDIS_PASSWORD}"\n', encoding="utf-8"
    )
    with subprocess.Popen([str(find_binary()), str(config)], stdout=subprocess.DEVNULL) as process:

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_until(answers, 20, lambda: "Redis did not start")
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.kill()


@pytest.fixture
def databases(postgres: PostgresServer) -> Iterator[list[str]]:
    """The URLs, without the password, of two databases of a role that has one."""
    with postgres.database() as ledger, postgres.database() as runs, postgres.connect("postgres") as connection:
        names = [url.rpartition("/")[2] for url in (ledger, runs)]
        connection.execute(f"CREATE ROLE planted LOGIN PASSWORD '{POSTGRES_PASSWORD}'")
        for name in names:
            connection.execute(f"ALTER DATABASE {name} OWNER TO planted")
        try:
            yield [f"postgresql://planted@127.0.0.1:{postgres.port}/{name}" for name in names]
        finally:
            for name in names:
                connection.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
                with postgres.connect(name) as there:
                    there.execute("DROP OWNED BY planted CASCADE")
            connection.execute("DROP ROLE planted")


def forms_of(secret: str) -> set[bytes]:
    """As it is, as URLs and JSON write it, and as base64 writes each of these, wherever in the whole it begins."""
    plain = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    forms = {text.encode() for text in plain}
    for text in list(forms):
        for before in range(3):
            encoded = base64.b64encode(bytes(before) + text)[(4 if before else 0) : -4]
            forms |= {encoded, encoded.replace(b"/", b"_").replace(b"+", b"-")}
    return forms


def found_in(outputs: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[str]:
    forms = {what: forms_of(secret) for what, secret in secrets.items()}
    return [
        f"{what} in {where}"
        for where, text in outputs.items()
        for what, each in forms.items()
        if any(form in text for form in each)
    ]


def ask(running: Running, path: str, body: Json, key: str) -> tuple[int, bytes]:
    said = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(running.url + path, json.dumps(body).encode(), said)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def said_by(state: Path, *command: str, environ: Mapping[str, str] | None = None, check: bool = True) -> bytes:
    done = subprocess.run(
        [str(STOKER), *command, "--state", str(state)],
        capture_output=True,
        check=check,
        env={**os.environ, **(environ or {})},
    )
    return done.stdout + done.stderr


def refused_up(state: Path, spec: str, environ: Mapping[str, str]) -> dict[str, bytes]:
    """All that a `stoker up` says and writes that does not come up."""
    process = begin(state, spec=spec, environ=environ)
    out, _ = process.communicate(timeout=STOP_S)
    assert (process.returncode != 0, out) == (True, b"")
    return {"stderr": state.with_suffix(".err").read_bytes(), **written_in(state)}


def written_in(state: Path) -> dict[str, bytes]:
    # Their keys are in credentials.json for whoever owns the directory; nothing else has a reason to hold a secret.
    files = [path for path in state.rglob("*") if path.is_file() and path.name != "credentials.json"]
    return {str(path.relative_to(state)): path.read_bytes() for path in files}


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: bytes = answer.read()
        return text


def test_no_secret_is_in_anything_that_is_said_or_written(
    start: Start,
    hosted: str,
    collected: tuple[str, Path],
    redis: tuple[str, subprocess.Popen[bytes]],
    databases: list[str],
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    collector, received = collected
    redis_url, redis_server = redis
    environ = {
        "HOSTED_KEY": UPSTREAM_KEY,
        "HOOKS": HOOK_SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={COLLECTOR_KEY}",
        "THEIR_REDIS": REDIS_PASSWORD,
        "THEIR_POSTGRES": POSTGRES_PASSWORD,
    }
    ledger, runs = databases
    spec = SPEC.replace("HOSTED/", f"{hosted}/").replace("REDIS/0", redis_url)
    spec = spec.replace("LEDGER", ledger).replace("RUNS", runs)
    running = start(spec=spec, environ=environ)
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
        "the password of Redis": REDIS_PASSWORD,
        "the password of PostgreSQL": POSTGRES_PASSWORD,
        "a wrong password": WRONG_PASSWORD,
    }
    assert quote(REDIS_PASSWORD, safe="") in _of_process(running, "gateway", "STOKER_REDIS_URL")
    assert quote(POSTGRES_PASSWORD, safe="") in _of_process(running, "gateway", "STOKER_LEDGER_URL")
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

    whole = {name: _of_process(running, "gateway", name) for name in ("STOKER_REDIS_URL", "STOKER_LEDGER_URL")}
    outputs = {
        "errors that clients were told": b"".join(body for _, body in refused),
        "command lines": "\n".join(
            " ".join(child.cmdline()) for child in psutil.Process(running.pid).children(recursive=True)
        ).encode(),
        **{f"stoker {' '.join(command)}": said_by(state, *command, environ=whole) for command in COMMANDS},
        **metrics_of(running),
    }
    assert set(outputs) >= {"metrics of gateway", "metrics of worker-general-1", "metrics of supervisor"}

    # Their servers fail while everybody uses them.
    redis_server.kill()
    redis_server.wait()
    with postgres.connect("postgres") as connection:
        connection.execute("ALTER ROLE planted NOLOGIN")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'planted'")
    failed = [
        ask(running, "/v1/chat/completions", chat("general", PROMPT), running.key),
        ask(running, "/v1/tasks", chat("hosted", PROMPT), running.key),
        ask(running, "/v1/agents/assistant/runs", {"input": PROMPT}, running.key),
        ask(running, "/admin/v1/keys", {"tenant": "spender"}, running.admin_key),
    ]
    assert [status for status, _ in failed[1:]] == [503, 503, 503]
    outputs |= {
        "errors that clients were told while servers were down": b"".join(body for _, body in failed),
        **{
            f"stoker {' '.join(command)} while servers were down": said_by(state, *command, environ=whole, check=False)
            for command in (("usage", "--json"), ("tasks", "list"), ("status",))
        },
        **{f"{name} while servers were down": text for name, text in metrics_of(running).items()},
    }
    running.stop()
    with postgres.connect("postgres") as connection:
        connection.execute("ALTER ROLE planted LOGIN")
    outputs |= {
        **written_in(state),
        "stderr of stoker up": state.with_suffix(".err").read_bytes(),
        "the ledger": _dumped(postgres, ledger),
        "agents' runs": _dumped(postgres, runs),
        # Its own key is in the head of what it got.
        "spans": json.dumps(list(otlp.spans_in(received))).encode(),
        "hooks": b"".join(Hosted.hooks),
    }
    assert {"logs/gateway.jsonl", "logs/worker-hosted-1.jsonl", "run.json"} <= set(outputs)
    assert all(b"spender" in outputs[name] for name in ("the ledger", "stoker tenants list --json"))
    assert b"webhook-signature" in outputs["hooks"].lower()

    # And before anybody does.
    refusals = {
        "Redis refused": (spec, {}),
        "wrong PostgreSQL": (re.sub("redis:.*", "", spec), {"THEIR_POSTGRES": WRONG_PASSWORD}),
        "a password in platform.yaml": (spec.replace(ledger, whole["STOKER_LEDGER_URL"]), {}),
    }
    for what, (said, other) in refusals.items():
        told = refused_up(tmp_path / what / "state", said, {**environ, **other})
        outputs |= {f"{name}, {what}": text for name, text in told.items()}
    assert b"redis.url names a server that cannot be used, redis://@127.0.0.1" in outputs["stderr, Redis refused"]
    assert b"password authentication failed" in outputs["stderr, wrong PostgreSQL"]
    assert b"without a password" in outputs["stderr, a password in platform.yaml"]

    assert found_in(outputs, secrets) == []
    by_design = ("agents", "errors that clients were told", "hooks")
    outside = {where: text for where, text in outputs.items() if not where.startswith(by_design)}
    assert found_in(outside, written) == []


def metrics_of(running: Running) -> dict[str, bytes]:
    """What each process that answers a Prometheus says."""
    targets = json.loads((running.state / "prometheus/targets.json").read_text())
    return {f"metrics of {each['labels']['process']}": get(f"http://{each['targets'][0]}/metrics") for each in targets}


def _dumped(postgres: PostgresServer, database: str) -> bytes:
    url = postgres.url(database.rpartition("/")[2])
    return subprocess.run([str(find_programs() / "pg_dump"), url], capture_output=True, check=True).stdout


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
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "100"},
    )
    body = {"model": "general", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5}
    _, answer = ask(running, "/v1/chat/completions", body, running.key)
    said = json.loads(answer)["choices"][0]["message"]["content"]
    wait_until(lambda: PROMPT.encode() in received.read_bytes(), 30, lambda: "the prompt is not recorded")
    assert json.dumps(said)[1:-1].encode() in received.read_bytes().replace(b"\\", b"")
    assert os.environ.get("STOKER_RECORD_CONTENT") is None

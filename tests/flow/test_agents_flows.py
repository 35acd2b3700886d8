"""Agents on a real `stoker up`: real processes, a real MCP server, OpenAI's SDK; the model follows a script."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from agents_parts import Client, Json, cli, scripted, usage_of
from flow_parts import Running, Start, wait_until
from openai import OpenAI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = [pytest.mark.flow, pytest.mark.redis]

HERE = Path(__file__).parent
MCP_SERVER = HERE.parent / "agents" / "tool_server.py"
PLANTED = {"PLANTED_HEADER": "planted-in-a-header-8d1f", "PLANTED_VARIABLE": "planted-in-a-variable-77ab"}
MOST_OUTPUT = 64
OUTPUT_USD = 0.001  # of one token; what is asked costs a thousandth of that

SCRIPT = r"""
- when: {system: You are the assistant, from: user, last: 'what is (?P<sum>[-+*/(). \d]*\d)'}
  call: [{calculator: {expression: "{sum}"}}]
- when: {last: who am I, any: 'my name is (?P<name>\w+)'}
  say: "You are {name}."
- when: {last: who am I}
  say: I do not know you.
- when: {from: user, tools: time_convert_time}
  call: [{time_convert_time: {source_timezone: Asia/Tokyo, time: "09:30", target_timezone: Asia/Kolkata}}]
- when: {from: tool, last: '"time_difference": "(?P<hours>[^"]+)"'}
  say: "The difference is {hours}."
- when: {from: user, tools: note}
  call: [{note: {text: "{last}"}}]
- when: {from: user, tools: ours_env}
  call: [{ours_env: {}}, {page: {url: "URL/"}}]
- when: {from: tool}
  say: "It is {results}."
- say: "{last}"
"""

GRAPHS = """
import operator
from typing import Annotated, TypedDict

import openai
from langgraph.graph import END, START, StateGraph

from stoker.agents import current


class State(TypedDict):
    messages: list
    said: Annotated[list, operator.add]
    output: str


async def sdk(state):
    said = []
    async with openai.AsyncOpenAI(**current().openai, max_retries=0) as client:
        for word in state["messages"][-1]["content"].split():
            answer = await client.chat.completions.create(
                model="general",
                messages=[{"role": "user", "content": word}],
                max_tokens=64,
                extra_headers=current().once(),
            )
            said.append(answer.choices[0].message.content)
    return {"said": said}


async def ask(state):
    return {"said": [(await current().chat([{"role": "user", "content": "asked"}]))["content"]]}


async def pay(state):
    return {"said": [(await current().call("pay", {"usd": 5})).text]}


async def end(state):
    return {"output": " and ".join(state["said"])}


def with_sdk():
    graph = StateGraph(State)
    graph.add_node("sdk", sdk)
    graph.add_node("end", end)
    graph.add_edge(START, "sdk")
    graph.add_edge("sdk", "end")
    graph.add_edge("end", END)
    return graph


def at_once():
    graph = StateGraph(State)
    for node in (ask, pay):
        graph.add_node(node.__name__, node)
        graph.add_edge(START, node.__name__)
        graph.add_edge(node.__name__, "end")
    graph.add_node("end", end)
    graph.add_edge("end", END)
    return graph
"""

TOOLS = """
from pathlib import Path

HERE = Path(__file__).parent


def pay(usd: int) -> str:
    with (HERE / "paid").open("a") as paid:
        paid.write(f"{usd}\\n")
    (HERE / "gate").read_text()  # a pipe: nobody writes into it
    return "paid"


def note(text: str) -> str:
    with (HERE / "notes").open("a") as notes:
        notes.write(text + "\\n")
    return "noted"
"""


def spec(model_url: str, page_url: str, folder: Path) -> str:
    prices = {
        "inputUsdPerMillionTokens": OUTPUT_USD * 1000,
        "cachedInputUsdPerMillionTokens": OUTPUT_USD * 1000,
        "outputUsdPerMillionTokens": OUTPUT_USD * 1e6,
    }
    limits = {"contextTokens": 8192, "maxOutputTokens": MOST_OUTPUT}
    host = page_url.removeprefix("http://")
    said = {
        "llm": {"models": {"general": {"engine": {"url": f"{model_url}/v1"}, "limits": limits, "prices": prices}}},
        "tenants": {"default": {"recordContent": True}},
        "queue": {"maxAttempts": 3, "retryBaseSeconds": 0.05, "retryCapSeconds": 0.1},
        "agents": {
            "workers": {"replicas": {"min": 1, "max": 1}, "leaseSeconds": 2},
            "definitions": {
                "assistant": {
                    "instructions": "You are the assistant.",
                    "tools": ["calculator"],
                    "maxOutputTokens": MOST_OUTPUT,
                },
                "sdk": {"graph": "graphs.py:with_sdk"},
                "payer": {"graph": "graphs.py:at_once", "tools": ["pay"], "grants": ["pay"]},
                "traveller": {"tools": ["time"]},
                "clerk": {"tools": ["note"], "grants": ["note"]},
                "snoop": {"tools": ["ours", "page"], "grants": ["ours"]},
            },
            "tools": {
                "calculator": {"calculator": True},
                "pay": {"python": "tools.py:pay", "effect": "spend", "approval": "never", "timeoutSeconds": 600},
                "note": {"python": "tools.py:note", "effect": "write", "approval": "always"},
                "time": {"mcp": {"command": [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]}},
                "ours": {
                    "mcp": {
                        "command": [sys.executable, str(MCP_SERVER), str(folder)],
                        "env": {"GIVEN": "PLANTED_VARIABLE"},
                        "only": ["env"],
                    }
                },
                "page": {
                    "fetch": {
                        "hosts": [host],
                        "allowHttp": True,
                        "allowPrivate": True,
                        "headers": {"X-Token": "PLANTED_HEADER"},
                    }
                },
            },
        },
    }
    return yaml.safe_dump(said, sort_keys=False)


class Elsewhere(ThreadingHTTPServer):
    """A page that says what header it was sent, and a collector of traces, in one server. `posted`: bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Elsewhere)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.posted: list[bytes] = []
        self.tokens: list[str | None] = []


class _Elsewhere(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers["X-Token"])
        self._answer(f"your token is {self.headers['X-Token']}".encode())

    def do_POST(self) -> None:
        self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where platform.yaml, graphs and tools are."""
    made = tmp_path_factory.mktemp("agents")
    (made / "graphs.py").write_text(GRAPHS)
    (made / "tools.py").write_text(TOOLS)
    os.mkfifo(made / "gate")
    return made


@pytest.fixture(scope="module")
def running(_starting: Start, folder: Path, elsewhere: Elsewhere) -> Iterator[Running]:
    """One platform for all tests of this file, each of which begins runs of its own."""
    script = folder / "script.yaml"
    script.write_text(SCRIPT.replace("URL", elsewhere.url))
    environ = {**PLANTED, "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.url}
    with scripted(script) as model:
        made = _starting(spec=spec(model, elsewhere.url, folder), state=folder / "state", environ=environ)
        yield made
        made.stop()


@pytest.fixture
def client(running: Running) -> Client:
    return Client(running, running.key)


# --- runs, with OpenAI's SDK ------------------------------------------------------------------------------------------


def test_the_sdk_starts_a_run_and_reads_how_it_ended(running: Running) -> None:
    with OpenAI(base_url=f"{running.url}/v1", api_key=running.key) as sdk:
        made: Any = sdk.post("/agents/assistant/runs", cast_to=object, body={"input": "what is 6 * 7?"})
        run: Any = sdk.get(f"/agents/assistant/runs/{made['id']}", cast_to=object, options={"params": {"wait": 60}})
    assert (run["status"], run["output"]) == ("completed", "It is 42.")
    assert (run["usage"]["model_calls"], run["usage"]["tool_calls"]) == (2, 1)
    spent = usage_of(running, run["id"])
    assert {name: run["usage"][name] for name in spent if name != "requests"} == pytest.approx(
        {name: value for name, value in spent.items() if name != "requests"}
    )
    assert spent["requests"] == 2


def test_a_graph_that_uses_the_sdk_is_metered_and_held_by_the_limit_of_its_run(
    running: Running, client: Client
) -> None:
    run = client.run("sdk", "one two three")
    assert (run["status"], run["output"]) == ("completed", "one and two and three")
    spent = usage_of(running, run["id"])
    assert (spent["requests"], spent["completion_tokens"]) == (3, 3)

    # Enough for the bound of one call, and for what one costs, and not for both.
    most = OUTPUT_USD * (MOST_OUTPUT + 2)
    poor = client.run("sdk", "one two three", limits={"usd": most})
    assert (poor["status"], poor["reason"]) == ("failed", "budget_exhausted")
    spent = usage_of(running, poor["id"])
    assert 0 < spent["usd"] <= most
    assert spent["requests"] < 3


def test_money_ends_a_run_before_it_is_overspent(running: Running, client: Client) -> None:
    most = OUTPUT_USD * (MOST_OUTPUT + 2)
    run = client.run("assistant", "what is 6 * 7?", limits={"usd": most})
    assert (run["status"], run["reason"]) == ("failed", "budget_exhausted")
    spent = usage_of(running, run["id"])
    assert spent["requests"] == 1
    assert 0 < spent["usd"] <= most


def test_a_server_of_the_registry_is_a_tool(client: Client) -> None:
    run = client.run("traveller", "how far is Kolkata from Tokyo?")
    assert (run["status"], run["output"]) == ("completed", "The difference is -3.5h."), run["error"]


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_worker_is_killed_in_the_middle_of_a_step(running: Running, client: Client, folder: Path) -> None:
    """One node has had its answer, another has begun what may not be repeated. The run goes on elsewhere: the answer is
    not bought again, and of the call a person is asked."""
    paid = folder / "paid"
    run = client.start("payer", "pay")
    wait_until(lambda: paid.exists() and "model.completed" in client.types(run), 30, lambda: str(client.events(run)))
    killed = running.pid_of("worker-agents-1")
    os.kill(killed, signal.SIGKILL)

    waiting = client.ended(run)

    assert waiting["status"] == "waiting", waiting
    (wait,) = waiting["waiting_for"]
    assert (wait["kind"], wait["tool"], wait["arguments"]) == ("uncertain", "pay", {"usd": 5})
    assert running.pid_of("worker-agents-1") != killed
    assert cli(running, "agents", "runs", "answer", run, "the bank says that it was paid").returncode == 0
    ended = client.ended(run)
    assert (ended["status"], ended["output"]) == ("completed", "asked and the bank says that it was paid")
    assert paid.read_text() == "5\n"
    assert usage_of(running, run)["requests"] == 1
    assert ended["usage"]["model_calls"] == 1


def test_an_approval_outlives_the_workers(running: Running, client: Client, folder: Path) -> None:
    run = client.run("clerk", "remember the milk")
    assert [(wait["kind"], wait["arguments"]) for wait in run["waiting_for"]] == [
        ("approval", {"text": "remember the milk"})
    ]
    os.kill(running.pid_of("worker-agents-1"), signal.SIGKILL)

    said = cli(running, "agents", "runs", "approve", run["id"])

    assert said.returncode == 0, said.stderr
    ended = client.ended(run["id"])
    assert (ended["status"], ended["output"]) == ("completed", "It is noted.")
    assert (folder / "notes").read_text().splitlines().count("remember the milk") == 1


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_go_on_where_the_connection_was_cut(client: Client) -> None:
    run = client.start("clerk", "cut it")
    with client.stream(run) as events:
        before = [next(events) for _ in range(3)]
    assert [event["id"] for event in before] == [1, 2, 3]
    after: list[Json] = []
    with client.stream(run, after=3) as events:
        for event in events:
            after.append(event)
            if event["type"] == "run.waiting":
                client.call("POST", f"/v1/agents/clerk/runs/{run}/resume", {"decision": "reject", "message": "no"})
    told = client.events(run)
    assert [*before, *after] == told
    assert [event["id"] for event in told] == list(range(1, len(told) + 1))
    assert told[-1]["type"] == "run.completed"

    socket = client.running.url.replace("http", "ws") + f"/v1/agents/runs/{run}/ws?after=5"
    with connect(socket, additional_headers={"Authorization": f"Bearer {client.key}"}) as there:
        assert [json.loads(message) for message in there] == told[5:]


# --- memory and time --------------------------------------------------------------------------------------------------


def test_a_thread_remembers(client: Client) -> None:
    client.run("assistant", "my name is Ada", thread="ada")
    assert client.run("assistant", "who am I", thread="ada")["output"] == "You are Ada."
    assert client.run("assistant", "who am I", thread="else")["output"] == "I do not know you."
    roles = [each["role"] for each in client.call("GET", "/v1/agents/assistant/threads/ada")["messages"]]
    assert roles == ["user", "assistant"] * 2
    client.call("DELETE", "/v1/agents/assistant/threads/ada")
    assert client.run("assistant", "who am I", thread="ada")["output"] == "I do not know you."


def test_a_schedule_makes_runs(client: Client) -> None:
    body = {"cron": "@every 1s", "input": "on time", "metadata": {"by": "schedule"}}
    made = client.call("POST", "/v1/agents/assistant/schedules", body)

    def runs() -> list[Json]:
        found = client.call("GET", "/v1/agents/assistant/runs?limit=100")["data"]
        return [run for run in found if run["metadata"] == {"by": "schedule"}]

    wait_until(lambda: len(runs()) >= 2, 30, lambda: str(runs()))
    client.call("DELETE", f"/v1/agents/assistant/schedules/{made['id']}")
    assert {client.ended(run["id"])["output"] for run in runs()} == {"on time"}


# --- what nobody may see ----------------------------------------------------------------------------------------------


def test_a_planted_secret_is_nowhere(running: Running, client: Client, elsewhere: Elsewhere) -> None:
    """One tool sends one of the secrets to a page that repeats it, a program gets the other and prints all of its
    environment; the model says all that it reads."""
    run = client.run("snoop", "what do you know?")
    assert run["status"] == "completed", run
    assert elsewhere.tokens == [PLANTED["PLANTED_HEADER"]]
    assert "your token is [secret PLANTED_HEADER]" in run["output"]
    assert "'GIVEN', '[secret PLANTED_VARIABLE]'" in run["output"]
    said = [json.dumps(client.call("GET", f"/v1/agents/runs/{run['id']}{path}")) for path in ("", "/trace")]
    shown = cli(running, "agents", "runs", "show", run["id"])
    wait_until(
        lambda: any(b"invoke_agent snoop" in body for body in elsewhere.posted),
        30,
        lambda: f"{len(elsewhere.posted)} traces",
    )
    told = [
        span
        for body in elsewhere.posted
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for span in of_resource.scope_spans[0].spans
    ]
    traces = {span.trace_id for span in told if span.name == "invoke_agent snoop"}
    calls = {span.span_id for span in told if span.trace_id in traces and span.name.startswith("chat ")}
    asked = [span for span in told if span.trace_id in traces and span.name == "POST /v1/chat/completions"]
    below = {span.parent_span_id for span in asked}
    assert below, "the gateway's spans are of the run's trace"
    assert below <= calls, "each below the call of a model that caused it"
    assert any(b"your token is [secret PLANTED_HEADER]" in body for body in elsewhere.posted)
    files = {path: path.read_bytes() for path in running.state.rglob("*") if path.is_file()}
    assert any(b"[secret PLANTED_HEADER]" in data for data in files.values())
    for value in PLANTED.values():
        assert [str(path) for path, data in files.items() if value.encode() in data] == []
        assert value not in "".join([*said, *[json.dumps(event) for event in client.events(run["id"])]])
        assert value not in shown.stdout + shown.stderr
        assert not any(value.encode() in body for body in elsewhere.posted)


def test_a_stranger_finds_nothing_and_an_admin_everything(running: Running, client: Client) -> None:
    body = {"cron": "0 0 1 1 *", "input": "x"}
    schedule = client.call("POST", "/v1/agents/clerk/schedules", body)["id"]
    run = client.run("clerk", "ours alone", thread="ours")["id"]
    made = Client(running, running.admin_key).call("POST", "/admin/v1/keys", {"tenant": "strangers"})
    stranger, admin = Client(running, made["key"]), Client(running, running.admin_key)
    routes = [
        *[("GET", f"{base}/{run}{rest}") for base in BASES for rest in ("", "?wait=1", "/events", "/trace")],
        *[("GET", f"{base}/{run}/events?format=json") for base in BASES],
        *[("POST", f"{base}/{run}/{verb}") for base in BASES for verb in ("cancel", "resume")],
        ("GET", "/v1/agents/clerk/threads/ours"),
        ("DELETE", "/v1/agents/clerk/threads/ours"),
        ("DELETE", f"/v1/agents/clerk/schedules/{schedule}"),
    ]
    body = {"decision": "approve"}
    assert {
        (method, path): status
        for method, path in routes
        if (status := stranger.status(method, path, body if method == "POST" else None)) != 404
    } == {}
    for path in ("/v1/agents/runs", "/v1/agents/clerk/runs", "/v1/agents/clerk/schedules"):
        assert stranger.call("GET", path)["data"] == []
    assert stranger.call("GET", "/v1/agents/clerk/runs?thread=ours")["data"] == []
    for base in BASES:
        socket = running.url.replace("http", "ws") + f"{base}/{run}/ws"
        with connect(socket, additional_headers={"Authorization": f"Bearer {stranger.key}"}) as there:
            assert json.loads(there.recv())["error"]["code"] == "run_not_found"
            with pytest.raises(ConnectionClosed):
                there.recv()
    # Its own thread of the same name is another one.
    assert stranger.run("assistant", "who am I", thread="ada")["output"] == "I do not know you."

    assert client.ended(run)["status"] == "waiting"
    assert admin.call("GET", f"/v1/agents/clerk/runs/{run}")["id"] == run
    assert schedule in [each["id"] for each in admin.call("GET", "/v1/agents/clerk/schedules")["data"]]
    assert run in [each["id"] for each in admin.call("GET", "/v1/agents/runs?status=waiting")["data"]]
    assert admin.call("POST", f"/v1/agents/clerk/runs/{run}/cancel")["status"] == "cancelled"


BASES = ("/v1/agents/runs", "/v1/agents/clerk/runs")

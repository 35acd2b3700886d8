"""One request through gateway, queue, worker and engine is one trace, as a collector's process received it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_parts import ONE_MODEL, Running, Start, wait_until

from stoker.testing import otlp

pytestmark = pytest.mark.flow
Json = dict[str, Any]
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a collector in a process of its own, and the file that it writes."""
    path = tmp_path_factory.mktemp("otlp") / "received.jsonl"
    argv = [sys.executable, "-m", "stoker.testing.otlp", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), path
        finally:
            process.terminate()


def ask(running: Running, path: str, body: Json, **headers: str) -> bytes:
    said = {"Authorization": f"Bearer {running.key}", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{running.url}{path}", json.dumps(body).encode(), said)
    with urllib.request.urlopen(request, timeout=60) as answer:
        whole: bytes = answer.read()
        return whole


def tree_of(path: Path, trace_id: str, spans: int) -> list[str]:
    """The spans of a trace, each below its parent: service, kind and name."""
    found: list[Json] = []

    def are_there() -> bool:
        found[:] = [each for each in otlp.spans_in(path) if each["traceId"] == trace_id]
        return len(found) >= spans

    wait_until(are_there, 20, lambda: f"only {[each['name'] for each in found]}")
    known = {each["spanId"] for each in found}

    def below(parent: str | None, depth: int) -> Iterator[str]:
        for each in sorted(found, key=lambda span: int(span["startTimeUnixNano"])):
            above = each.get("parentSpanId")
            if above == parent or (parent is None and above not in known):
                yield f"{'  ' * depth}{each['service']} {each['kind']} {each['name']}"
                yield from below(each["spanId"], depth + 1)

    return list(below(None, 0))


def named(path: Path, trace_id: str, service: str, kind: str) -> Json:
    [found] = [
        each
        for each in otlp.spans_in(path)
        if (each["traceId"], each["service"], each["kind"]) == (trace_id, service, kind)
    ]
    return found


def of_tokens(path: Path, trace_id: str) -> list[tuple[str, str]]:
    return [
        (each["service"], each["kind"])
        for each in otlp.spans_in(path)
        if each["traceId"] == trace_id and "gen_ai.usage.input_tokens" in each["attributes"]
    ]


def test_one_request_is_one_trace(start: Start, collected: tuple[str, Path]) -> None:
    url, path = collected
    running = start(
        spec=f"{ONE_MODEL}\nagents: {{enabled: true, workers: {{replicas: {{min: 1}}}}}}",
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"},
    )
    body = {"model": "general", "max_tokens": 4, "messages": [{"role": "user", "content": "PROMPTMARKER"}]}
    parent = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1"}
    answer = json.loads(ask(running, "/v1/chat/completions", body, **parent))
    assert tree_of(path, TRACE, 3) == [
        "stoker-gateway SERVER POST /v1/chat/completions",
        "  stoker-gateway CLIENT chat general",
        "    stoker-engine SERVER chat general",
    ]
    server = named(path, TRACE, "stoker-gateway", "SERVER")
    assert (server["parentSpanId"], server["traceState"]) == (CALLER, "vendor=1")
    said = server["attributes"]
    assert (said["stoker.tenant"], said["stoker.model"]) == ("default", "general")
    assert said["http.response.status_code"] == 200
    # Tokens are told once in a trace, so that a backend that adds them up (Langfuse) has them right.
    assert of_tokens(path, TRACE) == [("stoker-gateway", "CLIENT")]
    said = named(path, TRACE, "stoker-gateway", "CLIENT")["attributes"]
    assert said["gen_ai.usage.input_tokens"] == answer["usage"]["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert said["gen_ai.response.finish_reasons"] == [answer["choices"][0]["finish_reason"]]
    engine = named(path, TRACE, "stoker-engine", "SERVER")["attributes"]
    assert engine["gen_ai.latency.time_in_queue"] >= 0
    assert engine["gen_ai.latency.time_in_model_prefill"] > 0

    streamed = "1" * 32
    ask(running, "/v1/chat/completions", {**body, "stream": True}, traceparent=f"00-{streamed}-{CALLER}-01")
    assert len(tree_of(path, streamed, 3)) == 3
    said = named(path, streamed, "stoker-gateway", "CLIENT")["attributes"]
    assert said["gen_ai.response.finish_reasons"] in (["length"], ["stop"])
    assert said["gen_ai.response.time_to_first_chunk"] > 0

    vectors = "6" * 32
    text = {"model": "general", "input": "PROMPTMARKER"}
    ask(running, "/v1/embeddings", text, traceparent=f"00-{vectors}-{CALLER}-01")
    assert tree_of(path, vectors, 3) == [
        "stoker-gateway SERVER POST /v1/embeddings",
        "  stoker-gateway CLIENT embeddings general",
        "    stoker-engine SERVER embeddings general",
    ]

    queued = "2" * 32
    task = {"endpoint": "/v1/chat/completions", "body": body}
    ask(running, "/v1/tasks", task, traceparent=f"00-{queued}-{CALLER}-01")
    assert tree_of(path, queued, 5) == [
        "stoker-gateway SERVER POST /v1/tasks",
        "  stoker-gateway PRODUCER send general",
        "    stoker-worker CONSUMER process general",
        "      stoker-worker CLIENT chat general",
        "        stoker-engine SERVER chat general",
    ]
    assert named(path, queued, "stoker-worker", "CONSUMER")["attributes"]["stoker.queue.wait_s"] >= 0
    assert of_tokens(path, queued) == [("stoker-worker", "CLIENT")]

    def logged() -> set[str]:
        files = (running.state / "logs").glob("worker*")
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return {line["trace_id"] for line in lines if line["event"] == "task done"}

    wait_until(lambda: bool(logged()), 10, lambda: "no task done in the logs")
    assert logged() == {queued}

    # A run of an agent, whose step is a task, and whose calls of models come back to the gateway.
    agents = "5" * 32
    ask(running, "/v1/agents/assistant/runs", {"input": "hello"}, traceparent=f"00-{agents}-{CALLER}-01")
    assert tree_of(path, agents, 9) == [
        "stoker-gateway SERVER POST /v1/agents/{name}/runs",
        "  stoker-agents INTERNAL invoke_agent assistant",
        "    stoker-agents INTERNAL step 1",
        "      stoker-agents CLIENT chat general",
        "        stoker-gateway SERVER POST /v1/chat/completions",
        "          stoker-gateway PRODUCER send general",
        "            stoker-worker CONSUMER process general",
        "              stoker-worker CLIENT chat general",
        "                stoker-engine SERVER chat general",
    ]

    # One that its caller does not sample is passed on, and not told.
    unseen = "3" * 32
    ask(running, "/v1/chat/completions", body, traceparent=f"00-{unseen}-{CALLER}-00")
    ask(running, "/v1/agents/assistant/runs", {"input": "hello"}, traceparent=f"00-{unseen}-{CALLER}-00")
    assert running.stop() == 0
    everything = path.read_text()
    assert unseen not in everything
    assert "PROMPTMARKER" not in everything
    assert running.key not in everything
    # Each process sends its metrics, once more when it ends.
    assert {service for line in otlp.received(path, "metrics") for service in services_of(line)} == {
        "stoker-agent-worker",
        "stoker-agents",
        "stoker-engine",
        "stoker-gateway",
        "stoker-supervisor",
        "stoker-worker",
    }


def services_of(line: Json) -> Iterator[str]:
    for each in line["message"]["resourceMetrics"]:
        said = {one["key"]: one["value"] for one in each["resource"]["attributes"]}
        yield said["service.name"]["stringValue"]

"""One request through all processes is one trace, in a collector that is a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_parts import Running, Start, wait_until
from openai import AuthenticationError, OpenAI

pytestmark = [pytest.mark.flow, pytest.mark.redis]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SPEC = """
llm: {models: {general: {replicas: {min: 1, max: 1}}}}
agents: {enabled: true}
"""


class Collector:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "spans.jsonl"
        argv = [sys.executable, "-P", "-m", "stoker.testing.otlp", str(self._file)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def spans(self, trace: str | None = None) -> list[Any]:
        lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        spans = [line["span"] for line in lines if "span" in line]
        return [span for span in spans if trace in (None, span["trace"])]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    made = Collector(tmp_path_factory.mktemp("collector"))
    yield made
    made.process.kill()
    made.process.wait()
    assert made.process.stdout is not None
    made.process.stdout.close()


@pytest.fixture(scope="module")
def running(_starting: Start, collector: Collector) -> Running:
    return _starting(spec=SPEC, environ={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})


def tree(spans: list[Any], below: str | None) -> list[Any]:
    """Scope, kind and name of each span below another, with what is below it."""
    found = sorted((span for span in spans if span["parent"] == below), key=lambda span: span["began_ns"])
    return [[f"{span['scope']} {span['kind']} {span['name']}", *tree(spans, span["id"])] for span in found]


def whole(collector: Collector, trace: str, count: int) -> list[Any]:
    wait_until(lambda: len(collector.spans(trace)) >= count, 60, lambda: f"{count} spans, not {collector.spans(trace)}")
    return collector.spans(trace)


STRAIGHT = [
    "stoker.gateway server POST /v1/chat/completions",
    [
        "stoker.gateway client chat general",
        ["stoker.engine server POST /v1/chat/completions"],
    ],
]
QUEUED = [
    "stoker.gateway server POST /v1/tasks",
    [
        "stoker.gateway producer send general",
        [
            "stoker.worker consumer process general",
            [
                "stoker.worker client chat general",
                ["stoker.engine server POST /v1/chat/completions"],
            ],
        ],
    ],
]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_straight_to_its_engine(running: Running, collector: Collector, stream: bool) -> None:
    trace = TRACE[:-1] + str(int(stream))
    with OpenAI(base_url=running.url + "/v1", api_key=running.key, max_retries=0) as sdk:
        answer: Any = sdk.chat.completions.create(
            model="general",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=5,
            stream=stream,
            extra_headers={"traceparent": f"00-{trace}-{SPAN}-01", "X-Session-Id": "s1"},
        )
        if stream:
            list(answer)
    spans = whole(collector, trace, 3)
    assert tree(spans, SPAN) == [STRAIGHT]
    server = next(span for span in spans if span["kind"] == "server" and span["scope"] == "stoker.gateway")
    assert (
        server["attributes"]
        | {
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "general",
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.conversation.id": "s1",
            "stoker.tenant": "default",
            "stoker.replica": "general-1",
        }
        == server["attributes"]
    )
    assert {span["status"] for span in spans} == {"unset"}


def test_a_task_through_queue_and_worker(running: Running, collector: Collector) -> None:
    trace = TRACE[:-1] + "2"
    with OpenAI(base_url=running.url + "/v1", api_key=running.key, max_retries=0) as sdk:
        sdk.post(
            "/tasks",
            cast_to=dict,
            body={"model": "general", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
            options={"headers": {"traceparent": f"00-{trace}-{SPAN}-01"}},
        )
    spans = whole(collector, trace, 5)
    assert tree(spans, SPAN) == [QUEUED]
    consumer = next(span for span in spans if span["kind"] == "consumer")
    assert consumer["attributes"]["messaging.destination.name"] == "stoker:tasks:general"
    assert consumer["attributes"]["gen_ai.usage.output_tokens"] == 5
    assert consumer["attributes"]["stoker.queue_wait_s"] >= 0


def test_a_request_that_is_refused_is_an_error_of_a_known_word(running: Running, collector: Collector) -> None:
    trace = TRACE[:-1] + "3"
    with OpenAI(base_url=running.url + "/v1", api_key="sk-stoker-wrong", max_retries=0) as sdk:
        with pytest.raises(Exception, match="401"):
            sdk.post("/chat/completions", cast_to=dict, options={"headers": {"traceparent": f"00-{trace}-{SPAN}-01"}})
    [span] = whole(collector, trace, 1)
    assert span["status"] == "error"
    assert span["attributes"]["http.response.status_code"] == 401
    assert "sk-stoker-wrong" not in json.dumps(span)


def test_models_that_an_agent_asks_are_in_the_trace_of_its_run(running: Running, collector: Collector) -> None:
    with OpenAI(base_url=running.url + "/v1", api_key=running.key, max_retries=0, timeout=120) as sdk:
        made = sdk.post("/agents/assistant/runs", cast_to=dict, body={"input": "hello"})

    def calls() -> list[Any]:
        mine = {
            span["id"]: span
            for span in collector.spans()
            if span["scope"] == "stoker.agents"
            and span["name"].startswith("chat ")
            and span["attributes"].get("stoker.run") == made["id"]
        }
        return [(mine[span["parent"]], span) for span in collector.spans() if span["parent"] in mine]

    wait_until(lambda: bool(calls()), 90, lambda: f"no call of {made['id']} has a span of the gateway below it")
    model, server = calls()[0]
    assert server["scope"] == "stoker.gateway"
    assert server["name"] == "POST /v1/chat/completions"
    assert server["trace"] == model["trace"]
    assert server["attributes"]["stoker.agent"] == "assistant"

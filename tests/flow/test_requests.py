"""The OpenAI SDK, unmodified, against the real processes; and afterwards the ledger, record by record."""

import base64
import io
import os
import signal
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from flow_parts import STOP_S, Running, Start, wait_until
from openai import APIError, AuthenticationError, NotFoundError, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk
from PIL import Image

from stoker.gateway.bounds import bound_of
from stoker.local.up import is_ready
from stoker.meter import UsageRecord
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.spec import loads
from stoker.telemetry import metrics

pytestmark = [pytest.mark.flow, pytest.mark.redis]

HELLO: Any = [{"role": "user", "content": "Say hello."}]
STORY: Any = [{"role": "user", "content": "Tell me a long story."}]

# An answer that does not end by itself: its end, token 1 of the embedded engine, is never chosen.
ENDLESS: Any = {"model": "general", "messages": STORY, "stream": True, "max_tokens": 3000, "logit_bias": {"1": -100}}

# Room for it, on one model.
ROOMY = "llm: {models: {general: {limits: {contextTokens: 4096, maxOutputTokens: 3000}}}}\n"

# And two replicas with short leases, so that another worker takes over within the patience of a test.
TWO_REPLICAS = """
llm: {models: {general: {replicas: {min: 2, max: 2}, limits: {contextTokens: 4096, maxOutputTokens: 3000}}}}
queue: {leaseSeconds: 2, retryBaseSeconds: 0.2}
"""


def sdk(running: Running, path: str = "/v1") -> OpenAI:
    return OpenAI(base_url=running.url + path, api_key=running.key, max_retries=0, timeout=60)


def records(running: Running) -> dict[str, UsageRecord]:
    store = Store(f"sqlite:///{running.state}/ledger.sqlite")
    try:
        return {record.id: record for record in Ledger(store).records()}
    finally:
        store.close()


def record_of(running: Running, request_id: str) -> UsageRecord:
    """The one record of a request, as soon as the gateway has moved it to the ledger."""
    wait_until(lambda: request_id in records(running), 20, lambda: f"no record of {request_id}")
    return records(running)[request_id]


def engine_metric(running: Running, name: str) -> float:
    engine = next(p for p in running.run_json()["processes"] if p["name"] == "engine-general-1")  # type: ignore[attr-defined]
    with urllib.request.urlopen(engine["url"] + "/metrics", timeout=20) as answer:
        return metrics.read(answer.read().decode(), name)[name]


def counts(record: UsageRecord) -> tuple[str, int, int]:
    return record.status, record.prompt_tokens, record.completion_tokens


def test_nobody_gets_round_the_gateway_to_an_engine(platform: Running) -> None:
    engine = next(p for p in platform.run_json()["processes"] if p["name"] == "engine-general-1")  # type: ignore[attr-defined]
    with (
        OpenAI(base_url=engine["url"] + "/v1", api_key=platform.key, max_retries=0) as direct,
        pytest.raises(AuthenticationError, match="send the request to the gateway"),
    ):
        direct.chat.completions.create(model="general", messages=HELLO, max_tokens=1)


@pytest.mark.parametrize("path", ["/v1", "/v1/general", "/v1/code", "/v1/vision"])
def test_a_whole_answer_on_each_route(platform: Running, path: str) -> None:
    with sdk(platform, path) as client:
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=HELLO, max_tokens=8)
    answer = raw.parse()
    model = "general" if path == "/v1" else path.removeprefix("/v1/")
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    record = record_of(platform, raw.headers["x-request-id"])
    assert (record.model, record.tenant, record.route) == (
        model,
        "default",
        "auto:general" if path == "/v1" else "prefix",
    )
    assert counts(record) == ("done", answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_a_stream_says_its_usage_only_when_asked(platform: Running) -> None:
    with sdk(platform) as client:
        quiet = list(client.chat.completions.create(model="general", messages=HELLO, stream=True, max_tokens=8))
        raw = client.chat.completions.with_raw_response.create(
            model="general", messages=HELLO, stream=True, stream_options={"include_usage": True}, max_tokens=8
        )
        telling = list(raw.parse())
    assert all(chunk.usage is None for chunk in quiet)
    assert [chunk.usage is not None for chunk in telling] == [False] * (len(telling) - 1) + [True]
    usage = telling[-1].usage
    assert usage is not None
    assert telling[-1].choices == []
    assert "".join(chunk.choices[0].delta.content or "" for chunk in telling[:-1])
    assert counts(record_of(platform, raw.headers["x-request-id"])) == (
        "done",
        usage.prompt_tokens,
        usage.completion_tokens,
    )


def test_models_are_listed_on_each_route(platform: Running) -> None:
    with sdk(platform) as client, sdk(platform, "/v1/code") as code:
        assert [model.id for model in client.models.list()] == ["general", "code", "vision", "auto"]
        assert [model.id for model in code.models.list()] == ["code", "auto"]
        assert client.models.retrieve("vision").owned_by == "stoker"
        with pytest.raises(NotFoundError, match="the models are: general, code, vision"):
            client.chat.completions.create(model="gpt-9", messages=HELLO)


def test_auto_sends_an_image_to_the_vision_model_which_sees_it(platform: Running) -> None:
    def ask(colour: str) -> tuple[str, str]:
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(picture, "PNG")
        url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
        content: Any = [
            {"type": "text", "text": "What colour is this image?"},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": content}], max_tokens=24, temperature=0
        )
        return raw.headers["x-stoker-model"], raw.parse().choices[0].message.content or ""

    with sdk(platform) as client:
        (red_model, red), (blue_model, blue) = ask("red"), ask("blue")
    assert (red_model, blue_model) == ("vision", "vision")
    assert "red" in red.lower()
    assert "blue" in blue.lower()


def test_a_stream_that_is_given_up_is_metered_as_far_as_it_came(start: Start) -> None:
    running = start(spec=ROOMY)
    with sdk(running) as client:
        raw = client.chat.completions.with_raw_response.create(**ENDLESS)
        stream = raw.parse()
        for _ in range(4):
            next(stream)
        stream.close()
    record = record_of(running, raw.headers["x-request-id"])
    assert record.status == "cancelled"
    assert record.prompt_tokens > 0
    assert 3 <= record.completion_tokens < ENDLESS["max_tokens"]
    # The engine has not gone on for nobody, but for the steps that it took meanwhile.
    wait_until(lambda: engine_metric(running, "vllm:num_requests_running") == 0, 20, lambda: "the engine goes on")
    assert record.completion_tokens <= engine_metric(running, "vllm:generation_tokens_total") < ENDLESS["max_tokens"]
    running.stop()


def test_a_task_is_awaited_and_metered(platform: Running) -> None:
    with sdk(platform) as client:
        submitted = client.post("/tasks", cast_to=dict, body={"model": "code", "messages": HELLO, "max_tokens": 8})
        done = client.get(f"/tasks/{submitted['id']}?wait=60", cast_to=dict)
    assert (done["state"], done["attempts"], done["failures"]) == ("done", 1, [])
    usage = done["result"]["usage"]
    record = record_of(platform, submitted["id"])
    assert (record.kind, record.model) == ("task", "code")
    assert counts(record) == ("done", usage["prompt_tokens"], usage["completion_tokens"])


def test_a_killed_engine_comes_back_and_nobody_who_asks_meanwhile_is_turned_away(start: Start) -> None:
    running = start(spec=ROOMY)
    with sdk(running) as client:
        stream = client.chat.completions.create(**ENDLESS)
        next(stream)
        os.kill(running.pid_of("engine-general-1"), signal.SIGKILL)
        # Until the end of what was in the sockets, then the error: an answer that broke off never looks whole.
        with pytest.raises(APIError, match=r"broke off|closed the connection"):
            list(stream)
        raw = client.chat.completions.with_raw_response.create(model="general", messages=HELLO, max_tokens=8)
    answer = raw.parse()
    assert answer.choices[0].message.content
    wait_until(lambda: len(records(running)) == 2, 20, lambda: f"records: {records(running)}")
    broken, whole = records(running).values()
    assert broken.status == "failed"
    assert broken.completion_tokens >= 1
    assert answer.usage is not None
    assert counts(whole) == ("done", answer.usage.prompt_tokens, answer.usage.completion_tokens)
    running.stop()


def test_a_task_whose_worker_is_killed_is_finished_by_another_once(start: Start) -> None:
    # More than a thousand tokens are still to come: the engines stand still long before the last of them.
    body = {**ENDLESS, "max_tokens": 1500}
    running = start(spec=TWO_REPLICAS)
    engines = {replica: running.pid_of(f"engine-{replica}") for replica in ("general-1", "general-2")}
    workers = {replica: running.pid_of(f"worker-{replica}") for replica in engines}
    with sdk(running) as client:
        task: str = client.post("/tasks", cast_to=dict, body=body)["id"]
        _wait_for_first_chunk(client, task)
        for engine in engines.values():
            os.kill(engine, signal.SIGSTOP)
        seen = client.get(f"/tasks/{task}", cast_to=dict)
        assert (seen["state"], seen["attempts"]) == ("running", 1)
        holder = seen["worker"]
        os.kill(workers[holder], signal.SIGKILL)
        for engine in engines.values():
            os.kill(engine, signal.SIGCONT)
        done = client.get(f"/tasks/{task}?wait=60", cast_to=dict)
    assert (done["state"], done["attempts"]) == ("done", 2)
    assert [failure["worker"] for failure in done["failures"]] == [holder]
    assert "lease expired" in done["failures"][0]["why"]
    record = record_of(running, task)
    assert record.attempts == 2
    # Nobody knows what the engine had produced for the lost attempt, so the most that it can have been counts, too.
    lost = bound_of(body, loads(TWO_REPLICAS).llm.models["general"], output_tokens=body["max_tokens"])
    answered = done["result"]["usage"]["prompt_tokens"]
    assert counts(record) == ("done", answered + lost.prompt_tokens, 2 * body["max_tokens"])
    assert len(records(running)) == 1
    running.stop()


def test_whatever_is_killed_each_task_is_done_and_metered_once(start: Start) -> None:
    running = start(spec=TWO_REPLICAS)
    body = {"model": "general", "messages": STORY, "max_tokens": 32}
    tasks: list[str] = []
    with sdk(running) as client:
        for name in ("worker-general-1", "engine-general-2", "gateway", "redis"):
            tasks += [client.post("/tasks", cast_to=dict, body=body)["id"] for _ in range(5)]
            pid = running.pid_of(name)
            if name == "redis":
                pid = psutil.Process(pid).children()[0].pid  # the server itself, not its keeper
            os.kill(pid, signal.SIGKILL)
            _wait_until_back(running, name)
        states = [client.get(f"/tasks/{task}?wait=60", cast_to=dict)["state"] for task in tasks]
    assert states == ["done"] * 20
    wait_until(lambda: len(records(running)) >= 20, 20, lambda: f"records: {records(running)}")
    assert {id: record.status for id, record in records(running).items()} == dict.fromkeys(tasks, "done")
    running.stop()


def _wait_until_back(running: Running, name: str) -> None:
    """Until a process was started again, and the platform is what it was."""

    def is_back() -> bool:
        processes = {process["name"]: process for process in running.run_json()["processes"]}  # type: ignore[attr-defined]
        has_all = all(process["state"] == "ready" for process in processes.values())
        return has_all and processes[name]["restarts"] == 1 and is_ready(running.url)

    wait_until(is_back, 60, lambda: f"not back: {running.run_json()}")


def _wait_for_first_chunk(client: OpenAI, task: str) -> None:
    stream = client.get(
        f"/tasks/{task}/events",
        cast_to=ChatCompletionChunk,
        stream=True,
        stream_cls=Stream[ChatCompletionChunk],
    )
    with stream:
        assert next(stream).choices


def test_unfinished_tasks_are_found_again_by_the_next_stoker_up(start: Start, tmp_path: Any) -> None:
    first = start(spec="llm: {models: {general: {}}}\n", state=tmp_path / "state")
    stopped = _stopped(first.pid_of("worker-general-1"))
    with sdk(first) as client:
        task = client.post("/tasks", cast_to=dict, body={"model": "general", "messages": HELLO, "max_tokens": 4})["id"]
        assert client.get(f"/tasks/{task}", cast_to=dict)["state"] in ("queued", "running")
    os.kill(first.pid, signal.SIGKILL)  # nobody drains: what is not in Redis now is lost
    first.process.wait(STOP_S)
    stopped()
    first.wait_until_nothing_is_left()

    second = start(spec="llm: {models: {general: {}}}\nqueue: {leaseSeconds: 2}\n", state=tmp_path / "state")
    with sdk(second) as client:
        done = client.get(f"/tasks/{task}?wait=60", cast_to=dict)
    assert done["state"] == "done"
    assert record_of(second, task).status == "done"
    second.stop()


def _stopped(pid: int) -> Callable[[], None]:
    """Let a process stand still; the answer ends it for good."""
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGKILL)

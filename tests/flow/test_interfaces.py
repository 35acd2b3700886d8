"""Responses and embeddings: OpenAI's SDK, unmodified, against the real processes; then the ledger, record by record."""

import os
import signal
from typing import Any

import pytest
from flow_parts import Running, Start, wait_until
from openai import APIStatusError, OpenAI
from test_requests import ROOMY, counts, engine_metric, record_of, records, sdk

from stoker.nn import bundle
from stoker.nn.tokenizer import Message

pytestmark = [pytest.mark.flow, pytest.mark.redis]

STORY = "Tell me a long story."
# An answer that does not end by itself: its end, token 1 of the embedded engine, is never chosen.
NO_END: Any = {"logit_bias": {"1": -100}}


def text_tokens(*texts: str) -> int:
    tokenizer = bundle.load().tokenizer
    return sum(len(tokenizer.text_prompt(text)) for text in texts)


def asked_tokens(text: str) -> int:
    return len(bundle.load().tokenizer.chat_prompt([Message("user", [text])]))


def limited(running: Running, **budgets: Any) -> OpenAI:
    """The SDK with a key that has so much."""
    with OpenAI(base_url=running.url + "/admin/v1", api_key=running.admin_key, max_retries=0) as admin:
        made = admin.post("/keys", cast_to=dict, body={"tenant": "default", "budgets": budgets})
    return OpenAI(base_url=running.url + "/v1", api_key=made["key"], max_retries=0, timeout=60)


@pytest.mark.parametrize("path", ["/v1", "/v1/general", "/v1/code", "/v1/vision"])
def test_vectors_on_each_route(platform: Running, path: str) -> None:
    texts = ["A fox is an animal.", "one two three"]
    with sdk(platform, path) as client:
        raw = client.embeddings.with_raw_response.create(model="auto", input=texts)
    made = raw.parse()
    assert [len(each.embedding) for each in made.data] == [192, 192]
    assert [sum(x * x for x in each.embedding) for each in made.data] == pytest.approx([1, 1], abs=1e-5)
    count = text_tokens(*texts)
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (count, count)
    record = record_of(platform, raw.headers["x-request-id"])
    assert record.model == ("general" if path == "/v1" else path.removeprefix("/v1/"))
    assert counts(record) == ("done", count, 0)


def test_vectors_through_a_task_are_those_of_a_request(platform: Running) -> None:
    body = {"model": "general", "input": "one two three", "encoding_format": "float"}
    with sdk(platform) as client:
        direct = client.embeddings.create(model="general", input="one two three", encoding_format="float")
        task = client.post("/tasks", cast_to=dict, body={"endpoint": "/v1/embeddings", "body": body})
        done = client.get(f"/tasks/{task['id']}?wait=60", cast_to=dict)
    assert done["state"] == "done"
    assert done["result"]["data"][0]["embedding"] == direct.data[0].embedding
    assert counts(record_of(platform, task["id"])) == ("done", text_tokens("one two three"), 0)


def test_a_budget_refuses_vectors_that_could_go_beyond_it(platform: Running) -> None:
    with limited(platform, tokensTotal=100) as client:
        made = client.embeddings.create(model="general", input="one two three")
        with pytest.raises(APIStatusError) as caught:
            client.embeddings.create(model="general", input=[[9] * 47, [9] * 47])
        # What one took is settled exactly, so the next one has the rest.
        client.embeddings.create(model="general", input=[9] * (100 - made.usage.prompt_tokens - 2))
    assert (caught.value.status_code, caught.value.code) == (402, "budget_exhausted")


@pytest.mark.parametrize("path", ["/v1", "/v1/code"])
def test_a_whole_response(platform: Running, path: str) -> None:
    with sdk(platform, path) as client:
        raw = client.responses.with_raw_response.create(model="auto", input="What is 6 times 7?", temperature=0)
    made = raw.parse()
    assert made.output_text == "6 times 7 is 42."
    assert made.usage is not None
    record = record_of(platform, raw.headers["x-request-id"])
    assert counts(record) == ("done", asked_tokens("What is 6 times 7?"), made.usage.output_tokens)


def test_a_streamed_response(platform: Running) -> None:
    with sdk(platform) as client:
        raw = client.responses.with_raw_response.create(
            model="general", input="What is 6 times 7?", temperature=0, stream=True
        )
        events = list(raw.parse())
        with client.responses.stream(model="general", input="What is 6 times 7?", temperature=0) as stream:
            assert stream.get_final_response().output_text == "6 times 7 is 42."
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "6 times 7 is 42."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    usage = last.response.usage
    assert usage is not None
    record = record_of(platform, raw.headers["x-request-id"])
    assert counts(record) == ("done", usage.input_tokens, usage.output_tokens)
    receipt: Any = last.to_dict()["stoker"]
    assert receipt["cost_usd"] == record.nano_usd / 1e9


def test_a_response_is_as_long_as_its_budget_lasts_and_then_refused(platform: Running) -> None:
    with limited(platform, tokensTotal=160) as client:
        # Nobody said how long, so it is shortened to what is left.
        made = client.responses.create(model="general", input=STORY, extra_body=NO_END)
        with pytest.raises(APIStatusError) as caught:
            client.responses.create(model="general", input=STORY, max_output_tokens=60)
    assert made.status == "incomplete"
    assert made.usage is not None
    assert 16 <= made.usage.output_tokens < made.usage.total_tokens <= 160
    assert (caught.value.status_code, caught.value.code) == (402, "budget_exhausted")


def test_a_response_as_a_task(platform: Running) -> None:
    body = {"model": "general", "input": "What is 6 times 7?", "temperature": 0}
    with sdk(platform) as client:
        task = client.post("/tasks", cast_to=dict, body={"endpoint": "/v1/responses", "body": body})
        done = client.get(f"/tasks/{task['id']}?wait=60", cast_to=dict)
    assert done["result"]["output"][0]["content"][0]["text"] == "6 times 7 is 42."
    usage = done["result"]["usage"]
    assert counts(record_of(platform, task["id"])) == ("done", usage["input_tokens"], usage["output_tokens"])


def test_what_is_given_up_is_metered_as_far_as_it_came(start: Start) -> None:
    running = start(spec=ROOMY)
    with sdk(running) as client:
        raw = client.responses.with_raw_response.create(
            model="general", input=STORY, stream=True, max_output_tokens=3000, extra_body=NO_END
        )
        stream = raw.parse()
        for _ in range(7):
            next(stream)
        stream.close()
        record = record_of(running, raw.headers["x-request-id"])
        assert record.status == "cancelled"
        assert record.prompt_tokens == asked_tokens(STORY)
        assert 3 <= record.completion_tokens < 3000
        wait_until(lambda: engine_metric(running, "vllm:num_requests_running") == 0, 20, lambda: "the engine goes on")
        # Every token that was computed is in the record, but for the step that was under way.
        computed = engine_metric(running, "vllm:generation_tokens_total")
        assert record.completion_tokens <= computed <= record.completion_tokens + 2
    running.stop()


def test_a_gateway_that_is_killed_leaves_the_record_to_its_successor(start: Start) -> None:
    running = start(spec=ROOMY)
    with sdk(running) as client:
        raw = client.responses.with_raw_response.create(
            model="general", input=STORY, stream=True, max_output_tokens=3000, extra_body=NO_END
        )
        next(raw.parse())
        os.kill(running.pid_of("gateway"), signal.SIGKILL)
        record = record_of(running, raw.headers["x-request-id"])
    assert (record.status, record.prompt_tokens) == ("cancelled", asked_tokens(STORY))
    assert 1 <= record.completion_tokens < 3000
    assert "counted by the engine" in (record.reason or "")
    assert len(records(running)) == 1
    running.stop()

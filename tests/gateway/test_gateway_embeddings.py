"""`/v1/embeddings` through the gateway: counted, bounded, with nothing generated."""

import asyncio
from typing import Any

import pytest
from gateway_parts import Stack, running_worker

from stoker.testing.engine import EchoEngine

PATH = "/v1/embeddings"


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "input": ["one two", "three"], **changes}


async def test_vectors_are_counted_and_have_a_receipt(stack: Stack) -> None:
    engine = await stack.engine()
    raw = await (await stack.sdk()).embeddings.with_raw_response.create(
        **asked(), encoding_format="float", extra_headers={"X-Session-Id": "s1"}
    )
    made = raw.parse()
    assert [each.embedding for each in made.data] == [[2.0], [1.0]]
    record = await stack.record()
    assert (record.id, record.status, record.session) == (raw.headers["x-request-id"], "done", "s1")
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (3, 0, 3 * 1000)
    assert (raw.headers["x-stoker-prompt-tokens"], raw.headers["x-stoker-completion-tokens"]) == ("3", "0")
    # No length is put into a body that has none.
    assert engine.requests[0].body == {**asked(), "encoding_format": "float"}


@pytest.mark.parametrize("prefix", ["general", "code", "vision"])
async def test_every_prefix_has_it(stack: Stack, prefix: str) -> None:
    await stack.engine(prefix)
    answer = await (await stack.http()).request("POST", f"/v1/{prefix}/embeddings", body={"input": "one"})
    assert (answer.status, answer.headers["x-stoker-model"]) == (200, prefix)


async def test_auto_is_one_model_since_vectors_of_two_cannot_be_compared(stack: Stack) -> None:
    for model in ("general", "code"):
        await stack.engine(model)
    http = await stack.http()
    for text in ("hello", "Write a python function that adds", "```python\ndef f(): ...\n```"):
        answer = await http.request("POST", PATH, body={"model": "auto", "input": text})
        assert (answer.headers["x-stoker-model"], answer.headers["x-stoker-route"]) == ("general", "auto:general")


async def test_a_stream_is_refused(stack: Stack) -> None:
    await stack.engine()
    answer = await (await stack.http()).request("POST", PATH, body=asked(stream=True))
    assert (answer.status, answer.json()["error"]["param"]) == (400, "stream")


async def test_one_whose_client_goes_is_stopped(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(0)
    http = await stack.http()
    request = asyncio.create_task(http.request("POST", PATH, body=asked()))
    seen = await hold.reached()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert await seen.end() == "cancelled"
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 3, 0)


async def test_through_the_queue_and_as_a_task(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        made = await (await stack.sdk()).embeddings.create(**asked(), encoding_format="float")
        http = await stack.http()
        task = (await http.post_json("/v1/tasks", {"endpoint": PATH, "body": asked()}))["id"]
        done = await http.get_json(f"/v1/tasks/{task}?wait=20")
        assert "stream" not in engine.requests[0].body
    assert [each.embedding for each in made.data] == [[2.0], [1.0]]
    assert [each["embedding"] for each in done["result"]["data"]] == [[2.0], [1.0]]
    records = await stack.records()
    assert [(each.kind, each.status, each.prompt_tokens, each.completion_tokens) for each in records] == [
        ("task", "done", 3, 0)
    ] * 2


async def test_a_task_that_is_cancelled_stops_its_engine(stack: Stack) -> None:
    http = await stack.http()
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(0)
        task = (await http.post_json("/v1/tasks", {"endpoint": PATH, "body": asked()}))["id"]
        seen = await hold.reached()
        assert (await http.request("DELETE", f"/v1/tasks/{task}")).status == 200
        assert await seen.end() == "cancelled"
        record = await stack.record()
    assert (record.id, record.status, record.prompt_tokens) == (task, "cancelled", 3)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("not json", "is not JSON"),
        ("[]", "is no object"),
    ],
)
async def test_an_answer_that_is_none_fails_its_task(stack: Stack, answer: str, error: str) -> None:
    http = await stack.http()
    async with EchoEngine() as engine:
        engine.refuse(200, answer, times=2)
        async with running_worker(stack, engine, "w1"):
            task = (await http.post_json("/v1/tasks", {"endpoint": PATH, "body": asked()}))["id"]
            done = await http.get_json(f"/v1/tasks/{task}?wait=20")
    assert done["state"] == "dead"
    assert error in done["error"]["message"]


async def test_a_refusal_of_the_engine_kills_its_task_and_costs_nothing(stack: Stack) -> None:
    http = await stack.http()
    async with EchoEngine() as engine:
        engine.refuse(404, "there is nothing here", times=2)
        async with running_worker(stack, engine, "w1"):
            task = (await http.post_json("/v1/tasks", {"endpoint": PATH, "body": asked()}))["id"]
            done = await http.get_json(f"/v1/tasks/{task}?wait=20")
        assert len(engine.requests) == 1
        await stack.announce(engine)
        answer = await http.request("POST", PATH, body=asked())
        assert answer.status == 404
    assert (done["state"], done["error"]["status"]) == ("dead", 404)
    [record] = await stack.records()
    assert (record.id, record.status, record.prompt_tokens) == (task, "failed", 0)

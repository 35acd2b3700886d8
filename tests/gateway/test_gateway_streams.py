"""Streams straight from a replica: what the client gets, what is counted, and what happens when one side goes away."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, Stack, a_platform, a_stack, an_ask, events_of, until
from openai import APIError

CHAT = "/v1/chat/completions"


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, "stream": True, **changes}


def usage(completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 4,
        "completion_tokens": completion_tokens,
        "total_tokens": 4 + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_a_stream_comes_word_by_word_and_is_counted(stack: Stack) -> None:
    engine = await stack.engine()
    engine.cached_tokens = 2
    sdk = await stack.sdk()

    stream: Any = await sdk.chat.completions.create(**asked())
    words = [chunk.choices[0].delta.content async for chunk in stream]

    assert words == ["one", " two", " three", " four", None]
    record = await stack.record()
    assert (record.kind, record.status, record.tenant, record.model) == ("request", "done", "acme", "general")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (4, 2, 4)
    assert record.nano_usd == 2 * 1000 + 2 * 500 + 4 * 2000
    assert (record.replica, record.route, record.attempts) == ("general-0", "model", 1)
    assert record.started_at <= (record.first_token_at or 0) <= record.ended_at


async def test_completions_stream_too(stack: Stack) -> None:
    await stack.engine()
    sdk = await stack.sdk()

    stream = await sdk.completions.create(model="general", prompt="a b c", stream=True, max_tokens=2)
    said = [(chunk.choices[0].text, chunk.choices[0].finish_reason) async for chunk in stream]

    assert said == [("a", None), (" b", None), ("", "length")]


async def test_usage_is_in_no_chunk_unless_it_was_asked_for(stack: Stack) -> None:
    await stack.engine()
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        *chunks, done = await events_of(answer)

    assert done == "[DONE]"
    assert len(chunks) == 5
    assert not any("usage" in chunk for chunk in chunks)


async def test_include_usage_gives_it_once_at_the_end(stack: Stack) -> None:
    await stack.engine()
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked(stream_options={"include_usage": True})) as answer:
        *chunks, last, _ = await events_of(answer)

    assert [chunk["usage"] for chunk in chunks] == [None] * 5
    assert (last["choices"], last["usage"]) == ([], usage(4))


async def test_continuous_usage_is_passed_on_to_who_asks_for_it(stack: Stack) -> None:
    await stack.engine()
    http = await stack.http()
    options = {"include_usage": True, "continuous_usage_stats": True}

    async with http.stream("POST", CHAT, body=asked(stream_options=options)) as answer:
        *chunks, _ = await events_of(answer)

    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 4, 4]


async def test_the_answer_says_who_gave_it(stack: Stack) -> None:
    await stack.engine()
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked(), headers={"X-Session-Id": "s1", "X-Run-Id": "r1"}) as answer:
        await events_of(answer)

    record = await stack.record()
    assert (record.session, record.run) == ("s1", "r1")
    assert answer.headers["x-request-id"] == record.id
    assert answer.headers["x-stoker-model"] == "general"
    assert answer.headers["x-stoker-replica"] == "general-0"
    assert answer.headers["x-stoker-route"] == "model"
    assert answer.headers["content-type"].startswith("text/event-stream")


# --- an engine that fails ---------------------------------------------------------------------------------------------


async def test_an_engine_that_breaks_off_ends_the_stream_with_an_error_and_is_counted_to_the_chunk(
    stack: Stack,
) -> None:
    engine = await stack.engine()
    engine.break_off_after(2)
    sdk = await stack.sdk()
    words = []

    stream: Any = await sdk.chat.completions.create(**asked())
    with pytest.raises(APIError, match="replica general-0 closed the connection in"):  # noqa: PT012 - the loop raises
        async for chunk in stream:
            words.append(chunk.choices[0].delta.content)

    assert words == ["one", " two"]
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("failed", 4, 2)
    assert stack.gateway.fleet.members["general-0"].in_flight == 0


async def test_an_error_that_the_engine_says_in_the_middle_ends_the_stream_as_failed(stack: Stack) -> None:
    engine = await stack.engine()
    engine.fail_after(1, {"message": "out of memory", "type": "server_error", "code": 500})
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        *chunks, last = await events_of(answer)

    assert len(chunks) == 1
    assert last["error"]["message"] == "the engine failed in the middle of the answer: out of memory (ask again)"
    assert last["error"]["code"] == "upstream_error"
    assert (await stack.record()).status == "failed"


async def test_a_replica_that_breaks_before_the_first_event_is_passed_over(stack: Stack) -> None:
    first, second = await stack.engine(), await stack.engine()
    first.break_off_after(0)
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        *chunks, _ = await events_of(answer)

    assert len(chunks) == 5
    assert answer.headers["x-stoker-replica"] == "general-1"
    assert [engine.requests[0].state for engine in (first, second)] == ["broken", "done"]
    record = await stack.record()
    assert (record.status, record.replica, record.attempts) == ("done", "general-1", 2)
    assert {m.in_flight for m in stack.gateway.fleet.members.values()} == {0}


async def test_an_engine_error_before_the_stream_keeps_its_status(stack: Stack) -> None:
    engine = await stack.engine()
    engine.refuse(429, {"error": {"message": "slow down", "type": "t", "code": "c", "param": None}}, retry_after="7")
    engine.refuse(500, {"error": {"message": "broken", "type": "t", "code": "c", "param": None}})
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        assert answer.error is not None
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.error.json()["error"]["message"] == "slow down"
    assert await stack.records() == []  # never let in

    async with http.stream("POST", CHAT, body=asked()) as answer:
        assert answer.error is not None
        assert (answer.status, answer.error.json()["error"]["message"]) == (500, "broken")
    assert (await stack.record()).status == "failed"


async def test_an_engine_that_does_not_stream_is_no_engine(stack: Stack) -> None:
    engine = await stack.engine()
    engine.refuse(200, {"object": "chat.completion", "choices": []})
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        assert answer.error is not None
        assert (answer.status, answer.error.json()["error"]["code"]) == (502, "upstream_error")
    assert (await stack.record()).status == "failed"


# --- a client that goes away ------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_mid_stream_stops_the_engine_and_is_charged_to_the_chunk(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(2)
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        await anext(answer.events)
        assert await anext(answer.events)
        request = await hold.reached()
    assert await request.end() == "cancelled"

    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 4, 2)
    assert record.nano_usd == 4 * 1000 + 2 * 2000
    await until(lambda: stack.gateway.fleet.members["general-0"].in_flight == 0)


async def test_a_client_that_leaves_before_the_first_event_stops_the_engine(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(0)
    http = await stack.http()

    opening = http.stream("POST", CHAT, body=asked())
    entering = asyncio.create_task(opening.__aenter__())
    request = await hold.reached()
    entering.cancel()
    await asyncio.wait({entering})

    assert await request.end() == "cancelled"
    record = await stack.record()
    assert (record.status, record.completion_tokens, record.first_token_at) == ("cancelled", 0, None)
    await until(lambda: stack.gateway.fleet.members["general-0"].in_flight == 0)


async def test_a_stream_that_nobody_began_to_read_is_closed_and_counted(stack: Stack) -> None:
    """The moment between opening the upstream and the first write to the client."""
    engine = await stack.engine()
    services = stack.gateway.services
    hold = engine.hold_at(1)
    served = await services.inference.run(an_ask(stack, asked()))
    request = await hold.reached()
    assert stack.gateway.fleet.members["general-0"].in_flight == 1

    await served.aclose()

    assert await request.end() == "cancelled"
    assert stack.gateway.fleet.members["general-0"].in_flight == 0
    record = await stack.record()
    # Nobody saw its one token, but the engine says that it produced it.
    assert (record.status, record.completion_tokens) == ("cancelled", 1)


async def test_a_gateway_that_stops_cancels_what_runs_longer_than_its_grace_and_writes_it_down(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(3)
    http = await stack.http()

    async with http.stream("POST", CHAT, body=asked()) as answer:
        for _ in range(3):
            await anext(answer.events)
        request = await hold.reached()
        await stack.shut()
        assert await request.end() == "cancelled"

    [record] = stack.gateway.services.ledger.records()
    assert (record.status, record.completion_tokens) == ("cancelled", 3)


async def test_a_stream_is_ended_at_its_total_time(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=a_platform(total_s=0.3)) as stack:
        engine = await stack.engine()
        hold = engine.hold_at(1)
        http = await stack.http()

        async with http.stream("POST", CHAT, body=asked()) as answer:
            chunk, error = await events_of(answer)

        assert chunk["choices"][0]["delta"]["content"] == "one"
        assert error["error"]["code"] == "timeout"
        assert error["error"]["message"].startswith("the answer did not end in time")
        assert await (await hold.reached()).end() == "cancelled"
        assert (await stack.record()).status == "failed"


async def test_words_of_an_engine_that_nobody_can_write_down_end_a_stream_as_any_error_does(stack: Stack) -> None:
    engine = await stack.engine()
    engine.fail_after(2, {"message": "\ud83d half a smile"})
    http = await stack.http()
    async with http.stream("POST", CHAT, body={"model": "general", "messages": HELLO, "stream": True}) as answer:
        events = [json.loads(event) async for event in answer.events]
    said = "the engine failed in the middle of the answer: ? half a smile"
    assert events[-1]["error"]["message"] == f"{said} (ask again)"
    record = await stack.record()
    assert (record.status, record.reason) == ("failed", said)

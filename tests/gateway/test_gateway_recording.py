"""Answers of streams on spans: joined, bounded, and only where the tenant wants it."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, OTHER_KEY, a_stack, said_of

from stoker.gateway import recording, spans
from stoker.gateway.recording import Recorded
from stoker.gateway.spans import MOST_CONTENT
from stoker.spec import loads
from stoker.telemetry.spans import Tracing, shape
from stoker.testing import ManualClock
from stoker.testing.spans import Sink
from stoker.web import sse

Json = dict[str, Any]


def chunk(index: int = 0, **delta: Any) -> bytes:
    return sse.json_event({"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]})


def call(index: int, arguments: str, **named: str) -> Json:
    about = {"id": named["id"]} if named else {}
    function = {"name": named["name"]} if named else {}
    return {"index": index, **about, "function": {**function, "arguments": arguments}}


def messages_of(*passed: bytes) -> list[Json]:
    record = Recorded()
    for piece in passed:
        record.saw(piece)
    said: list[Json] = json.loads(record.messages() or "[]")
    return said


def test_texts_and_calls_of_tools_are_joined_in_their_order() -> None:
    assert messages_of(
        b": a comment\n\n",
        chunk(role="assistant", content=""),
        chunk(reasoning_content="h") + chunk(reasoning_content="m"),
        chunk(content="Hello") + chunk(1, content="Hi") + chunk(content=", you"),
        chunk(tool_calls=[call(0, "", id="c1", name="find")]),
        chunk(tool_calls=[call(0, '{"a"'), call(1, "{}", id="c2", name="stop")]) + chunk(tool_calls=[call(0, ": 1}")]),
        b"id: req_1/1-1\n" + chunk(content="!"),
        sse.event(b"no JSON") + sse.event(b"{no JSON") + sse.event(sse.DONE),
    ) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": "Hello, you!"},
                {"type": "tool_call", "id": "c1", "name": "find", "arguments": '{"a": 1}'},
                {"type": "tool_call", "id": "c2", "name": "stop", "arguments": "{}"},
            ],
        },
        {"role": "assistant", "parts": [{"type": "text", "content": "Hi"}]},
    ]
    text = [sse.json_event({"choices": [{"index": 0, "text": word}]}) for word in ("one ", "two")]
    assert messages_of(*text) == [{"role": "assistant", "parts": [{"type": "text", "content": "one two"}]}]


def test_a_response_is_joined_of_its_deltas() -> None:
    added = {"output_index": 1, "item": {"type": "function_call", "call_id": "c1", "name": "find"}}
    events = [
        {"type": "response.created", "response": {}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "lo"},
        {"type": "response.output_item.added", **added},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
    ]
    assert messages_of(*(sse.json_event(event, name=event["type"]) for event in events)) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "Hello"},
                {"type": "tool_call", "id": "c1", "name": "find", "arguments": "{}"},
            ],
        }
    ]


def test_no_more_is_kept_than_a_span_may_have() -> None:
    record = Recorded()
    for _ in range(10):
        record.saw(chunk(content="x" * 1000))
    [message] = json.loads(record.messages() or "")
    [part] = message["parts"]
    kept = MOST_CONTENT - recording._PART_CHARS
    assert part["content"] == "x" * kept + "..."

    many = Recorded()
    for number in range(1000):
        many.saw(chunk(number, content="") + chunk(number, tool_calls=[call(0, "", id="i" * 500, name="n" * 500)]))
    assert many.is_cut
    assert len(many.messages() or "") < 2 * MOST_CONTENT


@pytest.mark.parametrize("way", ["direct", "resumable"])
async def test_a_stream_is_recorded_for_the_tenant_that_wants_it(tmp_path: Path, way: str) -> None:
    sink = Sink()
    platform = loads("{llm: {models: {general: {}}}, tenants: {acme: {recordContent: true}, other: {}}}")
    body = {"model": "general", "messages": HELLO, "max_tokens": 4, "stream": True}
    headers = {"X-Stoker-Resumable": "true"} if way == "resumable" else {}
    async with a_stack(tmp_path, platform=platform) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        engine = await stack.engine()
        await stack.worker(engine)
        said = []
        for key in (KEY, OTHER_KEY):
            answer = await (await stack.http(key)).request("POST", "/v1/chat/completions", body=body, headers=headers)
            said.append(messages_of(answer.body))
    wanted, other = (span for span in sink.told if span.shape.kind == "server")
    assert said[0][0]["parts"][0]["content"]
    assert json.loads(wanted.attributes["gen_ai.output.messages"]) == said[0]
    assert said_of(wanted)["http.response.status_code"] == 200
    assert "gen_ai.output.messages" not in other.attributes


async def test_of_a_request_that_is_refused_nothing_is_recorded(tmp_path: Path) -> None:
    """Though its tenant wants what was asked to be: only what was let in."""
    sink = Sink()
    platform = loads("{llm: {models: {general: {}}}, tenants: {acme: {recordContent: true}}}")
    picture = {"type": "image_url", "image_url": {"url": "http://192.0.2.1/planted.png"}}
    body = {"model": "general", "messages": [{"role": "user", "content": [picture]}]}
    async with a_stack(tmp_path, platform=platform) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        await stack.engine()
        answer = await (await stack.http()).request("POST", "/v1/chat/completions", body=body)
    [server] = sink.told
    assert answer.status == said_of(server)["http.response.status_code"] == 400
    assert "planted" not in repr(server)
    assert said_of(server)["stoker.model"] is None


async def test_a_prompt_and_an_answer_are_cut(tmp_path: Path) -> None:
    sink = Sink()
    platform = loads("{llm: {models: {general: {}}}, tenants: {acme: {recordContent: true}}}")
    long = [{"role": "user", "content": "x" * 2 * MOST_CONTENT}]
    async with a_stack(tmp_path, platform=platform) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        await stack.engine()
        answer = await (await stack.http()).post_json("/v1/chat/completions", {"model": "general", "messages": long})
    [server] = (span for span in sink.told if span.shape.kind == "server")
    prompt = server.attributes["gen_ai.input.messages"]
    assert (len(prompt), prompt[-5:]) == (MOST_CONTENT + 3, "xx...")
    said = server.attributes["gen_ai.output.messages"]
    assert (len(said), said[-5:], answer["id"] in said) == (MOST_CONTENT + 3, "xx...", True)
    span = Tracing(sink, lambda *_: True).begin(None, server.shape, 1.0)
    span.with_content = True
    spans.answered_by(span, b"y" * 10 * MOST_CONTENT)
    assert len(span.attributes["gen_ai.output.messages"]) == MOST_CONTENT + 3


async def test_a_span_ends_also_where_nobody_reads_the_events(tmp_path: Path) -> None:
    """Its client was away before the first."""
    sink = Sink()
    span = Tracing(sink, lambda *_: True).begin(None, shape("server", "POST /v1/chat/completions"), 1.0)
    span.with_content = True

    async def events() -> AsyncGenerator[bytes, None]:
        yield chunk(content="unread")

    made = await recording.recorded(span, events(), ManualClock(start=2.0))
    await made.aclose()
    assert [(each.ended_at, said_of(each)["http.response.status_code"]) for each in sink.told] == [(2.0, 200)]

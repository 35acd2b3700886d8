"""A stream that is stopped in the middle because its engine produces more than the request was let in with: a clean end
for the client, the truth for the ledger. And what a stream's last piece says."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import Stack, a_stack, events_of
from starlette.requests import Request

from stoker.base.errors import UpstreamError
from stoker.engine.wires import CHAT as CHAT_WIRE
from stoker.gateway.relay import Relay, UsedUp
from stoker.meter.charge import Caller, Charge
from stoker.spec import Prices, loads
from stoker.testing.echo import Echo
from stoker.testing.engine import EchoEngine
from stoker.web import sse

CHAT = "/v1/chat/completions"
SIX = [{"role": "user", "content": "one two three four five six"}]
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "general"}
PRICES = Prices(
    input_usd_per_million_tokens=Decimal(1),
    cached_input_usd_per_million_tokens=Decimal(1),
    output_usd_per_million_tokens=Decimal(1),
)


class Talkative(EchoEngine):
    """It does not know `max_tokens`."""

    def _echo(self, request: Request, body: dict[str, Any]) -> Echo:
        free = {name: value for name, value in body.items() if name not in ("max_tokens", "max_completion_tokens")}
        return super()._echo(request, free)


async def test_an_engine_that_says_too_much_is_stopped_and_the_client_sees_a_clean_end(stack: Stack) -> None:
    async with Talkative() as engine:
        await stack.announce(engine)
        hold = engine.hold_at(3)  # it has produced one more than it may, and would go on
        http = await stack.http()
        body = {"model": "general", "messages": SIX, "stream": True, "max_tokens": 2}
        async with http.stream("POST", CHAT, body={**body, "stream_options": {"include_usage": True}}) as answer:
            first, second, end, last, done = await events_of(answer)

        assert [each["choices"][0]["delta"].get("content") for each in (first, second)] == ["one", " two"]
        assert end["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
        assert {name: end[name] for name in ("object", "model")} == {
            "object": "chat.completion.chunk",
            "model": "general",
        }
        assert done == "[DONE]"
        record = await stack.record()
        assert (record.status, record.reason) == ("cut", "it had produced all that it was let in with")
        assert (record.prompt_tokens, record.completion_tokens) == (6, 3)
        # What the client is told is what is in the ledger.
        assert (last["choices"], last["usage"]["completion_tokens"], last["stoker"]["cost_usd"]) == ([], 3, 12e-6)
        assert await (await hold.reached()).end() == "cancelled"


async def test_the_sdk_takes_a_cut_answer_for_one_that_reached_its_length(stack: Stack) -> None:
    async with Talkative() as engine:
        await stack.announce(engine)
        engine.hold_at(3)
        sdk = await stack.sdk()
        made: Any = await sdk.chat.completions.create(model="general", messages=SIX, stream=True, max_tokens=2)
        said = [(chunk.choices[0].delta.content, chunk.choices[0].finish_reason) async for chunk in made]
    assert said == [("one", None), (" two", None), (None, "length")]


async def test_a_completion_is_cut_in_its_own_words(stack: Stack) -> None:
    async with Talkative() as engine:
        await stack.announce(engine)
        engine.hold_at(2)
        sdk = await stack.sdk()
        made = await sdk.completions.create(model="general", prompt="a b c d", stream=True, max_tokens=1)
        said = [(chunk.choices[0].text, chunk.choices[0].finish_reason) async for chunk in made]
    assert said == [("a", None), ("", "length")]


async def test_an_engine_that_counts_nothing_is_cut_by_its_chunks(tmp_path: Path) -> None:
    """A server without vLLM's continuous usage: a chunk is a token, and what it had produced nobody can say."""
    platform = loads("llm: {models: {general: {engine: {url: 'http://127.0.0.1:9'}}}}\ntenants: {acme: {}, other: {}}")
    async with a_stack(tmp_path, platform=platform) as stack, Talkative() as engine:
        await stack.announce(engine)
        engine.hold_at(3)
        http = await stack.http()
        body = {"model": "general", "messages": SIX, "stream": True, "max_tokens": 2}
        async with http.stream("POST", CHAT, body=body) as answer:
            *_, end, done = await events_of(answer)
        assert (end["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
        record = await stack.record()
        # Of the prompt all that was reserved: 64 of the template, 8 of the message, its role and its text.
        assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cut", 64 + 8 + 4 + 27, 3)


# --- the relay alone --------------------------------------------------------------------------------------------------


def a_charge(completion: int) -> Charge:
    charge = Charge("r", "request", Caller("t", "k", None, None), "general", "model", PRICES, started_at=0.0)
    charge.most = (10, completion)
    return charge


def chunk(index: int, text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return json.dumps({**HEAD, "choices": [choice], **more}).encode()


def test_only_choices_that_have_begun_and_not_ended_are_ended() -> None:
    charge = a_charge(4)
    relay = Relay({}, charge)
    for event in (chunk(0, "a"), chunk(1, "b"), chunk(2, "c"), chunk(1, finish="stop"), chunk(0, "d")):
        assert relay.pass_on(event, 1.0) == sse.event(event)
    with pytest.raises(UsedUp):
        relay.pass_on(chunk(2, "e"), 2.0)
    ends = [json.loads(event.removeprefix(b"data: ")) for event in relay.cut()]
    assert [(end["choices"][0]["index"], end["choices"][0]["finish_reason"]) for end in ends] == [
        (0, "length"),
        (2, "length"),
    ]
    assert all({name: end[name] for name in HEAD} == HEAD for end in ends)
    assert (charge.completion_tokens, charge.text_bytes, charge.first_token_at) == (5, 5, 1.0)


def test_what_ends_before_it_begins_has_no_end_to_tell() -> None:
    assert Relay({}, a_charge(1)).cut() == []
    assert Relay({}, None).cut() == []


@pytest.mark.parametrize(
    ("options", "is_chunk"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), (None, False), ({"include_usage": 1}, False)],
)
def test_the_receipt_is_in_the_usage_chunk_or_a_comment(options: Any, is_chunk: bool) -> None:
    relay = Relay({"stream_options": options}, a_charge(9))
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert relay.pass_on(json.dumps({**HEAD, "choices": [], "usage": usage}).encode(), 1.0) is None
    told = relay.end({"cost_usd": 0.5})
    if is_chunk:
        last = {**HEAD, "choices": [], "usage": usage, "stoker": {"cost_usd": 0.5}}
        assert json.loads(told.removeprefix(b"data: ")) == last
    else:
        assert told == b': receipt {"cost_usd":0.5}\n\n'
    assert relay.usage == usage


@pytest.mark.parametrize("choices", [1, "text", {"0": {}}, [1], [None], [[]]])
def test_nonsense_of_an_engine_ends_the_stream_as_its_own_failure(choices: Any) -> None:
    with pytest.raises(UpstreamError, match="no chunk of an answer"):
        Relay({}, a_charge(9)).pass_on(json.dumps({**HEAD, "choices": choices}).encode(), 1.0)


@pytest.mark.parametrize("event", [b"not json", b"7", b"[]", b'"text"'])
def test_what_is_no_object_is_passed_on(event: bytes) -> None:
    assert Relay({}, a_charge(9)).pass_on(event, 1.0) == sse.event(event)


def test_usage_is_asked_for_without_losing_what_the_client_asked_for() -> None:
    body = {"model": "m", "stream_options": {"include_obfuscation": False}}
    assert CHAT_WIRE.asking(body, continuous=False) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }
    assert CHAT_WIRE.asking({"stream_options": "x"}, continuous=True)["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }
    assert body["stream_options"] == {"include_obfuscation": False}

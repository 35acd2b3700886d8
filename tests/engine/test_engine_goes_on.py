"""An answer that begins on one engine and ends on another is the answer that one would have given."""

import json

import pytest
from engine_builders import MODEL, Serving, default_bundle, serving

from stoker.base.errors import UpstreamError
from stoker.engine import going_on
from stoker.engine.tally import Tally
from stoker.meter.charge import Caller, Charge
from stoker.spec.llm import EXAMPLE_PRICES

QUESTIONS = ["Tell me a story about a fox.", "What is 6 times 7?", "Say hello.", "Écris: ünïcödé 日本"]
CHAT = "/v1/chat/completions"


async def streamed(engine: Serving, body: going_on.Json) -> list[going_on.Json]:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with engine.client.stream("POST", CHAT, body={**body, "stream": True, "stream_options": options}) as stream:
        return [json.loads(event) async for event in stream.events if event != b"[DONE]"]


def text_of(chunks: list[going_on.Json]) -> str:
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("question", QUESTIONS)
async def test_wherever_it_is_cut_the_rest_is_the_rest(question: str) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 40}
    async with serving() as engine:
        whole = await streamed(engine, body)
        text, usage = text_of(whole), whole[-1]["usage"]
        cuts = [place for place in range(1, len(whole)) if going_on.so_far(whole[:place])]
        assert cuts
        for place in cuts:
            begun = going_on.so_far(whole[:place])
            assert begun is not None
            tokens = whole[place - 1]["usage"]["completion_tokens"]
            asked = going_on.asking(CHAT, body, begun, completion_tokens=tokens)
            if asked is None:  # all that it may say is said
                assert tokens == 40
                continue
            counts = {"prompt_tokens": usage["prompt_tokens"], "cached_tokens": 0, "completion_tokens": tokens}
            rest = [going_on.rest(chunk, begun, **counts) for chunk in await streamed(engine, asked)]
            seen = [begun, *[chunk for chunk in rest if chunk is not None]]
            assert text_of(seen) == text
            # Tokens of which no text was out yet are generated again: of a character that was cut, or the answer's end,
            # where several tokens came at once.
            again = tokens - len(default_bundle().tokenizer.encode(text_of([begun])))
            assert 0 <= again <= 3
            assert seen[-1]["usage"]["completion_tokens"] == usage["completion_tokens"] + again
            assert seen[-1]["usage"]["prompt_tokens"] == usage["prompt_tokens"]
            assert {chunk["id"] for chunk in seen} == {whole[0]["id"]}


def a_chunk(*choices: object) -> going_on.Json:
    return {"id": "c", "object": "chat.completion.chunk", "choices": list(choices)}


def test_an_answer_may_begin_with_something_else_than_text() -> None:
    """As hosted ones do: with a chunk of the filter's results, or of the usage."""
    said = {"index": 0, "delta": {"content": "one"}}
    begun = going_on.so_far([{**a_chunk(), "usage": {}}, a_chunk({"index": 0, "delta": None}), a_chunk(said)])
    assert begun is not None
    assert begun["choices"][0]["delta"] == {"role": "assistant", "content": "one"}


@pytest.mark.parametrize("content", [5, ["one"], {"text": "one"}])
def test_what_is_no_text_is_not_gone_on_with(content: object) -> None:
    assert going_on.so_far([a_chunk({"index": 0, "delta": {"content": content}})]) is None


@pytest.mark.parametrize("choices", [5, [None], ["one"], [{"delta": "one"}], {"0": {}}])
def test_an_event_that_is_no_part_of_an_answer_is_the_engines_fault(choices: object) -> None:
    tally = Tally(Charge("req_1", "task", Caller("acme", "key_1", None, None), "m", None, EXAMPLE_PRICES, 0.0))
    with pytest.raises(UpstreamError, match="no part of an answer"):
        tally.saw({"choices": choices}, 1.0)


@pytest.mark.parametrize("choices", [5, [None], [{"delta": "one"}]])
def test_nonsense_of_an_engine_that_goes_on_is_its_fault_too(choices: object) -> None:
    begun = a_chunk({"index": 0, "delta": {"role": "assistant", "content": "one"}})
    with pytest.raises(UpstreamError, match="no part of an answer"):
        going_on.rest({"choices": choices}, begun, prompt_tokens=1, cached_tokens=0, completion_tokens=1)


def test_an_error_that_is_none_is_a_part_of_the_answer() -> None:
    """As some servers write in each event."""
    begun = a_chunk({"index": 0, "delta": {"role": "assistant", "content": "one"}})
    said = {"id": "other", "error": None, "choices": [{"index": 0, "delta": {"content": " two"}}]}
    said["usage"] = {"prompt_tokens": 9, "completion_tokens": 1}
    whole = going_on.rest(said, begun, prompt_tokens=5, cached_tokens=0, completion_tokens=3)
    assert whole is not None
    assert (whole["id"], whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == ("c", 5, 4)


@pytest.mark.parametrize("body", [{"max_tokens": "5"}, {"messages": ["hi"]}, {"messages": [{}]}])
def test_what_an_engine_would_refuse_is_not_gone_on_with(body: dict[str, object]) -> None:
    begun = a_chunk({"index": 0, "delta": {"role": "assistant", "content": "one"}})
    asked = going_on.asking(CHAT, {"messages": [], **body}, begun, completion_tokens=1)
    assert asked is None
    assert not going_on.has_said_all(CHAT, body, [begun], completion_tokens=1)

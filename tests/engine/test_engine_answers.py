"""One whole answer from the chunks of a streamed one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.engine.answers import assemble, has_content
from stoker.testing.echo import echo_of


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices), **more}


def said(content: str | None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": {"content": content}, "finish_reason": None, **more}


def message_of(*deltas: dict[str, Any]) -> Any:
    return assemble(chunk({"index": 0, "delta": delta}) for delta in deltas)["choices"][0]["message"]


def test_text_usage_and_the_end() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answer = assemble(
        [
            chunk({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}, usage=None),
            chunk(said("Hel"), system_fingerprint="f"),
            chunk(said("lo"), usage={"prompt_tokens": 1}),
            chunk({"index": 0, "delta": {}, "finish_reason": "stop"}),
            chunk(usage=usage),
        ]
    )
    assert answer == {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "system_fingerprint": "f",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("deltas", "message"),
    [
        ([{}], {"role": "assistant", "content": None}),
        ([{"content": None}, {"content": "a"}], {"role": "assistant", "content": "a"}),
        ([{"content": "a"}, {"content": None}], {"role": "assistant", "content": "a"}),
        (
            [{"reasoning_content": "hm"}, {"reasoning_content": "m"}, {"content": "a"}],
            {"role": "assistant", "content": "a", "reasoning_content": "hmm"},
        ),
        ([{"refusal": "No"}, {"refusal": "."}], {"role": "assistant", "content": None, "refusal": "No."}),
        ([{"role": "assistant"}, {"role": "assistant", "content": "a"}], {"role": "assistant", "content": "a"}),
    ],
)
def test_messages(deltas: list[dict[str, Any]], message: dict[str, Any]) -> None:
    assert message_of(*deltas) == message


def test_tool_calls_are_put_together_by_their_index() -> None:
    message = message_of(
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    )
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_logprobs_of_both_kinds_grow() -> None:
    chat = assemble([chunk(said("a", logprobs={"content": [{"token": "a"}]})), chunk(said("b", logprobs=None))])
    assert chat["choices"][0]["logprobs"] == {"content": [{"token": "a"}]}
    said_with = [("a", -1), ("b", -2)]
    pieces = [{"index": 0, "text": t, "logprobs": {"tokens": [t], "token_logprobs": [p]}} for t, p in said_with]
    plain = assemble({"object": "text_completion", "choices": [piece]} for piece in pieces)
    assert plain["choices"] == [
        {"index": 0, "text": "ab", "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1, -2]}}
    ]


def test_choices_are_in_the_order_of_their_index() -> None:
    answer = assemble([chunk(said("b", 1)), chunk(said("a", 0)), chunk(said("b", 1), said("a", 0))])
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["aa", "bb"]


def test_chunks_are_left_as_they_were() -> None:
    first = chunk({"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]}})
    assemble([first, chunk({"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "b"}}]}})])
    assert first["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]}


def test_no_chunk_is_no_answer() -> None:
    with pytest.raises(ValueError, match="the stream ended without a chunk"):
        assemble([])


words = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=6).map(" ".join)


@given(
    words,
    st.integers(1, 8),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_an_answer_is_the_same_whole_or_streamed(
    text: str, most: int, n: int, is_chat: bool, logprobs: bool, tools: bool, continuous: bool
) -> None:
    body: dict[str, Any] = {"max_tokens": most, "n": n, "logprobs": logprobs}
    body |= {"messages": [{"role": "user", "content": text}]} if is_chat else {"prompt": text}
    if tools and is_chat:
        body["tools"] = [{"type": "function", "function": {"name": "look_up"}}]
    echo = echo_of(body, is_chat=is_chat, number=1, model="m", cached_tokens=0, reply=None)
    assert assemble(echo.chunks(continuous=continuous)) == echo.whole()


@pytest.mark.parametrize(
    ("choices", "holds"),
    [
        ([said("a")], True),
        ([said("")], False),
        ([{"index": 0, "delta": {"role": "assistant"}}], False),
        ([{"index": 0, "delta": {"tool_calls": [{"index": 0}]}}], True),
        ([{"index": 0, "delta": {"reasoning_content": "hm"}}], True),
        ([{"index": 0, "text": "a"}], True),
        ([{"index": 0, "text": "", "finish_reason": "stop"}], False),
        ([], False),
    ],
)
def test_what_was_generated_is_told_from_the_frame_around_it(choices: list[Any], holds: bool) -> None:
    assert has_content({"choices": choices}) is holds
    assert has_content({}) is has_content({"choices": None}) is False

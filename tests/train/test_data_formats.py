"""Lines of data: what each format may be, and what a person is told of a line that is none."""

import json
from typing import Any

import pytest
from data_builders import assistant, call, chat, lines, user
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.train.formats import (
    MAX_LINE_BYTES,
    BadLine,
    Chat,
    Preference,
    Prompt,
    Text,
    example_of,
    read_lines,
)

SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
CALL = assistant(None, tool_calls=[call()])
FORMS = 'chat has "messages", prompt "prompt" and "completion", text "text", preference "chosen" and "rejected"'


def why(data: bytes) -> str:
    """The one bad line of the data."""
    (bad,) = read_lines(data, "train.jsonl")
    assert isinstance(bad, BadLine)
    return bad.why


def test_a_chat_is_its_messages_and_tools():
    tools = [{"type": "function", "function": {"name": "weather"}}]
    messages = [SYSTEM, user("Weather?"), CALL, TOOL, assistant("Sunny.")]
    assert example_of({"messages": messages, "tools": tools}) == Chat(messages, tools)
    assert example_of({"messages": messages, "tools": None, "id": 7}) == Chat(messages)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "developer", "content": "Be brief."},
        user(
            [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
            ]
        ),
        assistant("Wait.", tool_calls=[call(arguments={"city": "Paris"})]),
        assistant(None, tool_calls=[call(arguments="")]),
        assistant("No", weight=0, name="bot"),
        assistant([{"type": "refusal", "refusal": "No"}]),
    ],
)
def test_messages_are_what_openai_takes(message):
    assert example_of({"messages": [message, assistant("Yes")]}) == Chat([message, assistant("Yes")])


def test_a_prompt_is_text_or_messages():
    assert example_of({"prompt": "2+2=", "completion": "4"}) == Prompt("2+2=", "4")
    before, after = [user("1?"), assistant("1"), user("2?")], [assistant("2")]
    kept_out = [before[0], {**before[1], "weight": 0}, before[2]]
    assert example_of({"prompt": before, "completion": after}) == Chat([*kept_out, *after])
    assert example_of({"text": "Once"}) == Text("Once")


def test_a_preference_is_text_or_messages_or_two_conversations_that_begin_alike():
    wanted = Preference([user("2+2?")], [assistant("4")], [assistant("5")])
    assert example_of({"prompt": "2+2?", "chosen": "4", "rejected": "5"}) == wanted
    assert example_of({"prompt": [user("2+2?")], "chosen": [assistant("4")], "rejected": [assistant("5")]}) == wanted
    whole = {"chosen": [user("2+2?"), assistant("4")], "rejected": [user("2+2?"), assistant("5")]}
    assert example_of(whole) == wanted
    assert example_of({"prompt": "2+2?", **whole}) == wanted
    assert example_of({"prompt": [], **whole}) == wanted


def test_lines_have_their_numbers_and_blank_ones_count():
    data = b"\xef\xbb\xbf" + b'{"text": "a"}\r\n\r\n  \n{"text": "b"}'
    found = list(read_lines(data, "train.jsonl"))
    assert found == [(1, {"text": "a"}, Text("a")), (4, {"text": "b"}, Text("b"))]


def test_a_bad_line_is_told_and_the_next_is_read():
    data = b'{"text": "a"}\n{"text": \n{"text": "c"}\n'
    _, bad, last = read_lines(data, "train.jsonl")
    assert bad == BadLine("train.jsonl", 2, 'is not JSON: Expecting value at character 9 of "{\\"text\\":"')
    assert last == (3, {"text": "c"}, Text("c"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "the file has 0 bytes and no line; one JSON object a line would be right"),
        (b" \n\n", "the file has 3 bytes and no line; one JSON object a line would be right"),
        (b'[{"text": "a"},', "one object a line would be right, not one array"),
        (b"[1, 2]", f"is [1, 2], which is not an object; {FORMS}"),
        (b'"text"', f'is "text", which is not an object; {FORMS}'),
        (b"null", f"is null, which is not an object; {FORMS}"),
        (b"{}", f"has no keys, which is no known format; {FORMS}"),
        (b'{"txt": "a"}', 'has the keys ["txt"], which is no known format; did you mean "text", not "txt"?'),
        (b'{"message": []}', 'did you mean "messages", not "message"?'),
        (b'{"conversations": [{"from": "human"}]}', 'ShareGPT\'s "conversations" would be "messages"'),
        (b'{"instruction": "a", "output": "b"}', 'Alpaca\'s "instruction" and "output" would be "prompt" and'),
        (b'{"prompt": "a", "response": "b"}', 'has no "completion", which the format prompt has'),
        (b'{"prompt": "a", "chosen": "b"}', 'has no "rejected", which the format preference has'),
        (b'{"text": "a\xff"}', "is not UTF-8: byte 0xff at 12; save the file as UTF-8"),
        (
            '{"text": "a"}'.encode("utf-16"),
            "is not UTF-8: byte 0xff at 1; it looks like UTF-16; save the file as UTF-8",
        ),
        (b'{"text": "a", "n": NaN}', "holds NaN, which is not JSON; a number or null would be right"),
        (b'{"text": "a", "n": -Infinity}', "holds -Infinity, which is not JSON"),
        (b'{"text": 7}', "text is 7; a string would be right"),
        (b'{"text": ""}', "text is empty; there is nothing to learn from it"),
        (b'{"prompt": "a", "completion": ["b"]}', 'completion is ["b"]; prompt and completion would be two strings'),
        (b'{"prompt": "a", "completion": ""}', "completion is empty"),
        (b'{"text": ' + b"[" * 200_000, "is nested too deeply"),
    ],
)
def test_what_is_no_example_is_told_with_what_would_be_right(line, words):
    assert words in why(line)


def test_a_text_may_speak_of_nan():
    assert [each[2] for each in read_lines(lines({"text": "NaN, Infinity"}), "a") if not isinstance(each, BadLine)] == [
        Text("NaN, Infinity")
    ]


def test_a_line_that_is_too_long_is_told_by_its_size():
    line = b'{"text": "' + b"a" * MAX_LINE_BYTES + b'"}'
    assert why(line) == f"the line has {len(line):,} bytes; 16,777,216 are the most"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("Hi", 'messages is "Hi"; a list of messages would be right'),
        ([], "messages is empty; it has to hold messages"),
        (["Hi"], 'messages[0] is "Hi"; an object with role and content would be right'),
        ([user("Hi")], "messages has no message of the assistant, only of user; there is nothing to learn"),
        ([{"role": "human", "content": "Hi"}], 'messages[0].role is "human"; did you mean user? one of system, '),
        ([{"role": "asistant", "content": "Hi"}], 'messages[0].role is "asistant"; did you mean assistant? one of'),
        ([{"content": "Hi"}], "messages[0].role is null; one of system, developer, user, assistant, tool would be"),
        ([user(7)], "messages[0].content is 7; a string or a list of parts would be right"),
        ([{"role": "user"}], "messages[0].content is missing; a string or a list of parts would be right"),
        ([user("a" * 200), {"role": "user", "content": {"a": "b" * 200}}], 'messages[1].content is {"a": "bbb'),
        ([user([{"type": "audio"}])], 'messages[0].content[0].type is "audio"; text or image_url would be right'),
        ([user(["Hi"])], 'messages[0].content[0] is "Hi"; an object with type would be right'),
        ([user([{"type": "text"}])], "messages[0].content[0].text is null; a string would be right"),
        (
            [user([{"type": "image_url", "image_url": "data:"}])],
            'messages[0].content[0].image_url is "data:"; {"url": "data:image/...;base64,..."} would be right',
        ),
        (
            [user([{"type": "image_url", "image_url": {"url": "https://a/b.png"}}])],
            'messages[0].content[0].image_url.url is "https://a/b.png"; nothing is fetched',
        ),
        ([assistant(None)], "messages[0] is of the assistant and has neither content nor tool_calls; it says nothing"),
        ([assistant("Hi", weight=2)], "messages[0].weight is 2; 0 or 1 would be right"),
        ([{**user("Hi"), "tool_calls": [call()]}], "messages[0].tool_calls is of user; only the assistant calls tools"),
        ([assistant(None, tool_calls={})], "messages[0].tool_calls is {}; a list of calls would be right"),
        ([assistant(None, tool_calls=[{"name": "a"}])], 'messages[0].tool_calls[0] is {"name": "a"}; {"id", "type": '),
        (
            [assistant(None, tool_calls=[call(arguments="city")])],
            'messages[0].tool_calls[0].function.arguments is "city", which is not JSON; an object would be right',
        ),
        ([assistant(None, tool_calls=[call(arguments="[1]")])], 'arguments is "[1]"; an object, as it is or as text'),
        ([assistant(None, tool_calls=[call(number=["a"])])], 'messages[0].tool_calls[0].id is ["a"]; a string would'),
        ([TOOL, assistant("Hi")], "message 1 of messages is of a tool, and the assistant has called none before"),
        (
            [CALL, {**TOOL, "tool_call_id": "call_2"}],
            'message 2 of messages has tool_call_id "call_2"; the calls before it have ["call_1"]',
        ),
        ([CALL, {**TOOL, "tool_call_id": 3}], "messages[1].tool_call_id is 3; a string would be right"),
    ],
)
def test_a_message_is_told_by_its_path(messages, words):
    said = why(lines({"messages": messages}))
    assert words in said
    assert len(said) < 320


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"messages": [assistant("a")], "tools": {}}, "tools is {}; a list of objects with type and function"),
        ({"messages": [assistant("a")], "tools": ["a"]}, 'tools[0] is "a"; an object with type and function'),
        ({"chosen": "a", "rejected": "a"}, 'chosen and rejected are the same, "a"; they have to differ'),
        ({"chosen": "a", "rejected": ""}, "rejected is empty; a string or a list of messages would be right"),
        ({"chosen": [user("a")], "rejected": [user("b")]}, "chosen has no message of the assistant, only of user"),
        ({"prompt": [user("a")], "completion": [user("b")]}, "completion has no message of the assistant"),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, "prompt is 7; a list of messages would be right"),
    ],
)
def test_the_other_keys_are_checked_too(value, words):
    assert words in why(lines(value))


def test_a_format_that_is_asked_for_is_not_guessed():
    both = {**chat("a", "b"), "text": "c"}
    assert isinstance(example_of(both), Chat)
    assert example_of(both, "text") == Text("c")
    with pytest.raises(ValueError, match='has no "text", which the format text has'):
        example_of(chat("a", "b"), "text")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "role", "content", "tool_calls", "function", "text", "prompt", "chosen", "rejected"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_stands_in_a_file_is_an_example_or_a_bad_line(data: bytes):
    for each in read_lines(data, "a.jsonl"):
        if isinstance(each, BadLine):
            assert each.why
        else:
            number, raw, example = each
            assert number >= 1
            assert example_of(raw) == example


hostile: list[Any] = [
    {"messages": [{"role": ["user"], "content": "a"}]},
    {"messages": [{"role": "assistant", "content": "a", "weight": [1]}]},
    {"messages": [{"role": "assistant", "content": "a", "tool_calls": [None]}]},
    {"messages": [assistant(None, tool_calls=[{"function": {"name": 3}}])]},
    {"messages": [CALL, {**TOOL, "tool_call_id": ["a"]}]},
]


@pytest.mark.parametrize("value", hostile)
def test_nothing_in_a_line_breaks_the_reader(value):
    assert why(lines(value))

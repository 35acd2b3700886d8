"""Suites: lines become questions or are named, and what was said is scored."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput
from stoker.spec.run import Suite
from stoker.train import suites
from stoker.train.suites import Question, calls_in, read_suite, scores


def a_suite(check: str = "exact") -> Suite:
    return Suite(name="s", data="exam.jsonl", check=check)  # type: ignore[arg-type]


def lines(*values: object) -> bytes:
    return b"".join((value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n" for value in values)


def asked(check: str, answer: object, *said: str) -> list[float | None]:
    questions = [Question("s", str(number), answer) for number in range(len(said))]
    return scores(check, questions, said)


def test_a_line_is_a_question() -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    data = b"\xef\xbb\xbf" + lines(
        {"prompt": "2 + 2?", "answer": "4"}, b"", {"messages": talk, "answer": "x", "id": "b"}
    )
    assert read_suite(a_suite(), data) == [
        Question("s", "1", "4", prompt="2 + 2?"),
        Question("s", "b", "x", messages=talk, tools=[]),
    ]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"{", "it is no JSON in UTF-8"),
        (b'"\xff"', "it is no JSON in UTF-8"),
        (b"[1]", "it is no JSON object"),
        ({"prompt": "a", "answer": "b", "idd": 1}, "'idd' is no key of a question; the keys are: messages, prompt,"),
        ({"answer": "b"}, "it has to have either messages or prompt"),
        ({"prompt": "a"}, "answer is missing"),
        ({"prompt": " ", "answer": "b"}, "prompt has to be a text with something in it"),
        ({"prompt": "a", "answer": []}, "answer has to be a text, or a list of texts, none of them empty"),
        ({"prompt": "a", "answer": 4}, "answer has to be a text"),
        ({"prompt": "a", "answer": "b", "id": ""}, "id has to be a text of 1 to 200 characters"),
        (
            {"messages": [{"role": "usr"}], "answer": "b"},
            r"messages\[0\] has to be an object with a role, one of system",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}], "answer": "b"}, "the last message is the assistant's"),
        ({"prompt": "a", "answer": "b", "id": "one"}, "id one is that of line 1, too"),
    ],
)
def test_a_bad_line_is_named_with_its_number(value: object, why: str) -> None:
    with pytest.raises(InvalidInput, match=rf"(?s)exam\.jsonl, of suite s, has 1 bad lines:\nline 3: .*{why}"):
        read_suite(a_suite(), lines({"prompt": "a", "answer": "b", "id": "one"}, b"", value))


def test_answers_have_to_fit_the_check() -> None:
    with pytest.raises(InvalidInput, match=r"line 1: '\(' is no pattern"):
        read_suite(a_suite("regex"), lines({"prompt": "a", "answer": "("}))
    with pytest.raises(InvalidInput, match="line 1: the pattern has 1001 characters; 1000 are the most"):
        read_suite(a_suite("regex"), lines({"prompt": "a", "answer": "a" * 1001}))
    with pytest.raises(InvalidInput, match=r"line 1: answer has to be .*since check is tool"):
        read_suite(a_suite("tool"), lines({"prompt": "a", "answer": "b"}))
    with pytest.raises(InvalidInput, match="has no question in it"):
        read_suite(a_suite(), b"\n\n")


def test_exact_and_contains_leave_white_space_aside() -> None:
    assert asked("exact", "a b", "a b", " a\n b ", "A b", "a b c") == [1, 1, 0, 0]
    assert asked("exact", ["yes", "Yes."], "Yes.", "no") == [1, 0]
    assert asked("contains", "a b", "so a\nb it is", "ab") == [1, 0]


def test_a_pattern_is_searched_and_cannot_hold_anybody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked("regex", r"\b4\b", "it is 4.", "it is 42") == [1, 0]
    monkeypatch.setattr(suites, "PATTERN_S", 0.5)
    assert asked("regex", "(a+)+$", "a" * 50 + "b", "aaa") == [None, 1]


CALL = {"name": "add", "arguments": {"a": 1, "b": [2]}}
KEPT = json.dumps([{"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"b": [2], "a": 1}'}}])
TAGGED = f"<tool_call>{json.dumps(CALL)}</tool_call>"


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (json.dumps(CALL), 1),
        (KEPT, 1),
        (f"I will.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>", 1),
        (json.dumps({**CALL, "arguments": {"a": 1}}), 0),
        (json.dumps({**CALL, "name": "sub"}), 0),
        (json.dumps([CALL, CALL]), 0),
        ("add(1, [2])", 0),
        ("null", 0),
        (json.dumps({**CALL, "arguments": "{"}), 0),
        (json.dumps({**CALL, "arguments": {"a": 1.0, "b": [2]}}), 1),
        (json.dumps({**CALL, "arguments": {"a": True, "b": [2]}}), 0),
        (json.dumps([CALL, {"function": {"name": 3}}]), 0),
        (json.dumps([CALL, "and"]), 0),
        (f'{TAGGED}<tool_call>{{"name": "sub", broken</tool_call>', 0),
        (f"{TAGGED}<tool_call>{json.dumps(CALL)}", 0),
        (f"{TAGGED} {json.dumps(CALL)}</tool_call>", 0),
    ],
)
def test_a_tool_call_is_name_and_arguments(said: str, score: float) -> None:
    assert asked("tool", CALL, said) == [score]


def test_tags_in_an_argument_and_true_deep_in_it_are_what_they_are() -> None:
    call = {"name": "say", "arguments": {"text": "<tool_call>", "also": [{"it": True}]}}
    right = json.dumps(call)
    assert asked("tool", call, right, f"<tool_call>{right}</tool_call>", right.replace("true", "1")) == [1, 1, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_was_said_is_no_error(value: object) -> None:
    assert isinstance(list(calls_in(json.dumps(value))), list)

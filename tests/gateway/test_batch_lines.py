"""Lines of batches: out of the blocks of a file, and into the files that a client gets."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.base.errors import BudgetExhausted
from stoker.gateway import batch_lines
from stoker.gateway.batch_lines import Checker, Fault, Splitter
from stoker.meter.batches import EndedLine, Line

CHAT = "/v1/chat/completions"
LINE = Line(7, b'{"custom_id": "mine", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "general"}}')
NAME = "batch_req_01abc_7"


def split(blocks: list[bytes], most_bytes: int = 100) -> list[tuple[int, bytes]]:
    splitter = Splitter(most_bytes)
    return [line for block in blocks for line in splitter.feed(block)] + list(splitter.end())


@given(text=st.binary(max_size=60).map(lambda each: each.replace(b"\r", b"")), cuts=st.sets(st.integers(0, 60)))
def test_lines_do_not_depend_on_the_blocks_of_a_file(text: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(text) + 60]
    blocks = [text[begin:end] for begin, end in zip(places, [*places[1:], None], strict=True)]
    wanted = [(number, line.strip()) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    assert split(blocks) == wanted


def test_a_line_has_so_many_bytes_at_most() -> None:
    assert split([b"x" * 10 + b"\n"], 10) == [(1, b"x" * 10)]
    for blocks in ([b"a\n" + b"x" * 11 + b"\nb"], [b"a\n", b"x" * 6, b"x" * 5], [b"a\n" + b"x" * 11]):
        splitter = Splitter(10)
        with pytest.raises(Fault) as caught:
            list(itertools.chain.from_iterable(map(splitter.feed, blocks)))
        assert (caught.value.code, splitter.number) == ("line_too_long", 2)


def test_windows_line_breaks_are_none_of_the_line() -> None:
    assert split([b"one\r\ntwo\r\n"]) == [(1, b"one"), (2, b"two")]


def test_the_first_of_two_with_one_id_is_named() -> None:
    checker = Checker(CHAT, 10)
    assert checker.sound(iter([(7, LINE.content), (9, LINE.content)])) == [LINE]
    assert checker.faults == [
        {
            "code": "duplicate_custom_id",
            "line": 9,
            "message": "line 7 has the same custom_id, 'mine'",
            "param": "custom_id",
        }
    ]


def test_the_id_of_a_line_is_always_the_same() -> None:
    assert batch_lines.task_id("batch_01abc", 7) == NAME
    assert batch_lines.body_of(LINE) == {"model": "general"}


def test_what_came_of_a_line_is_written_as_openai_does() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
    done = batch_lines.done("batch_01abc", LINE, {"object": "chat.completion"}, usage)
    assert done == EndedLine(7, "done", done.content, 5, 2, 3)
    assert json.loads(done.content) == {
        "id": NAME,
        "custom_id": "mine",
        "response": {"status_code": 200, "request_id": NAME, "body": {"object": "chat.completion"}},
        "error": None,
    }
    refused = batch_lines.refused("batch_01abc", LINE, BudgetExhausted("the key's budget is spent"))
    assert refused == EndedLine(7, "failed", refused.content)
    error = {"message": "the key's budget is spent", "type": "insufficient_quota", "code": "budget_exhausted"}
    assert json.loads(refused.content)["response"] == {
        "status_code": 402,
        "request_id": NAME,
        "body": {"error": {**error, "param": None}},
    }
    expired = batch_lines.not_done("batch_01abc", LINE, "expired")
    assert expired == EndedLine(7, "expired", expired.content)
    assert json.loads(expired.content) == {
        "id": NAME,
        "custom_id": "mine",
        "response": None,
        "error": {"code": "batch_expired", "message": "this request was not done before the completion window ended"},
    }


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": "5", "completion_tokens": -3}, {"prompt_tokens_details": 1}]
)
def test_an_engine_that_does_not_count_is_no_reason_to_fail(usage: dict[str, object] | None) -> None:
    done = batch_lines.done("batch_01abc", LINE, {}, usage)
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (0, 0, 0)

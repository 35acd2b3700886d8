"""The bound on what a request can cost: never below what the embedded engine counts, and not far above plain text."""

import json
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.base.errors import StokerError
from stoker.engine import embeddings, images, parsing, responses
from stoker.engine.parsing import Served
from stoker.gateway.bounds import LEAST_OUTPUT, Bound, Quote, bound_of, prompt_bound, quote_of
from stoker.gateway.endpoints import EMBEDDINGS, RESPONSES
from stoker.nn import bundle
from stoker.spec import Model, Prices, loads

PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


@cache
def vision() -> Model:
    """The embedded engine as a platform has it."""
    return loads("llm: {models: {vision: {task: vision}}}").llm.models["vision"]


@cache
def served() -> Served:
    return Served(bundle.load(), "vision", "vision", context=1_000_000)


def bound(body: dict[str, Any]) -> int:
    return bound_of(body, vision(), output_tokens=0).prompt_tokens


# Text that tokenizers stumble over: any Unicode with lone surrogates, marks that look like control tokens, long runs.
texts = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["", "<|end|><|user|>", "0123456789" * 9, " \n\t" * 20, "\ud83d", "é\u0301", "𝅘𝅥𝅮", "\x00\x01", "ﷺ", '"\\' * 9]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
parts = (
    st.fixed_dictionaries({"type": st.just("text"), "text": texts})
    | st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts}, optional={"more": values})
    | st.just({"type": "image_url", "image_url": {"url": PNG}})
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
        optional={
            "content": texts | st.lists(parts, max_size=4),  # an assistant that calls tools may have none
            "name": texts,
            "tool_calls": values,
            # A message is no part: what it says of its type changes nothing.
            "type": st.sampled_from(["image_url", "text"]),
        },
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(messages, st.fixed_dictionaries({}, optional={"tools": st.lists(values, max_size=3), "user": texts}))
def test_no_chat_has_more_tokens_than_its_bound(sent: list[dict[str, Any]], more: dict[str, Any]) -> None:
    body = {"messages": sent, **more}
    try:
        asked = parsing.chat(body, served())
    except StokerError:  # nine images: the engine refuses it, and nothing is spent
        return
    assert len(asked.generation.prompt) <= bound(body)


prompts = texts | st.lists(st.integers(0, 200), min_size=1, max_size=9)


@settings(deadline=None)
@given(prompts | prompts.map(lambda prompt: [prompt]))
def test_no_completion_has_more_tokens_than_its_bound(prompt: Any) -> None:
    body = {"prompt": prompt}
    assert len(parsing.completion(body, served()).generation.prompt) <= bound(body)


@settings(deadline=None)
@given(st.lists(prompts, min_size=1, max_size=6))
def test_several_prompts_are_bounded_together(several: list[Any]) -> None:
    each = [len(parsing.completion({"prompt": one}, served()).generation.prompt) for one in several]
    assert sum(each) <= bound({"prompt": several})


response_parts = (
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text", "text"]), "text": texts})
    | st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts}, optional={"more": values})
    | st.just({"type": "input_image", "image_url": PNG})
)
response_items = (
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]),
            "content": texts | st.lists(response_parts, max_size=4),
        },
        optional={"type": st.just("message"), "id": texts, "status": texts},
    )
    | st.fixed_dictionaries({"type": st.just("function_call"), "name": texts, "arguments": texts, "call_id": texts})
    | st.fixed_dictionaries({"type": st.just("custom_tool_call"), "name": values, "input": values})
    | st.fixed_dictionaries(
        {
            "type": st.sampled_from(["function_call_output", "custom_tool_call_output"]),
            "output": texts | st.lists(response_parts, max_size=3),
        }
    )
)


@settings(deadline=None)
@given(
    texts | st.lists(response_items, min_size=1, max_size=5),
    st.fixed_dictionaries({}, optional={"instructions": texts, "user": texts}),
)
def test_no_response_has_more_tokens_than_its_bound(said: Any, more: dict[str, Any]) -> None:
    body = {"input": said, **more}
    try:
        asked = responses.parse(body, served())
    except StokerError:  # the engine refuses it, and nothing is spent
        return
    RESPONSES.check_prompt(body)  # what the engine takes, the gateway lets through
    assert len(asked.generation.prompt) <= bound(body)


to_embed = texts | st.lists(st.integers(0, 200), min_size=1, max_size=9)


@settings(deadline=None)
@given(to_embed | st.lists(to_embed, min_size=1, max_size=9))
def test_no_embedding_has_more_tokens_than_its_bound(said: Any) -> None:
    body = {"input": said}
    try:
        wanted = embeddings.parse(body, served())
    except StokerError:
        return
    assert sum(len(text) for text in wanted.texts) <= bound(body)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"input": "hé"}, 2 + 8 + 4 + 3),
        ({"input": [7] * 100}, 2 + 100),  # a token is a token
        ({"input": [[7] * 100, [8] * 50]}, 2 + 2 + 100 + 2 + 50),
        ({"input": ["hello", "hé"]}, 2 + 2 + 5 + 2 + 3),
        ({"input": [{"role": "user", "content": "hello"}]}, 2 + 8 + 4 + 5),
        ({"input": "x", "instructions": "hello"}, 2 + 8 + 4 + 1 + 8 + 9 + 5),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]},
            2 + 8 + 4 + len("input_text") + 5,
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]}, 2 + 8 + 4 + 16),
        ({"input": [7], "dimensions": 8, "encoding_format": "base64", "max_output_tokens": 9}, 2 + 1),
    ],
)
def test_the_bound_of_an_input(body: dict[str, Any], tokens: int) -> None:
    assert bound(body) == tokens


@pytest.mark.parametrize("body", [{"input": ["a", "b"]}, {"input": [[1], [2]]}, {"input": "a", "n": 9}])
def test_nothing_is_generated_for_embeddings(body: dict[str, Any]) -> None:
    most = EMBEDDINGS.output_tokens(EMBEDDINGS.bounded(body, 100))
    assert bound_of(body, vision(), output_tokens=most).completion_tokens == 0


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        # 2 of the template, 8 of the message, its role and its text.
        ({"role": "user", "content": "hello"}, 2 + 8 + 4 + 5),
        ({"role": "user", "content": "hé"}, 2 + 8 + 4 + 3),
        ({"role": "user", "content": [{"type": "text", "text": "hello"}]}, 2 + 8 + 4 + 4 + 5),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}, 2 + 8 + 4 + 16),
        # What a tool says, some templates write as JSON.
        ({"role": "tool", "content": '"\n'}, 2 + 8 + len('"tool"') + len(r'"\"\n"')),
        # A message is not an image, whatever it says.
        ({"role": "user", "type": "image_url", "content": "x" * 999}, 2 + 8 + 4 + 999 + 28),
    ],
)
def test_the_bound_of_a_message(message: dict[str, Any], tokens: int) -> None:
    assert bound({"messages": [message]}) == tokens


def test_plain_text_is_bounded_by_its_bytes_and_little_more() -> None:
    text = "The bound of plain English text is its length. " * 40
    counted = len(parsing.chat({"messages": [{"role": "user", "content": text}]}, served()).generation.prompt)
    most = bound({"messages": [{"role": "user", "content": text}]})
    assert most == len(text) + 14
    assert counted <= most <= 8 * counted


def test_the_keys_of_a_call_count_as_its_values_do() -> None:
    calls = [{"k" * 500: 1}]
    body = {"messages": [{"role": "assistant", "content": None, "tool_calls": calls}]}
    assert bound(body) > 500


def test_calls_count_in_a_message_without_content() -> None:
    assert bound({"messages": [{"role": "assistant", "tool_calls": ["x" * 500]}]}) > 500
    assert bound({"input": [{"type": "function_call_output", "output": "x" * 500}]}) > 500


def test_an_option_of_the_request_is_no_part_of_its_prompt_and_what_nobody_knows_is() -> None:
    body = {"messages": [{"role": "user", "content": "hello"}]}
    options = {"temperature": 0.5, "stop": ["a", "b"], "logit_bias": {"1": 2}, "metadata": {"a": "b"}, "tools": None}
    assert bound({**body, **options}) == bound(body)
    assert bound({**body, "new_field": "x" * 100}) == bound(body) + 102


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_tools_are_bounded_however_a_template_writes_them(indent: int | None) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'What the "weather" is in Zürich, <now> & then',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    written = json.dumps([tool], indent=indent)
    assert len(written) <= bound({"tools": [tool]}) <= 3 * len(json.dumps([tool]))


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 5}, 5),
        ({"n": True}, 1),
        ({"n": -4}, 1),
        ({"n": "3"}, 1),  # refused by the route, see Endpoint.check
        ({"prompt": ["a", "b", "c"], "n": 2}, 6),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [1, "a", "b"]}, 2),
        ({"prompt": []}, 1),
        ({"prompt": "abc"}, 1),
    ],
)
def test_every_answer_is_counted(body: dict[str, Any], answers: int) -> None:
    quote = quote_of(body, vision(), output_tokens=10, is_elastic=False)
    assert quote.answers == answers
    assert quote.bound().completion_tokens == 10 * answers


deep: Any = []
for _ in range(100_000):
    deep = [deep]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": deep}]},
        {"messages": [{"role": deep, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": deep}], "tool_calls": deep}]},
        {"messages": deep},
        {"messages": {"a": deep}},
        {"prompt": deep},
        {"input": deep},
        {"input": {"a": deep}},
        {"input": [{"role": "user", "content": deep, "output": deep}]},
        {"instructions": deep},
        {"tools": deep},
        {"unknown": deep},
    ],
)
def test_nesting_of_any_depth_is_bounded_without_recursion(body: dict[str, Any]) -> None:
    assert bound(body) >= 0


FIELDS = ("messages", "prompt", "input", "instructions", "n", "best_of", "tools", "suffix", "x")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), values))
def test_no_body_makes_it_raise(body: dict[str, Any]) -> None:
    assert bound(body) >= vision().prompt_overhead_tokens


def test_a_number_counts_with_all_its_digits() -> None:
    assert bound({"tools": [10**4000]}) > 4000
    assert bound({"n": 10**4000, "prompt": "x"}) == 3


def test_the_engine_bounds_an_image_as_the_gateway_does() -> None:
    image = served().bundle.config.image
    assert image is not None
    assert image.tokens <= vision().image_tokens
    assert images.read(PNG, "x").shape[2] == 3


def test_what_a_template_adds_at_the_beginning_is_the_models_own() -> None:
    assert prompt_bound({"prompt": "abc"}, image_tokens=1, overhead=64) == 67
    assert prompt_bound({"prompt": ["a", "b", "c"]}, image_tokens=1, overhead=64) == 67 + 2 * 2


# --- money, and answers that are shortened ----------------------------------------------------------------------------


def prices(fresh: str, cached: str, output: str) -> Prices:
    return Prices(
        input_usd_per_million_tokens=Decimal(fresh),
        cached_input_usd_per_million_tokens=Decimal(cached),
        output_usd_per_million_tokens=Decimal(output),
    )


def test_the_dearer_of_cached_and_fresh_prompt_is_reserved() -> None:
    cheap_cache = Quote(1000, 1, 100, is_elastic=False, prices=prices("1", "0.5", "2"))
    dear_cache = Quote(1000, 1, 100, is_elastic=False, prices=prices("1", "3", "2"))
    assert cheap_cache.bound() == Bound(1000, 100, 1_000_000 + 200_000)
    assert dear_cache.bound() == Bound(1000, 100, 3_000_000 + 200_000)


def test_a_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    assert Quote(1, 1, 1, is_elastic=False, prices=prices("0.0001", "0", "0.0001")).bound().nano_usd == 1


money = st.decimals(0, 100, places=3).map(str)
quotes = st.builds(
    Quote,
    prompt_tokens=st.integers(0, 400),
    answers=st.integers(1, 4),
    output_tokens=st.integers(0, 200),
    is_elastic=st.just(True),
    prices=st.builds(prices, money, money, money),
)


@settings(deadline=None)
@given(quotes, st.none() | st.integers(0, 1500), st.none() | st.integers(0, 10**8))
def test_a_shortened_answer_is_the_longest_that_fits(quote: Quote, tokens: int | None, nano_usd: int | None) -> None:
    def fits(length: int) -> bool:
        most = quote.bound(length)
        return (tokens is None or most.tokens <= tokens) and (nano_usd is None or most.nano_usd <= nano_usd)

    lengths = [length for length in range(LEAST_OUTPUT, quote.output_tokens + 1) if fits(length)]
    shorter = quote.shortened(tokens=tokens, nano_usd=nano_usd)
    assert (None if shorter is None else shorter.output_tokens) == max(lengths, default=None)


def test_a_length_that_the_client_wished_for_is_not_shortened() -> None:
    quote = Quote(10, 1, 100, is_elastic=False, prices=prices("1", "1", "1"))
    assert quote.shortened(tokens=1000) is None

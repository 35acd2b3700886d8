"""Story: four models, one with an alias, and where each request goes and why."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput, NotFound
from stoker.policy.routing import (
    MAX_CHARACTERS,
    MAX_PARTS,
    RequestFeatures,
    Route,
    RoutingTable,
    choose,
    features_of,
    table_of,
)
from stoker.spec import Platform, loads

TABLE = table_of(
    loads("""
llm:
  models:
    general: {aliases: [gpt-4o, org/chat]}
    code: {aliases: [coder]}
    vision:
    small:
""")
)
NOTHING = RequestFeatures()
IMAGE = RequestFeatures(has_image=True)
CODE = RequestFeatures(has_code=True)


def test_the_table_of_a_platform() -> None:
    assert (
        RoutingTable(
            models=("general", "code", "vision", "small"),
            aliases={"gpt-4o": "general", "org/chat": "general", "coder": "code"},
            routes={"general": "general", "code": "code", "vision": "vision"},
            default="general",
            vision="vision",
            code="code",
        )
        == TABLE
    )


def test_without_a_route_images_and_code_go_to_the_first_model_for_them() -> None:
    table = table_of(
        loads(
            "llm: {models: {big: {}, eye: {task: vision}, eye2: {task: vision}, dev: {task: code}}}\n"
            "gateway: {routes: {}}"
        )
    )
    assert (table.vision, table.code, table.default, table.routes) == ("eye", "dev", "big", {})


@pytest.mark.parametrize(
    ("prefix", "requested", "features", "route"),
    [
        ("code", None, NOTHING, Route("code", "prefix")),
        ("code", "auto", IMAGE, Route("code", "prefix")),
        ("code", "code", NOTHING, Route("code", "prefix")),
        ("code", "coder", NOTHING, Route("code", "prefix")),
        (None, "small", CODE, Route("small", "model")),
        (None, "gpt-4o", IMAGE, Route("general", "alias")),
        (None, "auto", IMAGE, Route("vision", "auto:image")),
        (None, "auto", CODE, Route("code", "auto:code")),
        (None, "auto", RequestFeatures(has_image=True, has_code=True), Route("vision", "auto:image")),
        (None, "auto", NOTHING, Route("general", "auto:general")),
        (None, None, CODE, Route("code", "auto:code")),
    ],
)
def test_choice(prefix: str | None, requested: str | None, features: RequestFeatures, route: Route) -> None:
    assert choose(prefix, requested, features, TABLE) == route


def test_another_model_under_a_prefix_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        choose("code", "small", NOTHING, TABLE)
    assert caught.value.message == (
        'the route /v1/code serves the model code, but the request asks for "small"; '
        'leave `model` out, write "auto" or "code", or send it to /v1'
    )
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "model", "model_not_on_route")


def test_an_alias_of_another_model_under_a_prefix_says_which_model_it_is() -> None:
    with pytest.raises(InvalidInput, match=r'asks for "gpt-4o" \(the model general\);'):
        choose("code", "gpt-4o", NOTHING, TABLE)


@pytest.mark.parametrize("prefix", [None, "code"])
def test_a_model_that_does_not_exist(prefix: str | None) -> None:
    with pytest.raises(NotFound) as caught:
        choose(prefix, "gpt-5", NOTHING, TABLE)
    assert caught.value.message == 'there is no model "gpt-5"; the models are: general, code, vision, small'
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_very_long_model_name_is_not_repeated_whole() -> None:
    with pytest.raises(NotFound) as caught:
        choose(None, "x" * 10_000, NOTHING, TABLE)
    assert len(caught.value.message) < 160


def test_a_prefix_that_does_not_exist() -> None:
    with pytest.raises(NotFound) as caught:
        choose("kode", None, NOTHING, TABLE)
    assert caught.value.message == ("there is no route /v1/kode; the routes are: /v1/general, /v1/code, /v1/vision")


def test_an_image_where_no_model_looks_at_images() -> None:
    table = table_of(loads("llm: {models: {general: , code: }}"))
    with pytest.raises(InvalidInput) as caught:
        choose(None, "auto", IMAGE, table)
    assert caught.value.message == (
        "the request holds an image, and no model here looks at images; "
        "take it out, or name one of the models: general, code"
    )


def test_code_where_no_model_is_for_code_goes_to_the_default() -> None:
    table = table_of(loads("llm: {models: {general: {}}}"))
    assert choose(None, "auto", CODE, table) == Route("general", "auto:general")


def user(text: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    "text",
    [
        "What does this do?\n```\nx = 1\n```",
        "```python\nprint(1)\n```",
        "Write a Python function that reverses a list.",
        "Why is my SQL query slow?",
        "def area(r):\n    return 3.14 * r * r",
        "from collections import Counter",
        "SELECT name FROM users WHERE id = 1",
        "#include <stdio.h>",
        "const total = items.reduce((a, b) => a + b, 0);",
        "public static void main(String[] args) {",
        "fn main() {\n}",
        "Traceback (most recent call last):\n  File x",
        "a = 1;\nb = 2;\nc = a + b;",
        "Please refactor this for me",
        "a regex for German postcodes",
    ],
)
def test_code_is_seen(text: str) -> None:
    assert features_of(user(text)) == CODE


@pytest.mark.parametrize(
    "text",
    [
        "Hello, how are you?",
        "Write a poem about the sea; make it sad.",
        "What is the capital of France?",
        "From Monday on, import duties rise. Select the best answer from these.",
        "class trips are a public matter; for each, ask while there is time.",
        "If (and only if) it rains, we stay.",
        "```text\na quotation\n```",
        "Pythons are snakes.",
        "Return JSON with the class of this review.",
        "def leppard is a band",
        "",
    ],
)
def test_prose_is_not_taken_for_code(text: str) -> None:
    assert features_of(user(text)) == NOTHING


def test_an_image_part_is_seen_in_each_spelling() -> None:
    for kind in ("image_url", "input_image", "image"):
        assert features_of(user([{"type": "text", "text": "what is it?"}, {"type": kind}])) == IMAGE


def test_code_in_a_text_part_and_in_a_prompt_is_seen() -> None:
    assert features_of(user([{"type": "text", "text": "import os"}])) == CODE
    assert features_of({"prompt": "import os"}) == CODE
    assert features_of({"prompt": ["hello", "import os"]}) == CODE


def test_a_system_prompt_decides_nothing() -> None:
    """An agent's instructions hold fences and schemas whatever the person asks."""
    for role in ("system", "developer"):
        body = {"messages": [{"role": role, "content": "```json\n{}\n```"}, {"role": "user", "content": "Hello"}]}
        assert features_of(body) == NOTHING


def test_a_conversation_about_code_stays_one() -> None:
    body = {"messages": [{"role": "assistant", "content": "```py\nx = 1\n```"}, {"role": "user", "content": "faster"}]}
    assert features_of(body) == CODE


def test_only_the_newest_text_is_looked_at() -> None:
    old, new = {"role": "user", "content": "```\nx\n```"}, {"role": "user", "content": "a " * (MAX_CHARACTERS // 2)}
    assert features_of({"messages": [old, new]}) == NOTHING
    assert features_of({"messages": [new, old]}) == CODE


def test_only_so_many_parts_are_looked_at() -> None:
    image, filler = {"type": "image_url"}, {"type": "text", "text": ""}
    assert features_of(user([image, *[filler] * (MAX_PARTS - 1)])) == IMAGE
    assert features_of(user([image, *[filler] * MAX_PARTS])) == NOTHING


def test_a_hostile_text_costs_no_more_than_a_long_one() -> None:
    """Each of these once made a careless pattern take seconds; the bound is generous for a busy machine."""
    for unit in ("from ", "\n", "@a.", "class a ", "select a\n", "if (x) ", "public a ", "{;"):
        started = time.process_time()
        features_of(user(unit * 1_000_000))
        assert time.process_time() - started < 0.25, unit


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "messages", "prompt"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_a_malformed_body_never_raises(value: Any) -> None:
    for body in (value, {"messages": value}, {"prompt": value}, {"messages": [value]}, user(value), user([value])):
        assert isinstance(features_of(body), RequestFeatures)


def test_the_default_platform_has_its_three_routes() -> None:
    assert dict(table_of(Platform()).routes) == {"general": "general", "code": "code", "vision": "vision"}

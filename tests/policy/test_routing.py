"""Story: four models, one with an alias, and where each request goes and why."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput, NotFound
from stoker.policy.features import MAX_CHARACTERS, MAX_PARTS, RequestFeatures, beginning_of, features_of
from stoker.policy.routing import (
    Route,
    RoutingTable,
    choose,
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
            long_characters=24_000,
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


def held(body: dict[str, Any]) -> RequestFeatures:
    """Images and code alone."""
    return replace(features_of(body), characters=0, is_hard=False)


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
    assert held(user(text)) == CODE


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
    assert held(user(text)) == NOTHING


def test_an_image_part_is_seen_in_each_spelling() -> None:
    for kind in ("image_url", "input_image", "image"):
        assert held(user([{"type": "text", "text": "what is it?"}, {"type": kind}])) == IMAGE


def test_code_in_a_text_part_and_in_a_prompt_is_seen() -> None:
    assert held(user([{"type": "text", "text": "import os"}])) == CODE
    assert held({"prompt": "import os"}) == CODE
    assert held({"prompt": ["hello", "import os"]}) == CODE


def test_a_system_prompt_decides_nothing() -> None:
    """An agent's instructions hold fences and schemas whatever the person asks."""
    for role in ("system", "developer"):
        body = {"messages": [{"role": role, "content": "```json\n{}\n```"}, {"role": "user", "content": "Hello"}]}
        assert held(body) == NOTHING


def test_a_conversation_about_code_stays_one() -> None:
    body = {"messages": [{"role": "assistant", "content": "```py\nx = 1\n```"}, {"role": "user", "content": "faster"}]}
    assert held(body) == CODE


def test_only_the_newest_text_is_looked_at() -> None:
    old, new = {"role": "user", "content": "```\nx\n```"}, {"role": "user", "content": "a " * (MAX_CHARACTERS // 2)}
    assert held({"messages": [old, new]}) == NOTHING
    assert held({"messages": [new, old]}) == CODE


def test_only_so_many_parts_are_looked_at() -> None:
    image, filler = {"type": "image_url"}, {"type": "text", "text": ""}
    assert held(user([image, *[filler] * (MAX_PARTS - 1)])) == IMAGE
    assert held(user([image, *[filler] * MAX_PARTS])) == NOTHING


def test_a_hostile_text_costs_no_more_than_a_long_one() -> None:
    """Each of these once made a careless pattern take seconds; the bound is generous for a busy machine."""
    for unit in (
        "from ",
        "\n",
        "@a.",
        "class a ",
        "select a\n",
        "if (x) ",
        "public a ",
        "{;",
        ").a(",
        "python aaa(",
        "a + b = ",
        " show, that",
    ):
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


# --- tools, length, difficulty ----------------------------------------------------------------------------------------

TOOLS = RequestFeatures(has_tools=True)
HARD = RequestFeatures(is_hard=True)
LONG = RequestFeatures(characters=101)
ALL = RequestFeatures(has_image=True, has_tools=True, characters=101, has_code=True, is_hard=True)
FULL = table_of(
    loads("""
llm: {models: {general: {}, code: {}, vision: {}, caller: {}, reader: {}, thinker: {}}}
gateway: {auto: {tools: caller, long: reader, longCharacters: 100, hard: thinker}}
""")
)


@pytest.mark.parametrize(
    ("features", "route"),
    [
        (ALL, Route("vision", "auto:image")),
        (replace(ALL, has_image=False), Route("caller", "auto:tools")),
        (replace(ALL, has_image=False, has_tools=False), Route("reader", "auto:long")),
        (RequestFeatures(has_code=True, is_hard=True, characters=100), Route("code", "auto:code")),
        (HARD, Route("thinker", "auto:hard")),
        (LONG, Route("reader", "auto:long")),
        (NOTHING, Route("general", "auto:general")),
    ],
)
def test_what_a_model_must_be_able_to_do_comes_before_what_it_is_good_at(
    features: RequestFeatures, route: Route
) -> None:
    assert choose(None, "auto", features, FULL) == route


@pytest.mark.parametrize("features", [TOOLS, HARD, RequestFeatures(characters=10**9)])
def test_without_models_for_them_tools_length_and_difficulty_decide_nothing(features: RequestFeatures) -> None:
    assert choose(None, "auto", features, TABLE) == Route("general", "auto:general")


def test_auto_chooses_among_the_models_that_the_caller_may_use() -> None:
    allowed = {"general", "code"}
    without_image = replace(ALL, has_image=False)
    assert choose(None, "auto", without_image, FULL, allowed=allowed) == Route("code", "auto:code")
    assert choose(None, None, without_image, FULL, allowed={"thinker"}) == Route("thinker", "auto:hard")
    # Nothing is left to choose: the caller is to be refused for what it would have got.
    assert choose(None, None, TOOLS, FULL, allowed={"thinker"}) == Route("general", "auto:general")
    assert choose(None, None, IMAGE, FULL, allowed={"general"}) == Route("vision", "auto:image")


@pytest.mark.parametrize(
    ("body", "has_tools"),
    [
        ({"tools": [{"type": "function"}]}, True),
        ({"tools": [{"type": "function"}], "tool_choice": "auto"}, True),
        ({"functions": [{"name": "f"}]}, True),
        ({"tools": [{"type": "function"}], "tool_choice": "none"}, False),
        ({"functions": [{"name": "f"}], "function_call": "none"}, False),
        ({"tools": []}, False),
        ({"tools": "all"}, False),
        ({}, False),
    ],
)
def test_tools_that_the_model_may_call(body: dict[str, Any], has_tools: bool) -> None:
    assert features_of({**user("hi"), **body}) == RequestFeatures(has_tools=has_tools, characters=2)


def test_all_text_counts_for_the_length_the_instructions_included() -> None:
    messages = [
        {"role": "system", "content": "a" * 5000},
        {"role": "user", "content": [{"type": "text", "text": "bc"}]},
    ]
    assert features_of({"messages": messages}).characters == 5002
    assert features_of({"input": "abc", "instructions": "de"}).characters == 5
    assert features_of({"input": [{"role": "user", "content": "abc"}, {"type": "input_text", "text": "d"}]}) == (
        RequestFeatures(characters=4)
    )
    assert features_of({"prompt": ["ab", [1, 2, 3], "c"]}).characters == 3


def test_what_was_answered_does_not_make_a_question_hard() -> None:
    proof = {"role": "assistant", "content": "We prove the lemma by induction."}
    assert features_of({"messages": [proof, {"role": "user", "content": "thanks"}]}).is_hard is False
    assert features_of({"messages": [{**proof, "role": "user"}, proof]}).is_hard is True


# --- what its cache goes by -------------------------------------------------------------------------------------------


def test_prompts_that_begin_alike_have_one_beginning() -> None:
    system = {"role": "system", "content": "s" * 1000}
    one = {"messages": [system, {"role": "user", "content": "u" * 10_000 + "one"}]}
    other = {"messages": [system, {"role": "user", "content": "u" * 10_000 + "other"}]}
    assert beginning_of(one) == beginning_of(other) == "system\0" + "s" * 1000 + "\0user\0" + "u" * 14
    assert beginning_of({"messages": [{**system, "role": "user"}]}) == "user\0" + "s" * 1000
    assert beginning_of({"prompt": "p" * 2000}) == "p" * 1024
    assert beginning_of({"instructions": "i" * 200, "input": "q" * 100}) == "i" * 200 + "\0" + "q" * 100


def test_a_short_prompt_has_no_beginning_worth_a_cache() -> None:
    assert beginning_of(user("u" * 251)) is None
    assert beginning_of(user("u" * 252)) == "user\0" + "u" * 252
    assert beginning_of(user([{"type": "text", "text": "a"}] * 1000)) is None  # of so many parts none is looked at
    assert beginning_of({}) is None


@given(json_values)
def test_a_malformed_body_has_a_beginning_or_none(value: Any) -> None:
    for body in ({"messages": value}, {"prompt": value}, {"messages": [value]}, user(value), user([value])):
        assert isinstance(beginning_of(body), str | None)


# --- shares -----------------------------------------------------------------------------------------------------------


def canary(shares: str) -> RoutingTable:
    return table_of(
        loads(f"llm: {{models: {{a: {{}}, b: {{}}, c: {{}}}}}}\ngateway: {{weights: {{chat: {{{shares}}}}}}}")
    )


def split(table: RoutingTable, keys: int = 2000, **more: Any) -> dict[str, str]:
    return {str(key): choose(None, "chat", NOTHING, table, key=str(key), **more).model for key in range(keys)}


def test_a_name_with_shares_sends_each_its_part_and_a_key_always_to_the_same() -> None:
    table = canary("a: 95, b: 5")
    assert choose(None, "chat", NOTHING, table, key="s1") == Route("a", "weights")
    found = split(table)
    assert Counter(found.values()) == {"a": 1907, "b": 93}  # of 2000; the hash decides, so it is always these
    assert split(table) == found


def test_other_shares_move_no_more_keys_than_the_difference() -> None:
    before, after = split(canary("a: 95, b: 5")), split(canary("a: 90, b: 10"))
    assert {(before[key], after[key]) for key in before if before[key] != after[key]} == {("a", "b")}
    assert sum(before[key] != after[key] for key in before) == 105


def test_a_share_of_nothing_gets_nothing() -> None:
    assert set(split(canary("a: 0, b: 1, c: 0"), 200).values()) == {"b"}


def test_shares_fall_on_the_models_that_the_caller_may_use() -> None:
    table = canary("a: 95, b: 5")
    assert set(split(table, 200, allowed={"b"}).values()) == {"b"}
    assert split(table, 200, allowed={"c"}) == split(table, 200)  # none: the caller is to be refused


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000), min_size=1).filter(lambda them: any(them.values())),
    st.text(max_size=20),
)
def test_whatever_the_shares_one_with_a_share_is_chosen(shares: dict[str, int], key: str) -> None:
    table = replace(canary("a: 1"), weights={"chat": shares})
    assert shares[choose(None, "chat", NOTHING, table, key=key).model] > 0


def test_a_name_with_shares_is_no_model_of_a_prefix() -> None:
    table = replace(TABLE, weights={"chat": {"code": 1}})
    with pytest.raises(InvalidInput) as caught:
        choose("code", "chat", NOTHING, table)
    assert caught.value.code == "model_not_on_route"


def test_a_name_with_shares_is_listed_beside_the_models() -> None:
    with pytest.raises(NotFound, match="the models are: a, b, c, chat"):
        choose(None, "cat", NOTHING, canary("a: 1"))


# --- how often it is right --------------------------------------------------------------------------------------------


def test_how_many_of_the_held_out_prompts_go_where_they_should() -> None:
    """Exact, so that a change of the rules is noticed, for better or worse. What may be tuned is the other half."""
    labelled = (Path(__file__).parents[2] / "benchmarks" / "gateway" / "prompts.jsonl").read_text(encoding="utf-8")
    rows = [row for row in map(json.loads, labelled.splitlines()) if row["split"] == "held-out"]
    table = table_of(
        loads(
            "llm: {models: {general: {}, code: {}, image: {task: vision}, hard: {}, tools: {}}}\n"
            "gateway: {routes: {}, auto: {tools: tools, hard: hard}}"
        )
    )
    right = Counter(
        row["label"] for row in rows if choose(None, "auto", features_of(row["body"]), table).model == row["label"]
    )
    assert Counter(row["label"] for row in rows) == {"code": 36, "general": 36, "hard": 36, "tools": 12, "image": 12}
    assert right == {"code": 26, "general": 36, "hard": 28, "tools": 12, "image": 12}

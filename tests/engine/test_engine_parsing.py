"""What a body means, and what it is told when it means nothing."""

from typing import Any

import pytest
from engine_builders import MODEL, default_bundle, png

from stoker.base.errors import InvalidInput, NotFound
from stoker.engine import parsing
from stoker.engine.parsing import Asked, Served

USER = [{"role": "user", "content": "Say hello."}]
TINY_PNG = png((200, 0, 0))


def served(task: str = "general", context: int = 512) -> Served:
    return Served(default_bundle(), MODEL, task, context)


def chat(task: str = "general", context: int = 512, **body: Any) -> Asked:
    return parsing.chat({"messages": USER, **body}, served(task, context))


def refused(**body: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        chat(**body)
    return caught.value


def test_the_defaults_are_those_of_openai():
    asked = chat()
    generation = asked.generation
    assert (generation.sampling.temperature, generation.sampling.top_p) == (1.0, 1.0)
    assert (generation.seed, list(generation.stops), generation.soft_tokens) == (None, [], None)
    assert generation.max_tokens == 512 - len(generation.prompt)
    assert (asked.stream, asked.include_usage) == (False, False)


def test_null_means_the_default():
    names = ["temperature", "top_p", "max_tokens", "stop", "seed", "stream", "n", "logit_bias", "stream_options"]
    assert chat(**dict.fromkeys(names)).generation == chat().generation


def test_completions_have_sixteen_tokens_unless_they_ask_for_others():
    assert parsing.completion({"prompt": "One"}, served()).generation.max_tokens == 16
    assert parsing.completion({"prompt": ["One"], "max_tokens": 3}, served()).generation.max_tokens == 3


def test_a_prompt_of_tokens_is_taken_as_it_is():
    assert parsing.completion({"prompt": [9, 10, 11]}, served()).generation.prompt == [9, 10, 11]
    assert parsing.completion({"prompt": [[9, 10]]}, served()).generation.prompt == [9, 10]


def test_the_newer_name_of_max_tokens_wins():
    assert chat(max_tokens=5, max_completion_tokens=7).generation.max_tokens == 7


def test_max_tokens_is_cut_to_what_the_context_leaves():
    asked = chat(context=20, max_tokens=100)
    assert asked.generation.max_tokens == 20 - len(asked.generation.prompt)


def test_parts_of_text_are_one_message():
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]
    prompt = chat(messages=[{"role": "user", "content": parts}]).generation.prompt
    assert default_bundle().tokenizer.decode(prompt) == "Say hello."


def test_an_assistant_that_called_a_tool_has_no_content():
    calls = [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    text = default_bundle().tokenizer.decode(chat(messages=messages).generation.prompt)
    assert '"name": "now"' in text
    assert text.endswith("noon")


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "a_field_of_tomorrow": [1]},
        {"n": 1, "logprobs": False, "response_format": {"type": "text"}, "parallel_tool_calls": False},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
    ],
)
def test_what_changes_nothing_is_passed_over(harmless: dict[str, Any]):
    assert chat(**harmless).generation == chat().generation


@pytest.mark.parametrize(
    ("body", "param", "code", "says"),
    [
        ({"messages": None}, "messages", "missing_required_parameter", "messages is missing"),
        ({"messages": "hi"}, "messages", "invalid_type", 'messages is "hi"; it has to be an array'),
        ({"messages": []}, "messages", "invalid_value", "at least one message"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type", "has to be an object"),
        ({"messages": [{"role": "boss", "content": ""}]}, "messages[0].role", "invalid_value", 'is "boss"'),
        ({"messages": [{"role": ["x"], "content": ""}]}, "messages[0].role", "invalid_value", 'is ["x"]'),
        ({"messages": [{"role": {}, "content": ""}]}, "messages[0].role", "invalid_value", "is {}"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type", "a string or an array"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "invalid_type",
            "has to be a string",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
            "takes text and image_url",
        ),
        ({"temperature": 2.1}, "temperature", "invalid_value", "temperature is 2.1; it has to be between 0 and 2"),
        ({"temperature": True}, "temperature", "invalid_type", "temperature is true; it has to be"),
        ({"temperature": float("nan")}, "temperature", "invalid_value", "between 0 and 2"),
        ({"top_p": -0.1}, "top_p", "invalid_value", "between 0 and 1"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value", "at least 1"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", "invalid_type", "an integer"),
        ({"seed": "7"}, "seed", "invalid_type", "an integer"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value", "4 are the most"),
        ({"stop": ["a", 1]}, "stop[1]", "invalid_type", "a string"),
        ({"stop": ""}, "stop", "invalid_value", "empty"),
        ({"stream": "yes"}, "stream", "invalid_type", "true or false"),
        ({"stream_options": {}}, "stream_options", "invalid_value", "only for stream: true"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "invalid_type",
            "true or false",
        ),
        ({"n": 2}, "n", "unsupported_value", "n is 2"),
        ({"logprobs": True}, "logprobs", "unsupported_value", "logprobs is true"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_value", "json_object"),
        ({"tool_choice": "required"}, "tool_choice", "unsupported_value", "required"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value", "between -2 and 2"),
        ({"continue_final_message": True}, "continue_final_message", "invalid_value", "it is of user"),
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
            "invalid_value",
            "is true, and so is add_generation_prompt",
        ),
        ({"add_generation_prompt": False}, "continue_final_message", "invalid_value", "is false, and so is"),
        ({"continue_final_message": 1}, "continue_final_message", "invalid_type", "true or false"),
        ({"logit_bias": {"99999": 1}}, "logit_bias.99999", "invalid_value", "no token of this model"),
        ({"logit_bias": {"9": 101}}, "logit_bias.9", "invalid_value", "between -100 and 100"),
    ],
)
def test_a_wrong_body_is_refused_by_the_name_of_its_parameter(body: dict[str, Any], param: str, code: str, says: str):
    error = refused(**body)
    assert (error.param, error.code, error.status) == (param, code, 400)
    assert says in error.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 5000]}, "prompt"),
        ({"prompt": [1, True]}, "prompt"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "logprobs": 1}, "logprobs"),
    ],
)
def test_a_wrong_completion_is_refused_by_the_name_of_its_parameter(body: dict[str, Any], param: str):
    with pytest.raises(InvalidInput) as caught:
        parsing.completion(body, served())
    assert caught.value.param == param


@pytest.mark.parametrize("words", [600, 2_000_000])
def test_a_prompt_longer_than_the_context_is_refused(words: int):
    """The second is refused before its tokens are counted: 10 MB of them take seconds."""
    error = refused(messages=[{"role": "user", "content": "word " * words}])
    assert (error.code, error.param) == ("context_length_exceeded", "messages")
    assert "the context of small is 512 tokens" in error.message


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused():
    length = len(chat().generation.prompt)
    assert chat(context=length + 1).generation.max_tokens == 1
    with pytest.raises(InvalidInput, match="leaves none for the answer"):
        chat(context=length)


@pytest.mark.parametrize("name", ["stop", "temperature", "messages"])
def test_a_value_nested_without_end_is_refused_like_any_other(name: str):
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert refused(**{name: value}).status == 400
    while value:  # freeing it in one go would be as deep a recursion
        value = value.pop()


def test_another_model_is_not_found():
    with pytest.raises(NotFound, match="this engine serves 'small', not 'large'"):
        chat(model="large")
    assert chat(model="small").generation == chat().generation


def image_message(url: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def test_an_image_is_counted_and_has_one_soft_token_for_each_placeholder():
    asked = chat("vision", messages=image_message(TINY_PNG))
    image = default_bundle().config.image
    assert image is not None
    assert asked.generation.prompt.count(default_bundle().tokenizer.image) == image.tokens
    assert asked.generation.soft_tokens is not None
    assert asked.generation.soft_tokens.shape == (image.tokens, default_bundle().config.hidden_size)


def test_an_image_for_another_task_names_the_vision_route():
    with pytest.raises(InvalidInput, match="/v1/vision") as caught:
        chat("general", messages=image_message(TINY_PNG))
    assert caught.value.param == "messages[0].content[0]"


def test_too_many_images_are_refused():
    content = image_message(TINY_PNG)[0]["content"] * 9
    with pytest.raises(InvalidInput, match="more than 8 images"):
        chat("vision", messages=[{"role": "user", "content": content}])


def test_an_image_without_a_url_is_refused():
    with pytest.raises(InvalidInput) as caught:
        chat("vision", messages=image_message(7))
    assert caught.value.param == "messages[0].content[0].image_url.url"

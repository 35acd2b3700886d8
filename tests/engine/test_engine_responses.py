"""`/v1/responses` of the engine: bodies, and the SDK over HTTP."""

import json
from typing import Any

import openai
import pytest
from engine_builders import MODEL, Serving, default_bundle, png, question

from stoker.base.errors import InvalidInput
from stoker.engine import responses
from stoker.engine.parsing import Asked, Served
from stoker.nn.tokenizer import ImagePart, Message

STORY: dict[str, Any] = {"model": MODEL, "input": "Tell me a story.", "temperature": 0}
NO_END = {"logit_bias": {"1": -100}}
ENDLESS = {**STORY, **NO_END}
"""The SDK wants what OpenAI has not in `extra_body`."""


def parsed(task: str = "general", **body: Any) -> Asked:
    return responses.parse(body, Served(default_bundle(), MODEL, task, 1024))


def prompt(*messages: Message) -> list[int]:
    return default_bundle().tokenizer.chat_prompt(messages)


def test_a_text_is_a_message_of_the_user_after_the_instructions() -> None:
    assert parsed(input="one").generation.prompt == question("one")
    both = parsed(input="one", instructions="Be brief.").generation.prompt
    assert both == prompt(Message("system", ["Be brief."]), Message("user", ["one"]))


def test_items_are_the_messages_of_a_conversation() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"}
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "two", "annotations": []}]},
        call,
        {"type": "function_call_output", "call_id": "c", "output": "noon"},
    ]
    assert parsed(input=items).generation.prompt == prompt(
        Message("system", ["Be brief."]),
        Message("user", ["one"]),
        Message("assistant", ["two"]),
        Message("assistant", ['{"name": "now", "arguments": "{}", "input": null}']),
        Message("tool", ["noon"]),
    )


def test_pictures_are_for_vision_models() -> None:
    content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": png((255, 0, 0))}]
    asked = parsed("vision", input=[{"role": "user", "content": content}])
    image = default_bundle().config.image
    assert image is not None
    assert asked.generation.prompt == prompt(Message("user", ["What is it?", ImagePart(image.tokens)]))
    assert asked.generation.soft_tokens is not None
    with pytest.raises(InvalidInput, match="takes no images"):
        parsed("general", input=[{"role": "user", "content": content}])


def test_the_length_has_one_name_here() -> None:
    assert parsed(input="one", max_output_tokens=7, max_tokens=3).generation.max_tokens == 7
    assert parsed(input="one").generation.max_tokens == 1024 - len(question("one"))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"input": ["one"]}, "input[0]"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": ["message"], "role": "user", "content": "a"}]}, "input[0].type"),
        ({"input": [{"role": ["user"], "content": "a"}]}, "input[0].role"),
        ({"input": [{"type": "function_call_output", "output": None}]}, "input[0].output"),
        ({"instructions": ["x"]}, "instructions"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"store": "yes"}, "store"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"n": 2}, "n"),
    ],
)
def test_what_is_not_possible_is_refused_by_its_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parsed(**{"input": "one", **body})
    assert caught.value.param == param


def test_what_changes_nothing_is_passed_over() -> None:
    tool = {"type": "function", "name": "now", "parameters": {}}
    harmless = {"store": True, "tools": [tool], "tool_choice": "auto", "text": {"verbosity": "low"}, "user": "u"}
    assert parsed(input="one", **harmless, include=["reasoning.encrypted_content"]).generation.prompt == question("one")


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_a_whole_response(sdk: openai.AsyncOpenAI) -> None:
    made = await sdk.responses.create(model=MODEL, input="What is 6 times 7?", temperature=0, store=True)
    assert made.output_text == "6 times 7 is 42."
    assert (made.status, made.object, made.model, made.incomplete_details) == ("completed", "response", MODEL, None)
    assert made.id.startswith("resp_")
    assert made.to_dict()["store"] is False
    assert made.usage is not None
    count = len(default_bundle().tokenizer.encode("6 times 7 is 42.")) + 1
    asked = len(question("What is 6 times 7?"))
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (asked, count, asked + count)


async def test_the_events_of_a_stream(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.responses.create(model=MODEL, input="What is 6 times 7?", temperature=0, stream=True)
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "6 times 7 is 42."
    assert events[-4].type == "response.output_text.done"
    assert events[-4].text == "6 times 7 is 42."
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "6 times 7 is 42."
    assert events[-1].response.usage is not None
    assert len({event.response.id for event in events if hasattr(event, "response")}) == 1


async def test_the_sdk_puts_a_stream_together(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.responses.stream(model=MODEL, input="What is 6 times 7?", temperature=0) as stream:
        final = await stream.get_final_response()
    assert final.output_text == "6 times 7 is 42."


async def test_a_response_that_reaches_its_length_is_incomplete(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.responses.create(**STORY, extra_body=NO_END, max_output_tokens=5)
    events = [
        event
        async for event in await sdk.responses.create(**STORY, extra_body=NO_END, max_output_tokens=5, stream=True)
    ]
    last = events[-1]
    assert last.type == "response.incomplete"
    for made in (whole, last.response):
        assert made.status == "incomplete"
        assert made.incomplete_details is not None
        assert made.incomplete_details.reason == "max_output_tokens"
        assert made.usage is not None
        assert (made.usage.output_tokens, made.max_output_tokens) == (5, 5)
    assert whole.output_text == last.response.output_text


async def test_events_have_names_and_say_their_usage_so_far_to_who_asks(engine: Serving) -> None:
    body = {**ENDLESS, "max_output_tokens": 3, "stream": True, "stream_options": {"continuous_usage_stats": True}}
    answer = await engine.client.request("POST", "/v1/responses", body=body)
    events = [event.split("\n") for event in answer.body.decode().strip().split("\n\n")]
    said = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name for name, _ in events] == [f"event: {event['type']}" for event in said]
    assert [event["usage"]["output_tokens"] for event in said[:4]] == [0] * 4
    assert said[-1]["usage"]["output_tokens"] == 3
    assert said[-1]["usage"] == said[-1]["response"]["usage"]


async def test_the_engine_says_afterwards_what_it_produced(engine: Serving) -> None:
    headers = {"X-Request-Id": "req_1"}
    body = {**ENDLESS, "max_output_tokens": 3}
    await engine.client.request("POST", "/v1/responses", body=body, headers=headers)
    said = await engine.client.get_json("/v1/requests/req_1")
    assert (said["known"], said["has_ended"], said["usage"]["completion_tokens"]) == (True, True, 3)
    assert said["usage"]["prompt_tokens"] == len(question("Tell me a story."))


async def test_a_stream_whose_client_has_gone_stops(engine: Serving) -> None:
    async with engine.client.stream("POST", "/v1/responses", body={**ENDLESS, "stream": True}) as stream:
        await anext(stream.events)
    await engine.until(lambda seen: seen["vllm:num_requests_running"] == 0, "vllm:num_requests_running")
    assert await engine.metric("vllm:generation_tokens_total") < 4000


async def test_a_failure_in_the_middle_is_an_error_for_the_sdk(
    engine: Serving, sdk: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await sdk.responses.create(**STORY, extra_body=NO_END, stream=True)
    await anext(aiter(stream))
    monkeypatch.setattr(type(engine.loop.runner), "_compute", None)
    with pytest.raises(openai.APIError, match="the engine failed while computing this answer"):
        _ = [event async for event in stream]

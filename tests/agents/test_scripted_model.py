"""The model that follows a script: which rule answers, and what OpenAI's SDK reads of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import AsyncOpenAI, NotFoundError

from stoker.agents.context import UNTRUSTED
from stoker.base.errors import InvalidInput, NotFound
from stoker.testing.scripted import Asked, Said, Script, application
from stoker.web import server

Json = dict[str, Any]

REFUNDS = r"""
- when: {system: clerk, from: user, last: 'refund of order (?P<order>\d+)', tools: refund}
  call: [{refund: {order: "{order}", why: ["{last}"]}}]
- when: {from: tool, last: '^refunded (?P<usd>\S+)$'}
  say: "Done: {usd}. {results}"
- when: {last: who am i, any: 'i am (?P<name>\w+)'}
  say: "{name}"
- when: {image: true, tools: false}
  say: an image
- when: {tools: true}
  say: tools
- when: {from: user, last: 'last\s+word'}
  say: "{user}!"
"""
REFUND = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}


def user(text: Any) -> Json:
    return {"role": "user", "content": text}


def answer(script: str, messages: Sequence[Json], tools: Sequence[Json] = ()) -> Said:
    return Script(yaml.safe_load(script)).answer(Asked.of({"messages": list(messages), "tools": list(tools)}))


def test_the_first_rule_that_fits_answers() -> None:
    clerk, asked = {"role": "system", "content": "You are a CLERK."}, user("A refund of order 12, please")
    assert answer(REFUNDS, [clerk, asked], [REFUND]) == Said(
        None, [("refund", {"order": "12", "why": ["A refund of order 12, please"]})]
    )
    assert answer(REFUNDS, [asked], [REFUND]).text == "tools"  # no clerk
    tools = [{"role": "tool", "content": UNTRUSTED + "one"}, {"role": "tool", "content": UNTRUSTED + "refunded $5"}]
    assert answer(REFUNDS, [clerk, asked, *tools]).text == "Done: $5. one\nrefunded $5"
    assert answer(REFUNDS, [user("I am Ada"), user("Who am I?")]).text == "Ada"
    image = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    assert answer(REFUNDS, [user(image)]).text == "an image"
    assert answer(REFUNDS, [user("the last word {user}")]).text == "the last word {user}!"
    with pytest.raises(NotFound, match="no rule of the script fits a message of user that says 'else'"):
        answer(REFUNDS, [user("else")])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"say": "x"}, "a script has to be a list of rules"),
        ([{"when": {}}], "rule 1 says nothing and calls nothing"),
        ([{"say": "x"}, {"say": "x", "reply": "y"}], "rule 2 has to be an object of `when`, `say` and `call`"),
        ([{"when": {"role": "user"}, "say": "x"}], "rule 1.when.role is no condition"),
        ([{"when": {"last": "("}, "say": "x"}], "rule 1.when holds what is no regular expression"),
        ([{"say": "{name}"}], "rule 1 has {name}, which nothing gives"),
        ([{"call": [{"a": {"b": ["{c}"]}}]}], "rule 1 has {c}, which nothing gives"),
    ],
)
def test_what_is_no_script_is_said_when_it_is_read(script: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Script(script)
    assert caught.value.message.startswith(message)


def test_all_scripts_of_the_examples_can_be_read() -> None:
    found = sorted((Path(__file__).parents[2] / "examples").rglob("script*.yaml"))
    assert [path.parent.name for path in found] == ["agents"]
    for path in found:
        Script.load(path)


@pytest.fixture
async def sdk() -> AsyncIterator[AsyncOpenAI]:
    listening, stop, ready = server.bind("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        server.serve(application(Script(yaml.safe_load(REFUNDS))), listening, stop, on_ready=ready.set, grace_s=0)
    )
    await ready.wait()
    try:
        async with AsyncOpenAI(base_url=server.url_of(listening) + "/v1", api_key="any", max_retries=0) as client:
            yield client
    finally:
        stop.set()
        await serving


async def test_the_sdk_reads_calls_whole_and_as_a_stream(sdk: AsyncOpenAI) -> None:
    asked: Any = {
        "model": "m",
        "messages": [{"role": "system", "content": "clerk"}, user("refund of order 7")],
        "tools": [REFUND],
    }
    whole = await sdk.chat.completions.create(**asked)
    (call,) = whole.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("refund", '{"order":"7","why":["refund of order 7"]}')
    assert (whole.choices[0].finish_reason, whole.system_fingerprint) == ("tool_calls", "scripted")
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (5, 5, 10)

    name, arguments, usage, finish = "", "", None, None
    stream = await sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for piece in choice.delta.tool_calls or ():
                assert piece.function is not None
                name, arguments = name + (piece.function.name or ""), arguments + (piece.function.arguments or "")
    assert (name, arguments, finish, usage) == ("refund", call.function.arguments, "tool_calls", whole.usage)


async def test_the_sdk_reads_text_as_a_stream_and_what_it_talks_to(sdk: AsyncOpenAI) -> None:
    asked: Any = {"model": "m", "messages": [user("this is \n the last  word")]}
    whole = await sdk.chat.completions.create(**asked)
    stream = await sdk.chat.completions.create(**asked, stream=True)
    pieces = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content == "this is \n the last  word!"
    assert len([piece for piece in pieces if piece]) == 5
    assert [model.id async for model in sdk.models.list()] == ["scripted"]
    with pytest.raises(NotFoundError, match="no rule of the script fits"):
        await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "else"}])

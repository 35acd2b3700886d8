"""Whole answers straight from a replica."""

import asyncio
from dataclasses import replace
from typing import Any

import openai
import pytest
from gateway_parts import HELLO, Stack, until

from stoker.base.errors import InvalidInput
from stoker.base.ids import ModelName
from stoker.queue import Replica
from stoker.testing.engine import EchoEngine

CHAT = "/v1/chat/completions"

# A picture of one white pixel.
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


async def test_an_answer_is_the_engines_and_is_counted(stack: Stack) -> None:
    await stack.engine()
    sdk = await stack.sdk()

    answer = await sdk.chat.completions.with_raw_response.create(**asked(max_tokens=3))

    said = answer.parse()
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("one two three", "length")
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (4, 3)
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("done", 4, 3)
    assert record.nano_usd == 4 * 1000 + 3 * 2000
    assert answer.headers["x-request-id"] == record.id
    assert answer.headers["x-stoker-model"] == "general"
    assert answer.headers["x-stoker-replica"] == record.replica == "general-0"
    assert answer.headers["x-stoker-route"] == "model"


async def test_completions_are_answered_too(stack: Stack) -> None:
    await stack.engine()
    answer = await (await stack.sdk()).completions.create(model="gpt-4o", prompt="a b")
    assert answer.choices[0].text == "a b"
    assert (await stack.record()).route == "alias"


async def test_auto_goes_by_what_is_asked(stack: Stack) -> None:
    for model in ("general", "code", "vision"):
        await stack.engine(model)
    http = await stack.http()
    image = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": PNG}}]

    models = []
    for content in ("good morning", "```python\nprint(1)\n```", image):
        answer = await http.request("POST", CHAT, body={"messages": [{"role": "user", "content": content}]})
        models.append((answer.headers["x-stoker-model"], answer.headers["x-stoker-route"]))

    assert models == [("general", "auto:general"), ("code", "auto:code"), ("vision", "auto:image")]


async def test_a_refusal_of_the_engine_passes_through(stack: Stack) -> None:
    engine = await stack.engine()
    sdk = await stack.sdk()

    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.chat.completions.create(model="general", messages=[])
    assert caught.value.param == "messages"

    engine.refuse(422, {"object": "error", "message": "n is too large", "code": 422})
    engine.refuse(404, "<html>nothing here</html>")
    http = await stack.http()
    answer = await http.request("POST", CHAT, body=asked())
    assert answer.status == 422
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "n is too large" in answer.json()["error"]["message"]
    answer = await http.request("POST", CHAT, body=asked())
    assert answer.status == 404
    message = "the server answered with status 404: <html>nothing here</html>"
    assert answer.json()["error"]["message"] == message
    assert await stack.records() == []  # what the engine refused was never let in


async def test_an_engine_that_fails_is_recorded(stack: Stack) -> None:
    engine = await stack.engine()
    engine.refuse(500, {"error": {"message": "broken", "type": "server_error", "code": None, "param": None}})
    answer = await (await stack.http()).request("POST", CHAT, body=asked())
    assert (answer.status, answer.json()["error"]["message"]) == (500, "broken")
    assert (await stack.record()).status == "failed"


async def test_an_answer_that_is_not_json_is_none_and_is_recorded(stack: Stack) -> None:
    engine = await stack.engine()
    engine.refuse(200, "hello")
    answer = await (await stack.http()).request("POST", CHAT, body=asked())
    assert (answer.status, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert (await stack.record()).status == "failed"


async def test_a_replica_that_is_down_is_passed_over_and_left_alone(stack: Stack) -> None:
    first, second = await stack.engine(), await stack.engine()
    await first.stop()
    http = await stack.http()

    replicas = [(await http.request("POST", CHAT, body=asked())).headers["x-stoker-replica"] for _ in range(3)]

    assert replicas == ["general-1"] * 3
    assert len(second.requests) == 3
    records = await stack.records()
    assert [record.attempts for record in records] == [2, 1, 1]  # only the first found out
    assert stack.gateway.fleet.snapshot()[0]["state"] == "down"


async def test_a_replica_that_breaks_in_the_middle_of_an_answer_is_passed_over(stack: Stack) -> None:
    first, _ = await stack.engine(), await stack.engine()
    first.break_off_after(0)
    answer = await (await stack.http()).request("POST", CHAT, body=asked())
    assert (answer.status, answer.headers["x-stoker-replica"]) == (200, "general-1")
    assert (await stack.record()).attempts == 2


async def test_replicas_take_turns_and_the_busy_one_is_spared(stack: Stack) -> None:
    engines = [await stack.engine(), await stack.engine()]
    http = await stack.http()
    for _ in range(4):
        await http.post_json(CHAT, asked())
    assert [len(engine.requests) for engine in engines] == [2, 2]

    hold = engines[0].hold_at(0)
    held = asyncio.create_task(http.post_json(CHAT, asked()))
    await hold.reached()
    for _ in range(3):
        await http.post_json(CHAT, asked())
    assert [len(engine.requests) for engine in engines] == [3, 5]
    hold.open.set()
    await held


async def test_a_client_that_leaves_while_the_answer_is_computed_stops_it(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(0)
    http = await stack.http()

    asking = asyncio.create_task(http.post_json(CHAT, asked()))
    request = await hold.reached()
    asking.cancel()
    await asyncio.wait({asking})

    assert await request.end() == "cancelled"
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 4, 0)
    await until(lambda: stack.gateway.fleet.members["general-0"].in_flight == 0)


async def test_a_replica_that_moves_is_found_and_the_old_connection_is_closed_when_idle(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(0)
    http = await stack.http()
    held = asyncio.create_task(http.post_json(CHAT, asked()))
    await hold.reached()

    async with EchoEngine() as elsewhere:
        fleet = stack.gateway.fleet
        moved = fleet.members["general-0"].replica
        await stack.registry.announce(replace(moved, url=elsewhere.url), ttl_s=3600)
        await fleet.refresh()
        await http.post_json(CHAT, asked())
        assert len(elsewhere.requests) == 1
        assert len(fleet._departed) == 1

        hold.open.set()
        assert (await held)["choices"][0]["message"]["content"] == "one two three four"
        await until(lambda: not fleet._departed or fleet._departed[0].in_flight == 0)
        await fleet.refresh()
        assert fleet._departed == []


async def test_replicas_that_make_no_sense_do_no_harm(stack: Stack) -> None:
    """Left in Redis by another platform, or announced with a URL that is none."""
    for name, model, url in (("a", "unknown", "http://127.0.0.1:1"), ("b", "general", "http://host:port")):
        replica = Replica(id=name, model=ModelName(model), url=url, capacity=1, started_at=0.0)
        await stack.registry.announce(replica, ttl_s=3600)
    async with EchoEngine() as engine:
        with pytest.raises(InvalidInput, match="is not a URL"):
            await stack.announce(engine)
        assert list(stack.gateway.fleet.members) == ["general-0"]
        assert (await (await stack.http()).request("POST", CHAT, body=asked())).status == 200

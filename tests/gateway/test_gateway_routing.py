"""Which model a request gets, seen from outside: shares, what `auto` sends where, and a model that stands in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, Stack, a_stack, events_of, running_worker, until

from stoker.meter.keys import KeyStore
from stoker.spec import Budgets, loads
from stoker.testing.engine import EchoEngine

CHAT = "/v1/chat/completions"

PLATFORM = loads("""
gateway:
  timeouts: {connectSeconds: 20, firstTokenSeconds: 20, totalSeconds: 20}
  auto: {tools: spare, hard: spare}
  weights: {chat: {general: 50, code: 50}}
queue: {maxAttempts: 2, retryBaseSeconds: 0.01, retryCapSeconds: 0.02}
llm:
  models:
    general:
      fallback: spare
      limits: {maxOutputTokens: 100, concurrency: 4}
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 0.5, outputUsdPerMillionTokens: 2}
    code: {}
    spare:
      limits: {maxOutputTokens: 3, concurrency: 4}
      prices: {inputUsdPerMillionTokens: 10, cachedInputUsdPerMillionTokens: 10, outputUsdPerMillionTokens: 20}
tenants: {acme: {}, other: {}}
""")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path, platform=PLATFORM) as made:
        made.gateway.services.inference.patience = replace(made.gateway.services.inference.patience, connect_s=0.01)
        yield made


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


async def routed(stack: Stack, body: dict[str, Any], key: str = KEY, **headers: str) -> tuple[str, str]:
    answer = await (await stack.http(key)).request("POST", CHAT, body=body, headers=headers)
    assert answer.status == 200, answer.body
    return answer.headers["x-stoker-model"], answer.headers["x-stoker-route"]


# --- shares -----------------------------------------------------------------------------------------------------------


async def test_a_session_stays_with_its_model_and_others_are_spread(stack: Stack) -> None:
    await stack.engine("general")
    await stack.engine("code")
    body = asked(model="chat")
    found = [await routed(stack, body, **{"X-Session-Id": f"s{number}"}) for number in range(12)]
    assert Counter(found) == {("general", "weights"): 4, ("code", "weights"): 8}
    again = [await routed(stack, body, **{"X-Session-Id": f"s{number}"}) for number in range(12)]
    assert again == found
    # Without a session, the run decides, or else the end user, as OpenAI's clients name them.
    for same in ({"X-Run-Id": "s1"}, {"X-Session-Id": "s1", "X-Run-Id": "s2"}):
        assert await routed(stack, body, **same) == found[1]
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        assert await routed(stack, {**body, name: "s3"}) == found[3]


async def test_a_key_gets_the_models_that_it_may_use(stack: Stack) -> None:
    await stack.engine("general")
    await stack.engine("code")
    secret = KeyStore(stack.store).create(tenant="acme", models=["code"]).secret
    for number in range(8):
        session = {"X-Session-Id": f"s{number}"}
        assert await routed(stack, asked(model="chat"), secret, **session) == ("code", "weights")
    sdk = await stack.sdk(key=secret)
    assert [model.id async for model in sdk.models.list()] == ["code", "chat", "auto"]


async def test_names_with_shares_are_listed(stack: Stack) -> None:
    sdk = await stack.sdk()
    assert [model.id async for model in sdk.models.list()] == ["general", "code", "spare", "chat", "auto"]


# --- auto -------------------------------------------------------------------------------------------------------------


async def test_auto_says_why(stack: Stack) -> None:
    for model in ("general", "code", "spare"):
        await stack.engine(model)
    tools = [{"type": "function", "function": {"name": "f"}}]
    hard = [{"role": "user", "content": "Prove that the square of an even number is even."}]
    assert await routed(stack, asked(model="auto", tools=tools)) == ("spare", "auto:tools")
    assert await routed(stack, asked(model="auto", messages=hard)) == ("spare", "auto:hard")
    assert await routed(stack, asked(model="auto")) == ("general", "auto:general")


# --- a model that stands in -------------------------------------------------------------------------------------------

SPARE = {"x-stoker-model": "spare", "x-stoker-route": "fallback", "x-stoker-replica": "spare-0"}


def shown(answer: Any) -> dict[str, str]:
    return {name: answer.headers[name] for name in SPARE}


async def test_while_no_replica_is_up_another_model_answers_at_its_own_bounds_and_prices(stack: Stack) -> None:
    spare = await stack.engine("spare")
    answer = await (await stack.http()).request("POST", CHAT, body=asked())
    assert (answer.status, shown(answer)) == (200, SPARE)
    assert answer.json()["choices"][0]["message"]["content"] == "one two three"  # its maxOutputTokens is 3
    assert answer.headers["x-stoker-cost-usd"] == "0.000100000"
    assert (spare.requests[0].body["model"], spare.requests[0].body["max_completion_tokens"]) == ("spare", 3)
    record = await stack.record()
    assert (record.id, record.model, record.route) == (answer.headers["x-request-id"], "spare", "fallback")
    assert (record.status, record.attempts, record.nano_usd) == ("done", 1, 4 * 10_000 + 3 * 20_000)


async def test_a_stream_is_answered_by_it_too(stack: Stack) -> None:
    await stack.engine("spare")
    http = await stack.http()
    async with http.stream("POST", CHAT, body=asked(stream=True)) as answer:
        events = await events_of(answer)
        assert {name: answer.headers[name] for name in SPARE} == SPARE
    assert events[-1] == "[DONE]"
    assert (await stack.record()).model == "spare"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_request_that_finds_out_that_the_last_replica_is_gone_is_answered_as_well(
    stack: Stack, stream: bool
) -> None:
    general, _ = await stack.engine("general"), await stack.engine("spare")
    await general.stop()
    http = await stack.http()
    headers = {"X-Session-Id": "s"}
    async with http.stream("POST", CHAT, body=asked(stream=stream), headers=headers) as answer:
        if stream:
            assert [*await events_of(answer)][-1] == "[DONE]"
        assert shown(answer) == {**SPARE, "x-stoker-replica": "spare-1"}
    record = await stack.record()
    assert (record.model, record.route, record.attempts, record.session) == ("spare", "fallback", 2, "s")
    sessions = stack.gateway.services.inference.sessions
    await until(lambda: not sessions._known[("acme", "s")].in_flight)


async def test_a_model_that_is_full_is_not_down(stack: Stack) -> None:
    general, spare = await stack.engine("general", capacity=1), await stack.engine("spare")
    hold = general.hold_at(0)
    http = await stack.http()
    first = asyncio.create_task(http.post_json(CHAT, asked()))
    await hold.reached()
    await stack.worker(general)
    answer = await http.request("POST", CHAT, body=asked())
    assert (answer.headers["x-stoker-model"], answer.headers["x-stoker-replica"]) == ("general", "queue")
    assert spare.requests == []
    hold.open.set()
    await first


async def test_a_replica_that_comes_in_time_answers_itself(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=PLATFORM) as stack:
        await stack.engine("spare")
        asking = asyncio.create_task(routed(stack, asked()))
        await until(lambda: stack.gateway.fleet._down_since)
        await stack.engine("general")
        assert await asking == ("general", "model")


async def test_who_may_not_use_the_other_model_waits_in_the_queue(stack: Stack) -> None:
    spare = await stack.engine("spare")
    secret = KeyStore(stack.store).create(tenant="acme", models=["general"]).secret
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        answer = await (await stack.http(secret)).request("POST", CHAT, body=asked())
    assert (answer.headers["x-stoker-model"], spare.requests) == ("general", [])


async def test_when_the_other_model_is_down_too_the_request_waits_in_the_queue(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        answer = await (await stack.http()).request("POST", CHAT, body=asked())
    assert (answer.headers["x-stoker-model"], answer.headers["x-stoker-route"]) == ("general", "model")


async def test_what_the_other_model_costs_has_to_fit_the_budget(stack: Stack) -> None:
    """The longest answer of general fits; that of spare does not, for its prompt costs ten times as much."""
    general, spare = await stack.engine("general"), await stack.engine("spare")
    budgets = Budgets(usd_total=Decimal("0.0003"))
    secret = KeyStore(stack.store).create(tenant="acme", budgets=budgets).secret
    http = await stack.http(secret)
    await general.stop()
    answer = await http.request("POST", CHAT, body=asked(max_tokens=100))
    assert (answer.status, answer.json()["error"]["code"]) == (400, "request_over_budget")
    assert spare.requests == []
    await general.start()
    await stack.announce(general)
    answer = await http.request("POST", CHAT, body=asked(max_tokens=100))  # all of it is there again
    assert (answer.status, answer.headers["x-stoker-model"]) == (200, "general")


async def test_the_states_of_the_breakers_are_shown(stack: Stack) -> None:
    general, _ = await stack.engine("general"), await stack.engine("spare")
    await general.stop()
    assert await routed(stack, asked()) == ("spare", "fallback")
    shown = (await (await stack.http(ADMIN_KEY)).get_json("/admin/v1/replicas"))["replicas"]
    assert [(one["id"], one["state"], one["breaker"]) for one in shown] == [
        ("general-0", "down", "open"),
        ("spare-1", "up", "closed"),
    ]
    text = (await (await stack.http()).request("GET", "/metrics")).body.decode()
    assert [
        line for line in text.splitlines() if line.startswith("stoker_replicas{") and not line.endswith(" 0.0")
    ] == [
        'stoker_replicas{breaker="open",model="general"} 1.0',
        'stoker_replicas{breaker="closed",model="spare"} 1.0',
    ]

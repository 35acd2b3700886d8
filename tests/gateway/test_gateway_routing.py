"""Which model a request gets, seen from outside: shares, what `auto` sends where, and a model that stands in."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, Stack, a_stack

from stoker.meter.keys import KeyStore
from stoker.spec import loads

CHAT = "/v1/chat/completions"

PLATFORM = loads("""
gateway:
  timeouts: {connectSeconds: 0.05, firstTokenSeconds: 20, totalSeconds: 20}
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

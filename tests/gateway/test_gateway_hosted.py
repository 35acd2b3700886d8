"""Story: a hosted API as an engine. It has a key of its own, which clients never see, and it never sees theirs; what it
refuses the platform is not what the platform refuses its clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, Stack, a_stack, a_worker, events_of

from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.policy.breaker import IN_A_ROW
from stoker.queue import Replica
from stoker.spec import loads
from stoker.testing.engine import EchoEngine
from stoker.web.client import Answer

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
THEIRS = "hosted.secret/7f3a9c"  # looks like no key that anybody would recognise
ASKED: Json = {"model": "big", "messages": HELLO}
STREAMED: Json = {**ASKED, "stream": True}
SPEC = """
gateway:
  routes: {{}}
  defaultModel: small
  timeouts: {{connectSeconds: 20, firstTokenSeconds: 20, totalSeconds: 20}}
queue: {{maxAttempts: 1}}
llm:
  models:
    big: {{engine: {{url: "{url}/v1", apiKeyEnv: HOSTED_KEY, model: gpt-x}}, fallback: {fallback}}}
    small: {{}}
tenants: {{acme: {{}}, other: {{}}}}
"""


@asynccontextmanager
async def hosted(directory: Path, fallback: str = "small") -> AsyncIterator[tuple[Stack, EchoEngine, EchoEngine]]:
    """The platform, the hosted API, and the small engine that stands in for it."""
    async with EchoEngine("gpt-x") as api:
        api.key = THEIRS
        async with a_stack(directory, platform=loads(SPEC.format(url=api.url, fallback=fallback))) as stack:
            replica = Replica(id="big-0", model=ModelName("big"), url=f"{api.url}/v1", capacity=4, started_at=1.0)
            await stack.registry.announce(replica, ttl_s=3600)
            yield stack, api, await stack.engine("small")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Stack, EchoEngine, EchoEngine]]:
    monkeypatch.setenv("HOSTED_KEY", THEIRS)
    async with hosted(tmp_path) as made:
        yield made


async def asked(stack: Stack, body: Json = ASKED) -> Answer:
    return await (await stack.http()).request("POST", CHAT, body=body)


def error_in(answer: Answer) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status, error["code"], error["message"]


def of_theirs(message: str, code: str | None = None) -> Json:
    return {"error": {"message": message, "type": "t", "code": code, "param": None}}


async def test_each_side_sees_its_own_key_alone(world: tuple[Stack, EchoEngine, EchoEngine]) -> None:
    stack, api, _ = world
    whole = await asked(stack)
    async with (await stack.http()).stream("POST", CHAT, body=STREAMED) as stream:
        streamed = [event async for event in stream.events]
    assert whole.status == stream.status == 200
    for seen in api.requests:
        assert seen.headers["authorization"] == f"Bearer {THEIRS}"
        assert seen.body["model"] == "gpt-x"
        assert KEY not in repr(seen)
    assert len(api.requests) == 2
    assert whole.json()["choices"][0]["message"]["content"] == "one two three four"
    for shown in (whole.body, repr(whole.headers), repr(streamed), repr(stream.headers)):
        assert THEIRS not in str(shown)
        assert urlsplit(api.url).netloc not in str(shown)


BOTH = pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
OUR_KEY = (
    "the engine does not take the platform's own key (status {}) (for who runs the platform: "
    "llm.models.*.engine.apiKeyEnv names the variable that holds it)"
)
OUR_BILL = (
    "the platform's account at the engine has no credit left (status {}) (for who runs the platform: the bill of the "
    "hosted API)"
)


def refusing(api: EchoEngine, status: int, code: str | None = None) -> None:
    api.refuse(status, of_theirs("You exceeded your current quota, please check your plan", code))


@BOTH
@pytest.mark.parametrize(
    ("status", "code", "told"),
    [(401, None, OUR_KEY), (403, None, OUR_KEY), (402, None, OUR_BILL), (429, "insufficient_quota", OUR_BILL)],
)
async def test_what_it_refuses_the_platform_is_not_the_clients_affair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str | None, told: str, body: Json
) -> None:
    """401 would tell the client to look at its own key, 402 and that 429 at its own budget."""
    monkeypatch.setenv("HOSTED_KEY", THEIRS)
    async with hosted(tmp_path, fallback="null") as (stack, api, small):
        refusing(api, status, code)
        assert error_in(await asked(stack, body)) == (502, "upstream_error", told.format(status))
        assert small.requests == []
        [record] = await stack.records()
        assert (record.status, record.nano_usd) == ("failed", 0)


@BOTH
@pytest.mark.parametrize(("status", "code"), [(401, None), (403, None), (402, None), (429, "insufficient_quota")])
async def test_another_model_answers_in_its_place_before_the_first_byte(
    world: tuple[Stack, EchoEngine, EchoEngine], status: int, code: str | None, body: Json
) -> None:
    stack, api, small = world
    refusing(api, status, code)
    answer = await asked(stack, body)
    assert (answer.status, answer.headers["x-stoker-model"], answer.headers["x-stoker-route"]) == (
        200,
        "small",
        "fallback",
    )
    assert len(small.requests) == 1
    assert [(record.model, record.attempts) for record in await stack.records()] == [("small", 2)]


async def test_a_key_that_is_never_taken_opens_its_breaker(world: tuple[Stack, EchoEngine, EchoEngine]) -> None:
    stack, api, _ = world
    api.key = "another"
    for _ in range(IN_A_ROW):
        assert (await asked(stack)).headers["x-stoker-model"] == "small"
    [one, _] = (await (await stack.http(ADMIN_KEY)).get_json("/admin/v1/replicas"))["replicas"]
    assert (one["id"], one["breaker"], one["breaker_why"]) == ("big-0", "open", "it answered with status 401")


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
async def test_its_rate_limit_reaches_the_client_with_its_time_and_without_its_account(
    world: tuple[Stack, EchoEngine, EchoEngine], body: Json
) -> None:
    stack, api, _ = world
    words = "Rate limit reached for gpt-x in organization org-Ab12Cd34Ef56 on requests per min"
    api.refuse(429, of_theirs(words, "rate_limit_exceeded"), retry_after="17")
    answer = await asked(stack, body)
    told = "Rate limit reached for gpt-x in organization (hidden) on requests per min"
    assert error_in(answer) == (429, "rate_limit_exceeded", told)
    assert answer.headers["retry-after"] == "17"


@pytest.mark.parametrize("status", [400, 404, 422, 500, 502])
@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
async def test_its_words_pass_without_its_key_and_address(
    world: tuple[Stack, EchoEngine, EchoEngine], status: int, body: Json
) -> None:
    stack, api, _ = world
    inside = urlsplit(api.url).netloc
    words = f"{THEIRS} was sent to {inside}, Authorization: Bearer abc.def-12345, by 10.3.0.7:8000: max_tokens is wrong"
    api.refuse(status, of_theirs(words))
    answer = await asked(stack, body)
    told = "(hidden) was sent to (hidden), Authorization: (hidden), by (hidden): max_tokens is wrong"
    assert (answer.status, answer.json()["error"]["message"]) == (status, told)


async def test_words_that_are_no_json_pass_without_them_too(world: tuple[Stack, EchoEngine, EchoEngine]) -> None:
    stack, api, _ = world
    api.refuse(400, f"<h1>no such thing at {urlsplit(api.url).netloc} for {THEIRS}</h1>")
    answer = await asked(stack)
    assert (answer.status, answer.json()["error"]["message"]) == (
        400,
        "the server answered with status 400: <h1>no such thing at (hidden) for (hidden)</h1>",
    )


async def test_what_it_says_in_the_middle_of_a_stream(world: tuple[Stack, EchoEngine, EchoEngine]) -> None:
    stack, api, _ = world
    api.fail_after(2, {"message": f"lost {THEIRS} at vllm-0.models.svc.cluster.local:8000"})
    async with (await stack.http()).stream("POST", CHAT, body=STREAMED) as answer:
        *_, last = await events_of(answer)
    said = "the engine failed in the middle of the answer: lost (hidden) at (hidden)"
    assert last["error"]["message"] == f"{said} (ask again)"
    assert [record.reason for record in await stack.records()] == [said]


async def test_another_model_answers_before_the_first_byte_when_it_cannot_be_reached(
    world: tuple[Stack, EchoEngine, EchoEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its breaker is half-open again before the time to connect is over, which used to send the request into
    the queue of a model that nobody served."""
    monkeypatch.setattr("stoker.policy.breaker.FIRST_S", 0.0)
    stack, api, small = world
    inference = stack.gateway.services.inference
    inference.patience = replace(inference.patience, connect_s=0.0)  # nobody has to wait for it to come back
    await api.stop()
    async with (await stack.http()).stream("POST", CHAT, body=STREAMED) as answer:
        events = await events_of(answer)
    assert (answer.status, answer.headers["x-stoker-model"]) == (200, "small")
    assert events[-1] == "[DONE]"
    assert len(small.requests) == 1
    await api.start()


async def test_a_task_for_it_goes_the_same_way(world: tuple[Stack, EchoEngine, EchoEngine]) -> None:
    stack, api, _ = world
    api.fail_after(1, {"message": f"lost {THEIRS}"})
    task = await (await stack.http()).post_json("/v1/tasks", ASKED)
    client = EngineClient(f"{api.url}/v1", model="gpt-x", key=THEIRS)
    api.model, name = "big", api.model  # the worker's builder goes by it
    worker = a_worker(stack, api, client, "w")
    api.model = name
    stop = asyncio.Event()
    async with client:
        working = asyncio.create_task(worker.run(stop))
        found = await (await stack.http()).get_json(f"/v1/tasks/{task['id']}", {"wait": "20"})
        stop.set()
        await working
    assert (found["state"], found["error"]["message"]) == (
        "dead",
        "the engine failed in the middle of the answer: {'message': 'lost (hidden)'}",
    )
    assert THEIRS not in json.dumps(found)
    assert api.requests[0].headers["authorization"] == f"Bearer {THEIRS}"

"""The client of any engine: the embedded one, vLLM, a hosted API."""

from typing import Any

import pytest

from stoker.base.errors import InvalidInput, Unavailable
from stoker.engine.client import EngineClient, EngineLoad
from stoker.testing.engine import EchoEngine
from stoker.web.client import Answer

BODY: dict[str, Any] = {"model": "what the client wrote", "messages": [{"role": "user", "content": "a b"}]}
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_the_engine_hears_its_own_name_of_the_model_and_its_own_key(path: str) -> None:
    async with EchoEngine("theirs") as engine:
        client = EngineClient(engine.url + path, model="theirs", key="sk-theirs")
        assert (await client.complete(CHAT, BODY)).status == 200
        async with client.stream(CHAT, BODY) as stream:
            assert [event async for event in stream.events][-1] == b"[DONE]"
        await client.close()
    assert [request.body["model"] for request in engine.requests] == ["theirs", "theirs"]
    assert [request.body.get("stream") for request in engine.requests] == [None, True]
    assert {request.headers["authorization"] for request in engine.requests} == {"Bearer sk-theirs"}


async def test_the_base_url_of_a_hosted_api_is_kept() -> None:
    client = EngineClient("https://host.example/api/v1/", model="m")
    assert client._path(CHAT) == "/api/v1/chat/completions"
    assert client._http.base_url == "https://host.example"
    await client.close()


@pytest.mark.parametrize("url", ["http://host:port", "http://host:port/v1"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not a URL"):
        EngineClient(url, model="m")


async def test_health() -> None:
    async with EchoEngine() as engine:
        client = EngineClient(engine.url, model="general")
        assert await client.is_healthy()
        engine.healthy = False
        assert not await client.is_healthy()
    assert not await client.is_healthy()
    await client.close()


@pytest.mark.parametrize(("health", "models", "healthy"), [(404, 200, True), (403, 200, True), (404, 401, False)])
async def test_an_api_without_health_is_asked_for_its_models(health: int, models: int, healthy: bool) -> None:
    client = EngineClient("http://127.0.0.1:1", model="m")
    answers = {"/health": Answer(health, {}, b""), "/v1/models": Answer(models, {}, b"")}

    async def request(_: str, path: str, **__: Any) -> Answer:
        return answers[path]

    client._http.request = request  # type: ignore[assignment,method-assign]
    assert await client.is_healthy() is healthy
    await client.close()


async def test_load() -> None:
    async with EchoEngine() as engine:
        client = EngineClient(engine.url, model="general")
        hold = engine.hold_at(1)
        async with client.stream(CHAT, BODY):
            request = await hold.reached()
            engine.waiting = 3
            assert await client.load() == EngineLoad(running=1, waiting=3)
        await request.end()
        engine.has_metrics = False
        assert await client.load() is None
    with pytest.raises(Unavailable):
        await client.load()
    await client.close()

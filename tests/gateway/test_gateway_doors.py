"""Who is let in, and what a request that is wrong is told: always OpenAI's shape, always what would be right."""

import re
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, Stack, a_stack

from stoker.gateway import endpoints
from stoker.meter.keys import KeyStore
from stoker.testing import ManualClock

CHAT = "/v1/chat/completions"


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


async def refused(stack: Stack, body: object, path: str = CHAT) -> tuple[int, dict[str, Any]]:
    answer = await (await stack.http()).request("POST", path, body=body)
    return answer.status, answer.json()["error"]


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "there is no API key in this request (send `Authorization: Bearer KEY`)"),
        ({"Authorization": f"Basic {KEY}"}, "there is no API key in this request (send `Authorization: Bearer KEY`)"),
        ({"Authorization": "Bearer"}, "there is no API key in this request (send `Authorization: Bearer KEY`)"),
        (
            {"Authorization": "Bearer sk-wrong"},
            "this API key is not known here, or it was revoked or has expired "
            "(`stoker keys create` makes one; `stoker up` prints one)",
        ),
    ],
)
async def test_without_a_known_key_nothing_is_answered(stack: Stack, header: dict[str, str], message: str) -> None:
    http = await stack.http(key=None)
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/tasks/x"), ("GET", "/admin/v1/usage")):
        answer = await http.request(method, path, headers=header)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        error = {"message": message, "type": "authentication_error", "code": "invalid_api_key", "param": None}
        assert answer.json() == {"error": error}


async def test_every_door_of_admins_is_shut_to_others(stack: Stack) -> None:
    nobody, user = await stack.http(key=None), await stack.http()
    document = (await nobody.request("GET", "/openapi.json")).json()
    doors = [
        (method.upper(), re.sub(r"{\w+}", "x", path))
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/admin/") and method in ("get", "post", "put", "patch", "delete")
    ]
    assert ("GET", "/admin/v1/cost/savings") in doors
    for method, path in doors:
        body = None if method in ("GET", "DELETE") else {}
        said = [(await http.request(method, path, body=body)).status for http in (nobody, user)]
        assert (method, path, said) == (method, path, [401, 403])


async def test_the_sdk_knows_the_errors(stack: Stack) -> None:
    sdk = await stack.sdk(key="sk-wrong")
    with pytest.raises(openai.AuthenticationError):
        await sdk.models.list()
    sdk = await stack.sdk()
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        await sdk.models.retrieve("gpt-9")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/v1/usage"),
        ("GET", "/admin/v1/tasks"),
        ("GET", "/admin/v1/tasks/x"),
        ("POST", "/admin/v1/tasks/x/retry"),
        ("GET", "/admin/v1/dead"),
        ("GET", "/admin/v1/replicas"),
    ],
)
async def test_admin_routes_are_for_the_admin_key(stack: Stack, method: str, path: str) -> None:
    answer = await (await stack.http(KEY)).request(method, path)
    assert answer.status == 403
    assert answer.json()["error"]["code"] == "not_permitted"
    assert answer.json()["error"]["message"].startswith(f'key "the user\'s" may not use {path} (use the admin key')
    assert (await (await stack.http(ADMIN_KEY)).request(method, path)).status in (200, 404)


async def test_a_revoked_key_is_refused_after_a_second_at_most(tmp_path: Path) -> None:
    clock = ManualClock()
    async with a_stack(tmp_path, clock=clock) as stack:
        http = await stack.http()
        assert (await http.request("GET", "/v1/models")).status == 200
        keys = KeyStore(stack.store)
        found = keys.find(KEY)
        assert found is not None
        keys.revoke(found.id)

        await clock.advance(0.99)
        assert (await http.request("GET", "/v1/models")).status == 200
        await clock.advance(0.01)
        assert (await http.request("GET", "/v1/models")).status == 401


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_that_is_no_json_object_is_refused(stack: Stack) -> None:
    status, error = await refused(stack, b"{nope")
    assert (status, error["code"]) == (400, "invalid_json")
    assert error["message"].startswith("the body is not JSON: ")
    status, error = await refused(stack, [1])
    assert (status, error["message"]) == (400, "the body is a JSON array; it has to be an object")


@pytest.mark.parametrize("size", [4097, 4_000_000])
async def test_a_body_that_is_too_large_is_refused(stack: Stack, size: int) -> None:
    status, error = await refused(stack, b" " * size)
    assert (status, error["code"]) == (413, "too_large")
    assert error["message"] == "the body has more than 4096 bytes (send less, or raise maxBodyBytes)"


async def test_values_that_an_engine_might_take_for_others_are_refused(stack: Stack) -> None:
    for changes, param, words in (
        ({"stream": 1}, "stream", "stream is 1; it has to be true or false"),
        ({"max_tokens": "999"}, "max_tokens", 'max_tokens is "999"; it has to be a whole number, at least 1'),
        ({"max_tokens": 1e9}, "max_tokens", "max_tokens is 1000000000.0; it has to be a whole number, at least 1"),
        ({"max_tokens": True}, "max_tokens", "max_tokens is true; it has to be a whole number, at least 1"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens is 0; it has to be a whole number, at least 1"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "max_completion_tokens is -1; it has to be a whole"),
        ({"model": 7}, "model", "model is 7; it has to be the name of a model, or auto"),
    ):
        status, error = await refused(stack, asked(**changes))
        assert (status, error["param"]) == (400, param)
        assert error["message"].startswith(words)


async def test_a_session_id_has_no_spaces(stack: Stack) -> None:
    answer = await (await stack.http()).request("POST", CHAT, body=asked(), headers={"X-Session-Id": "a b"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "x-session-id")
    assert "an id is 1 to 256 printable characters without spaces" in answer.json()["error"]["message"]


def test_the_output_is_bounded_and_has_a_default() -> None:
    assert endpoints.CHAT.bounded({}, 100) == {"max_completion_tokens": 100}
    assert endpoints.CHAT.bounded({"max_tokens": None}, 100) == {"max_tokens": None, "max_completion_tokens": 100}
    assert endpoints.CHAT.bounded({"max_tokens": 7}, 100) == {"max_tokens": 7}
    assert endpoints.CHAT.bounded({"max_tokens": 700, "max_completion_tokens": 800}, 100) == {
        "max_tokens": 100,
        "max_completion_tokens": 100,
    }
    assert endpoints.COMPLETIONS.bounded({}, 100) == {"max_tokens": 100}
    assert endpoints.COMPLETIONS.bounded({"max_tokens": 101, "prompt": "x"}, 100) == {"max_tokens": 100, "prompt": "x"}


async def test_the_bound_reaches_the_engine(stack: Stack) -> None:
    engine = await stack.engine()
    http = await stack.http()
    await http.post_json(CHAT, asked(max_tokens=5000))
    await http.post_json(CHAT, asked())
    assert [request.body.get("max_tokens") for request in engine.requests] == [100, None]
    assert [request.body.get("max_completion_tokens") for request in engine.requests] == [None, 100]


# --- models and routes ------------------------------------------------------------------------------------------------


async def test_models_are_listed_with_their_aliases_and_auto(stack: Stack) -> None:
    sdk = await stack.sdk()
    assert [model.id async for model in sdk.models.list()] == ["general", "code", "vision", "gpt-4o", "auto"]
    assert (await sdk.models.retrieve("gpt-4o")).id == "gpt-4o"
    on_code = await stack.sdk("/v1/code")
    assert [model.id async for model in on_code.models.list()] == ["code", "auto"]


@pytest.mark.parametrize("prefix", ["general", "code", "vision"])
async def test_each_prefix_leads_to_its_model(stack: Stack, prefix: str) -> None:
    engine = await stack.engine(prefix)
    sdk = await stack.sdk(f"/v1/{prefix}")
    for model in ("auto", prefix):
        answer: Any = await sdk.chat.completions.create(model=model, messages=HELLO)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "one two three four"
        stream: Any = await sdk.chat.completions.create(model=model, messages=HELLO, stream=True)  # type: ignore[arg-type]
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "one two three four"
    assert [request.body["model"] for request in engine.requests] == [prefix] * 4
    assert {record.route for record in await stack.records()} == {"prefix"}


async def test_a_model_that_is_not_there_is_told_with_those_that_are(stack: Stack) -> None:
    status, error = await refused(stack, asked(model="gpt-9"))
    assert (status, error["code"]) == (404, "model_not_found")
    assert error["message"].startswith('there is no model "gpt-9"; the models are: general, code, vision')


async def test_a_model_under_the_wrong_prefix_is_refused(stack: Stack) -> None:
    status, error = await refused(stack, asked(model="general"), "/v1/code/chat/completions")
    assert (status, error["code"], error["param"]) == (400, "model_not_on_route", "model")


async def test_paths_and_methods_that_do_not_exist_have_the_shape_too(stack: Stack) -> None:
    http = await stack.http()
    answer = await http.request("GET", "/v2/chat")
    assert (answer.status, answer.json()["error"]["message"]) == (404, "there is nothing at /v2/chat")
    answer = await http.request("GET", CHAT)
    assert (answer.status, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    page = (await http.request("GET", "/metrics")).body.decode()
    assert 'stoker_refused_total{code="not_found"} 1.0' in page
    assert 'stoker_refused_total{code="method_not_allowed"} 1.0' in page


# --- /health, /ready, /metrics ----------------------------------------------------------------------------------------


async def test_ready_lists_the_models_without_a_replica(stack: Stack) -> None:
    http = await stack.http(key=None)
    assert (await http.request("GET", "/health")).json() == {"status": "ok"}
    answer = await http.request("GET", "/ready")
    assert answer.status == 503
    assert answer.json() == {"ready": False, "up": [], "missing": ["code", "general", "vision"]}

    for model in ("general", "code", "vision"):
        await stack.engine(model)
    answer = await http.request("GET", "/ready")
    assert answer.status == 200
    assert answer.json() == {"ready": True, "up": ["code", "general", "vision"], "missing": []}


async def test_an_error_says_which_request_it_was(stack: Stack) -> None:
    engine = await stack.engine()
    engine.refuse(401, {"error": {"message": "wrong key sk-123"}})
    answer = await (await stack.http()).request("POST", CHAT, body=asked())
    assert answer.status == 502
    assert "the engine does not take the platform's own key (status 401)" in answer.json()["error"]["message"]
    assert "sk-123" not in answer.body.decode()
    assert answer.headers["x-request-id"] == (await stack.record()).id


async def test_a_part_that_dies_ends_the_gateway_with_its_error(tmp_path: Path) -> None:
    async with a_stack(tmp_path) as stack:

        class Broken:
            async def live(self, _: object = None) -> Any:
                raise ZeroDivisionError

        stack.gateway.fleet.registry = Broken()  # type: ignore[assignment]
        with pytest.raises(ZeroDivisionError):
            await stack._serving  # type: ignore[misc]  # what `python -m stoker.gateway` waits for
        stack._serving = None

"""Story: the OpenAPI document says what the gateway does: its paths, its limits, its errors, and nothing private."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from gateway_parts import ADMIN_KEY, KEY, SPEC, Stack
from starlette.routing import Route, WebSocketRoute
from test_gateway_tasks import a_dead_task

from stoker.base.errors import InvalidInput
from stoker.gateway import agents, app, openai, openapi, openapi_operations, openapi_schemas, sizes
from stoker.gateway.endpoints import MOST_ANSWERS
from stoker.nn import tokenizer
from stoker.spec import Platform, loads, read_section
from stoker.spec.requests import Letters
from stoker.web import uploads
from stoker.web.client import Answer

Json = dict[str, Any]


def document() -> Json:
    made: Json = json.loads(json.dumps(openapi.document(loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2")))))
    return made


def answered(stack: Stack) -> set[tuple[str, str]]:
    """Method and path of all that the gateway has, with a prefix as `{route}`."""
    services = stack.gateway.services
    found: set[tuple[str, str]] = {("POST", path) for path in openai.direct(services).handlers}
    for route in app.create(services).routes:
        if getattr(route, "path", None) == agents.BELOW:
            continue  # what there is beside the contract is the agents' service's own affair
        if isinstance(route, WebSocketRoute):
            found.add(("GET", route.path))
        else:
            assert isinstance(route, Route)
            assert route.methods
            found |= {(method, route.path.replace(":path", "")) for method in route.methods - {"HEAD"}}
    prefixes = stack.platform.gateway.routes
    return {(method, _without_prefix(path, prefixes)) for method, path in found}


def _without_prefix(path: str, prefixes: Any) -> str:
    parts = path.split("/")
    return "/".join("{route}" if place == 2 and part in prefixes else part for place, part in enumerate(parts))


def operations(made: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_the_document_has_the_routes_that_the_gateway_has_and_no_other(stack: Stack) -> None:
    described = {(method, path) for method, path, _ in operations(document())}
    there = answered(stack)
    assert there - described == set(), "these want an entry in openapi_operations.py"
    assert described - there == set(), "these are no routes any more"
    assert len(described) == len(openapi_operations.OPERATIONS)


async def test_anybody_gets_it_and_learns_nothing_private(stack: Stack) -> None:
    nobody = await stack.http(key=None)
    answer = await nobody.request("GET", "/openapi.json")
    assert (answer.status, answer.json()) == (200, document())
    text = answer.body.decode()
    assert [word for word in ("acme", "gpt-4o", "sqlite", "redis://", KEY, "127.0.0.1") if word in text] == []


async def test_who_may_call_what_is_what_the_gateway_lets_in(stack: Stack) -> None:
    """Each operation without a key, and those of admins with a user's: 401 and 403, and not where none is needed."""
    nobody, user = await stack.http(key=None), await stack.http()
    for method, path, operation in operations(document()):
        if path.endswith("/ws"):
            continue
        where = path.replace("{route}", "code").replace("{", "").replace("}", "")
        without = (await nobody.request(method, where, body={})).status
        if operation.get("security") == []:
            assert without in (200, 503), path
        else:
            assert without == 401, (method, path)
            assert "401" in operation["responses"]
        # No replica is there: nobody waits for one.
        with_users = (await user.request(method, where, body={}, headers={"Prefer": "respond-async"})).status
        assert (with_users == 403) == path.startswith("/admin/"), (method, path, with_users)


def test_every_reference_leads_somewhere_and_every_schema_is_one_and_is_used() -> None:
    made = document()
    text = json.dumps(made)
    for kind, entries in made["components"].items():
        for name, entry in entries.items():
            if kind != "securitySchemes":
                assert f'"#/components/{kind}/{name}"' in text, f"{kind}/{name} is used by nobody"
            if kind == "schemas":
                jsonschema_rs.validator_for({**entry, "components": made["components"]})
    for _, path, operation in operations(made):
        for answer in operation["responses"].values():
            if "$ref" in answer:
                assert answer["$ref"].rpartition("/")[2] in made["components"]["responses"], path
    ids = [operation["operationId"] for _, _, operation in operations(made)]
    assert len(ids) == len(set(ids))
    links = {
        id
        for _, _, operation in operations(made)
        for answer in operation["responses"].values()
        for id in answer.get("links", ())
    }
    assert links <= set(ids)


def test_its_limits_are_those_of_the_code() -> None:
    made = document()
    chat = made["components"]["schemas"]["ChatRequest"]["properties"]
    assert chat["n"]["maximum"] == MOST_ANSWERS
    assert (chat["messages"]["maxItems"], chat["tools"]["maxItems"]) == (sizes.MOST_ITEMS, sizes.MOST_TOOLS)
    assert set(openapi_schemas.ROLES) == set(tokenizer.ROLES)
    said = made["info"]["description"]
    assert f"a URL of {uploads.MOST_URL_BYTES} bytes" in said
    assert "a body of 4096 bytes" in said
    assert made["components"]["responses"]["Refused413"]["description"].endswith("the largest has 4096 bytes.")
    limits = {
        f"{method} {path}": parameter["schema"]["maximum"]
        for method, path, operation in operations(made)
        for parameter in operation["parameters"]
        if parameter["name"] in ("limit", "wait") and not path.startswith("/v1/agents")  # the service's own
    }
    assert limits == {
        "GET /v1/tasks/{id}": 300,
        "GET /v1/files": 10_000,
        "GET /v1/batches": 100,
        "GET /admin/v1/usage/records": 5000,
        "GET /admin/v1/cost": 100_000,
        "GET /admin/v1/starts": 1000,
        "GET /admin/v1/tasks": 1000,
        "GET /admin/v1/dead": 1000,
        "GET /admin/v1/dead/dropped": 1000,
        "GET /admin/v1/audit": 1000,
        "GET /admin/v1/keys": 1000,
    }


@pytest.mark.parametrize(
    "sent",
    [
        {"ids": ["req_1"], "max": 5},
        {"ids": ["req_1"], "max": 5.0},
        {"ids": ["req_1"], "max": 5.5},
        {"ids": ["req_1"], "model": None, "all": False},
        {"model": "general", "ids": []},
        {"tenant": "acme", "reason": "boom", "older_than": 0, "newer_than": 1.5},
        {"all": True, "ids": None},
        {},
        {"ids": []},
        {"ids": None, "all": False},
        {"model": None},
        {"ids": ["req_1"], "model": "general"},
        {"ids": ["req_1"], "all": True},
        {"all": True, "max": 0},
        {"all": True, "max": 1001},
        {"older_than": -1},
        {"all": True, "everything": True},
        {"ids": [""]},
    ],
    ids=json.dumps,
)
def test_which_dead_letters_are_meant_is_said_as_the_code_reads_it(sent: Json) -> None:
    made = document()
    schema = {**made["components"]["schemas"]["Letters"], "components": made["components"]}
    try:
        read_section(Letters, sent)
        is_taken = True
    except InvalidInput:
        is_taken = False
    assert jsonschema_rs.is_valid(schema, sent) == is_taken


async def test_dead_letters_are_answered_as_it_has_them(stack: Stack) -> None:
    admin, dead = await stack.http(ADMIN_KEY), await a_dead_task(stack, KEY)
    made = document()
    for method, path, body in (
        ("GET", "/admin/v1/dead", None),
        ("GET", "/admin/v1/dead/{id}", None),
        ("GET", "/admin/v1/dead/{id}?body=true", None),
        ("POST", "/admin/v1/dead/replay", {"ids": ["req_none"]}),
        ("POST", "/admin/v1/dead/drop", {"ids": [dead, "req_none"], "why": "of no use"}),
        ("GET", "/admin/v1/dead/dropped", None),
    ):
        answer = await admin.request(method, path.replace("{id}", dead), body=body)
        described = made["paths"][path.partition("?")[0]][method.lower()]["responses"][str(answer.status)]
        name = described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = made["components"]["schemas"][name]
        jsonschema_rs.validate({**schema, "components": made["components"]}, answer.json())
        assert set(answer.json()) - set(schema["properties"]) == set(), path


@pytest.mark.parametrize("word", ["replay", "drop", "replay-from-sqs"])
async def test_what_changes_dead_letters_is_not_possible_by_get(stack: Stack, word: str) -> None:
    answer = await (await stack.http(ADMIN_KEY)).request("GET", f"/admin/v1/dead/{word}")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_it_is_that_of_the_platform_at_hand() -> None:
    other = openapi.document(Platform())
    assert "a body of 16777216 bytes" in other["info"]["description"]
    assert "or a file of 209715200;" in other["info"]["description"]


# --- answers ---------------------------------------------------------------------------------------------------------


def is_as(answer: Answer, method: str, path: str) -> bool:
    """Whether it has the status, the fields, all of them and no other, and the headers that the document has. Raises
    what says why not."""
    made = document()
    described = made["paths"][path][method.lower()]["responses"][str(answer.status)]
    schema = described["content"]["application/json"]["schema"]
    named = made["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    jsonschema_rs.validate({**named, "components": made["components"]}, answer.json())
    assert set(answer.json()) == set(named["properties"])
    return {name.lower() for name in described.get("headers", ())} <= set(answer.headers)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("completions", {"prompt": "hello"}),
        ("responses", {"input": "hello"}),
        ("embeddings", {"input": "hello"}),
    ],
)
async def test_a_request_for_which_there_is_no_room_is_answered_as_it_has_it(
    stack: Stack, path: str, body: Json
) -> None:
    http = await stack.http()
    later = {"Prefer": "respond-async, wait=0"}
    answer = await http.request("POST", f"/v1/{path}", body=body, headers=later)
    assert answer.status == 202
    assert is_as(answer, "POST", f"/v1/{path}")
    answer = await http.request("POST", f"/v1/code/{path}", body=body, headers=later)
    assert answer.status == 202
    assert is_as(answer, "POST", f"/v1/{{route}}/{path}")


async def test_tasks_are_answered_as_it_has_them(stack: Stack) -> None:
    http, admin = await stack.http(), await stack.http(key=ADMIN_KEY)
    made = await http.request("POST", "/v1/tasks", body={"prompt": "hello", "priority": "batch"})
    assert (made.status, is_as(made, "POST", "/v1/tasks")) == (202, True)
    id = made.json()["id"]
    shown = await http.request("GET", f"/v1/tasks/{id}")
    assert (shown.json()["position"], is_as(shown, "GET", "/v1/tasks/{id}")) == (0, True)
    assert is_as(await admin.request("GET", f"/admin/v1/tasks/{id}"), "GET", "/admin/v1/tasks/{id}")
    assert is_as(await http.request("DELETE", f"/v1/tasks/{id}"), "DELETE", "/v1/tasks/{id}")


async def test_files_and_batches_are_answered_as_it_has_them(stack: Stack) -> None:
    http, sdk = await stack.http(), await stack.sdk()
    line = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"prompt": "hello"}}
    file = await sdk.files.create(file=json.dumps(line).encode(), purpose="batch")
    sent = {"input_file_id": file.id, "endpoint": "/v1/completions", "completion_window": "1h", "metadata": {"a": "b"}}
    made = await http.request("POST", "/v1/batches", body=sent)
    assert (made.status, is_as(made, "POST", "/v1/batches")) == (200, True)
    for method, path, id in (
        ("GET", "/v1/batches", ""),
        ("GET", "/v1/batches/{id}", made.json()["id"]),
        ("POST", "/v1/batches/{id}/cancel", made.json()["id"]),
        ("GET", "/v1/files", ""),
        ("GET", "/v1/files/{id}", file.id),
        ("DELETE", "/v1/files/{id}", file.id),
    ):
        assert is_as(await http.request(method, path.replace("{id}", id)), method, path)


async def test_a_tenant_is_answered_as_it_has_it(stack: Stack) -> None:
    http = await stack.http(key=ADMIN_KEY)
    made = await http.request(
        "POST",
        "/admin/v1/tenants",
        body={"name": "made", "weight": 2, "whenBusy": "refuse", "callbackSecretEnv": "HOOK"},
    )
    assert (made.status, is_as(made, "POST", "/admin/v1/tenants")) == (201, True)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=1_0", "limit is '1_0'; it has to be a whole number from 1 to 1000"),
        ("limit=%201", "limit is ' 1'; it has to be a whole number from 1 to 1000"),
        ("limit=1.5", "limit is '1.5'; it has to be a whole number from 1 to 1000"),
        ("limit=", "limit is ''; it has to be a whole number from 1 to 1000"),
        ("limit=1001", "limit is '1001'; it has to be a whole number from 1 to 1000"),
        (
            "state=",
            "state is ''; it has to be one of queued, running, retrying, done, dead, cancelled, forwarded, dropped",
        ),
    ],
)
async def test_a_query_is_read_as_the_document_has_it(stack: Stack, query: str, message: str) -> None:
    admin = await stack.http(key=ADMIN_KEY)
    answer = await admin.request("GET", f"/admin/v1/tasks?{query}")
    assert (answer.status, answer.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("files?limit=1_0", "limit is '1_0'; it has to be a whole number from 1 to 10000"),
        ("files?order=up", "order is 'up'; it has to be asc or desc"),
        ("batches?limit=101", "limit is '101'; it has to be a whole number from 1 to 100"),
    ],
)
async def test_so_are_those_of_files_and_batches(stack: Stack, path: str, message: str) -> None:
    answer = await (await stack.http()).request("GET", f"/v1/{path}")
    assert (answer.status, answer.json()["error"]["message"]) == (400, message)


# --- what schemathesis found -----------------------------------------------------------------------------------------


async def test_a_method_that_is_not_possible_is_told_all_that_are(stack: Stack) -> None:
    """Of all routes with that path; the router named those of the first one."""
    http = await stack.http(key=ADMIN_KEY)
    allowed = {
        path: (await http.request("OPTIONS", path)).headers["allow"]
        for path in ("/v1/tasks/x", "/admin/v1/keys", "/admin/v1/keys/x", "/v1/chat/completions", "/health")
    }
    assert allowed == {
        "/v1/tasks/x": "DELETE, GET, HEAD",
        "/admin/v1/keys": "GET, HEAD, POST",
        "/admin/v1/keys/x": "DELETE, GET, HEAD, PATCH",
        "/v1/chat/completions": "POST",
        "/health": "GET, HEAD",
    }


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({}, "messages"),
        ({"messages": None}, "messages"),
        ({"model": "general"}, "messages"),
        ({"endpoint": "/v1/completions", "body": {"messages": []}}, "prompt"),
        ({"endpoint": "/v1/embeddings", "body": {}}, "input"),
        ({"body": {"prompt": "x"}}, "messages"),
    ],
)
async def test_a_task_that_says_nothing_is_refused_when_it_is_submitted(stack: Stack, sent: Json, param: str) -> None:
    answer = await (await stack.http()).request("POST", "/v1/tasks", body=sent)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert await stack.queue.list() == []


@pytest.mark.parametrize(
    ("path", "patch", "param"),
    [
        ("tenants/made", {"budgts": None}, "budgts"),
        ("tenants/made", {"budgets": {"usdPerDya": None}}, "budgets.usdPerDya"),
        ("tenants/made", {"teams": {"a": {"x": None}}}, "teams.a.x"),
        ("tenants/made/teams/a", {"x": None}, "x"),
        ("keys/ID", {"model": None}, "model"),
        ("keys/ID", {"budgets": {"usd": None}}, "budgets.usd"),
    ],
)
async def test_taking_away_what_is_no_limit_is_a_slip_and_told_so(
    stack: Stack, path: str, patch: Json, param: str
) -> None:
    http = await stack.http(key=ADMIN_KEY)
    await http.post_json("/admin/v1/tenants", {"name": "made", "teams": {"a": {}}})
    key = (await http.post_json("/admin/v1/keys", {"tenant": "made"}))["id"]
    answer = await http.request("PATCH", "/admin/v1/" + path.replace("ID", key), body=patch)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


async def test_taking_away_what_has_its_default_already_changes_nothing(stack: Stack) -> None:
    http = await stack.http(key=ADMIN_KEY)
    made = await http.post_json("/admin/v1/tenants", {"name": "made"})
    patch = {"description": None, "budgets": {"usdPerDay": None}, "whenRedisIsAway": None, "runBudgets": None}
    answer = await http.request(
        "PATCH", "/admin/v1/tenants/made", body={**patch, "teams": {"a": {"description": None}}}
    )
    assert answer.json() == {**made, "teams": {"a": {"description": "", "budgets": {}}}}


async def test_a_team_with_nothing_written_to_it_is_one_in_the_document_too(stack: Stack) -> None:
    sent = {"name": "made", "teams": {"a": None}}
    made = await (await stack.http(key=ADMIN_KEY)).post_json("/admin/v1/tenants", sent)
    assert made["teams"] == {"a": {"description": "", "budgets": {}}}
    components = document()["components"]
    jsonschema_rs.validate({**components["schemas"]["NewTenant"], "components": components}, sent)


async def test_a_whole_number_may_be_written_with_a_fraction_of_nothing(stack: Stack) -> None:
    http = await stack.http(key=ADMIN_KEY)
    sent = b'{"tenant": "made", "budgets": {"tokensPerDay": 39.0, "usdTotal": 2.0}}'
    made = await http.request("POST", "/admin/v1/keys", body=sent)
    assert (made.status, made.json()["budgets"]) == (201, {"tokensPerDay": 39, "usdTotal": 2})
    sent = sent.replace(b"39.0", b"39.5")
    assert (await http.request("POST", "/admin/v1/keys", body=sent)).status == 400


@pytest.mark.parametrize("wait", ["0", "0.0", "1e-3", "7.6e-149", "0.3333333333333333", "-0"])
async def test_a_number_is_read_however_json_writes_it(stack: Stack, wait: str) -> None:
    task = await (await stack.http()).post_json("/v1/tasks", {"messages": [{"role": "user", "content": "hello"}]})
    answer = await (await stack.http()).request("GET", f"/v1/tasks/{task['id']}?wait={wait}")
    assert answer.status == 200

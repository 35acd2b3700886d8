"""`/admin/v1/tenants`, `keys` and `budgets` over real HTTP, and what they do to those who call."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from gateway_parts import ADMIN_KEY, HELLO, KEY, SPEC, Stack, a_stack

from stoker.spec import Platform, loads
from stoker.testing import ManualClock

Json = dict[str, Any]
CHAT = {"model": "general", "messages": HELLO}
TENANTS = """
tenants:
  acme:
    description: The people of ACME
    budgets: {usdPerMonth: 500, tokensPerMinute: 200000}
    teams: {search: {description: Finds things, budgets: {tokensPerDay: 1000}}}
  other: {}
"""


def the_platform() -> Platform:
    spec = SPEC.replace("TOTAL", "20").replace("CONNECT", "2")
    return loads(spec.replace("tenants: {acme: {}, other: {}}", TENANTS))


class Admin:
    """The admin API of one stack, as somebody with an admin key asks it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    async def ask(self, method: str, path: str, body: object = None, *, key: str | None = ADMIN_KEY) -> tuple[int, Any]:
        answer = await (await self.stack.http(key)).request(method, "/admin/v1" + path, body=body)
        return answer.status, answer.json()

    async def done(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        got, answer = await self.ask(method, path, body)
        assert got == status, answer
        return answer

    async def refused(self, method: str, path: str, body: object = None) -> tuple[int, str, str | None]:
        status, answer = await self.ask(method, path, body)
        assert status >= 400, answer
        return status, answer["error"]["message"], answer["error"]["param"]

    async def key(self, **terms: object) -> Json:
        made: Json = await self.done("POST", "/keys", {"tenant": "acme", **terms}, status=201)
        return made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def stack(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path, platform=the_platform(), clock=clock) as made:
        yield made


@pytest.fixture
def admin(stack: Stack) -> Admin:
    return Admin(stack)


async def status_of(stack: Stack, key: str, path: str = "/v1/models") -> int:
    return (await (await stack.http(key)).request("GET", path)).status


# --- who may ask ------------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/tenants"),
    ("POST", "/tenants"),
    ("GET", "/tenants/acme"),
    ("PATCH", "/tenants/acme"),
    ("GET", "/tenants/acme/teams"),
    ("GET", "/tenants/acme/teams/search"),
    ("PUT", "/tenants/acme/teams/search"),
    ("PATCH", "/tenants/acme/teams/search"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("GET", "/keys/x"),
    ("PATCH", "/keys/x"),
    ("DELETE", "/keys/x"),
    ("POST", "/keys/x/rotate"),
    ("GET", "/budgets"),
]


def test_every_route_is_in_the_list(stack: Stack) -> None:
    from stoker.gateway import accounts_api

    there = {
        (method, route.path.removeprefix("/admin/v1").format(tenant="acme", team="search", id="x"))
        for route in accounts_api.routes(stack.gateway.services)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert there == set(ROUTES)


async def test_only_an_admin_key_may_ask(admin: Admin) -> None:
    """Refused before the body is looked at, and before anything is done."""
    before = await admin.done("GET", "/keys")
    wrong = ((None, 401, "invalid_api_key"), ("sk-x", 401, "invalid_api_key"), (KEY, 403, "not_permitted"))
    for method, path in ROUTES:
        for key, status, code in wrong:
            got, answer = await admin.ask(method, path, None if method == "GET" else b"{nope", key=key)
            assert (got, answer["error"]["code"]) == (status, code), (method, path)
    assert await admin.done("GET", "/keys") == before


# --- tenants and teams ------------------------------------------------------------------------------------------------

ACME = {
    "name": "acme",
    "description": "The people of ACME",
    "budgets": {"tokensPerMinute": 200000, "usdPerMonth": 500},
    "sessionBudgets": {},
    "runBudgets": {},
    "whenRedisIsAway": "closed",
    "weight": 1,
    "maxPriority": "interactive",
    "whenBusy": "wait",
    "callbackHosts": [],
    "recordContent": False,
    "teams": {"search": {"description": "Finds things", "budgets": {"tokensPerDay": 1000}}},
    "source": "file",
    "created_at": 1_700_000_000.0,
}


async def test_tenants_of_the_file_are_shown_as_they_are_written(admin: Admin) -> None:
    nothing = {"budgets": {}, "sessionBudgets": {}, "runBudgets": {}, "whenRedisIsAway": "closed", "teams": {}}
    nothing |= {
        "weight": 1,
        "maxPriority": "interactive",
        "whenBusy": "wait",
        "callbackHosts": [],
        "recordContent": False,
    }
    other = {"name": "other", "description": "", **nothing, "source": "file", "created_at": 1_700_000_000.0}
    assert await admin.done("GET", "/tenants") == {"tenants": [ACME, other]}
    assert await admin.done("GET", "/tenants/acme") == ACME
    search = {"name": "search", "tenant": "acme", "description": "Finds things", "budgets": {"tokensPerDay": 1000}}
    search |= {"source": "file", "created_at": 1_700_000_000.0}
    assert await admin.done("GET", "/tenants/acme/teams") == {"teams": [search]}
    assert await admin.done("GET", "/tenants/acme/teams/search") == search


async def test_a_tenant_is_made_with_all_that_the_file_could_say_of_it(admin: Admin) -> None:
    said = {
        "name": "beta",
        "description": "Beta users",
        "budgets": {"usdPerDay": 0.000000001, "concurrentRequests": 3},
        "sessionBudgets": {"tokensTotal": 1000},
        "runBudgets": {"usdTotal": 0.5},
        "whenRedisIsAway": "open",
        "weight": 3,
        "maxPriority": "normal",
        "whenBusy": "async",
        "callbackHosts": ["hooks.example.com", "10.0.0.0/8"],
        "recordContent": True,
        "callbackSecretEnv": "BETA_HOOKS",
        "teams": {"sales": {"description": "", "budgets": {"usdPerDay": 2}}},
    }
    made = await admin.done("POST", "/tenants", said, status=201)
    assert made == {**said, "source": "api", "created_at": 1_700_000_000.0}
    assert await admin.done("GET", "/tenants/beta") == made


async def test_a_change_is_a_merge_patch(admin: Admin) -> None:
    """RFC 7396: what is sent replaces, null takes away, the rest stays."""
    await admin.done("POST", "/tenants", {"name": "beta", "budgets": {"usdPerDay": 5, "usdTotal": 50}}, status=201)
    patch = {
        "description": "Beta",
        "budgets": {"usdPerDay": None, "usdTotal": 60, "tokensPerDay": 7},
        "sessionBudgets": {"tokensTotal": 9},
        "teams": {"new": {"budgets": {"usdPerDay": 1}}},
    }
    changed = await admin.done("PATCH", "/tenants/beta", patch)
    assert changed["description"] == "Beta"
    assert changed["budgets"] == {"usdTotal": 60, "tokensPerDay": 7}
    assert changed["sessionBudgets"] == {"tokensTotal": 9}
    assert changed["teams"] == {"new": {"description": "", "budgets": {"usdPerDay": 1}}}

    changed = await admin.done(
        "PATCH", "/tenants/beta", {"description": None, "budgets": None, "whenRedisIsAway": "open"}
    )
    assert (changed["description"], changed["budgets"], changed["whenRedisIsAway"]) == ("", {}, "open")
    assert changed["sessionBudgets"] == {"tokensTotal": 9}
    assert "new" in changed["teams"]
    assert await admin.done("PATCH", "/tenants/beta", {}) == changed


async def test_a_team_is_made_by_put_and_changed_by_either(admin: Admin) -> None:
    made = await admin.done("PUT", "/tenants/acme/teams/ads", {"budgets": {"usdPerDay": 2, "usdTotal": 9}}, status=201)
    assert (made["made_team"], made["source"], made["tenant"]) == (True, "api", "acme")
    changed = await admin.done("PUT", "/tenants/acme/teams/ads", {"description": "Ads"})
    assert (changed["made_team"], changed["description"]) == (False, "Ads")
    assert changed["budgets"] == {"usdPerDay": 2, "usdTotal": 9}
    changed = await admin.done("PATCH", "/tenants/acme/teams/ads", {"budgets": {"usdTotal": None, "usdPerDay": 3}})
    assert changed["budgets"] == {"usdPerDay": 3}
    assert [team["name"] for team in (await admin.done("GET", "/tenants/acme/teams"))["teams"]] == ["ads", "search"]


async def test_what_the_file_says_only_the_file_changes(admin: Admin) -> None:
    for method, path, what in (
        ("PATCH", "/tenants/acme", "tenant 'acme'"),
        ("PATCH", "/tenants/acme/teams/search", "team 'search' of tenant 'acme'"),
        ("PUT", "/tenants/acme/teams/search", "team 'search' of tenant 'acme'"),
    ):
        assert await admin.refused(method, path, {"description": "x"}) == (
            409,
            f"{what} is written in platform.yaml, which wins at each start (change it there, and start again)",
            None,
        )
    assert await admin.done("GET", "/tenants/acme") == ACME


async def test_a_tenant_is_made_once(admin: Admin) -> None:
    assert await admin.refused("POST", "/tenants", {"name": "acme"}) == (
        409,
        "there is a tenant 'acme' already (stoker tenants update acme)",
        None,
    )


async def test_a_team_cannot_be_taken_away(admin: Admin) -> None:
    await admin.done("PUT", "/tenants/other/teams/ads", {}, status=201)
    for teams, param in (({"ads": None}, "teams.ads"), (None, "teams")):
        status, message, told = await admin.refused("PATCH", "/tenants/other", {"teams": teams})
        assert (status, told) == (400, param)
        assert message.startswith(f"{param}: a team cannot be taken away, since keys and usage go by its name (")


NOT_THERE = [
    ("GET", "/tenants/nope", "there is no tenant 'nope' (`stoker tenants list` shows those there are)"),
    ("PATCH", "/tenants/nope", "there is no tenant 'nope' (`stoker tenants list` shows those there are)"),
    ("GET", "/tenants/nope/teams", "there is no tenant 'nope' (`stoker tenants list` shows those there are)"),
    ("PUT", "/tenants/nope/teams/x", "there is no tenant 'nope' (`stoker tenants list` shows those there are)"),
    ("GET", "/tenants/acme/teams/nope", "tenant 'acme' has no team 'nope'"),
    ("PATCH", "/tenants/acme/teams/nope", "tenant 'acme' has no team 'nope' (PUT makes it)"),
    ("GET", "/keys?tenant=nope", "there is no tenant 'nope' (`stoker tenants list` shows those there are)"),
    ("GET", "/keys?tenant=acme&team=nope", "tenant 'acme' has no team 'nope'"),
    ("GET", "/keys/key_nope", "there is no key 'key_nope' (`stoker keys list` shows those there are)"),
    ("PATCH", "/keys/key_nope", "there is no key 'key_nope' (`stoker keys list` shows those there are)"),
    ("DELETE", "/keys/key_nope", "there is no key 'key_nope' in use"),
    ("POST", "/keys/key_nope/rotate", "there is no key 'key_nope' (`stoker keys list` shows those there are)"),
    ("GET", "/budgets?tenant=nope", "there is no tenant 'nope' (`stoker tenants list` shows those there are)"),
]


async def test_what_is_not_there_is_told(admin: Admin) -> None:
    for method, path, message in NOT_THERE:
        body = None if method in ("GET", "DELETE") else {}
        assert await admin.refused(method, path, body) == (404, message, None), (method, path)


_USD = "an amount in US dollars above 0 and at most 1000000 with at most 9 decimals, as a number"
_ZERO = "(0 would refuse every request; leave it out for no limit)"
_TOKENS = f"a whole number from 1 to 1000000000000000 {_ZERO}"
_NAME = "a name of 1 to 40 lower-case letters, digits and hyphens that begins with a letter"
_LIMITS = (
    "concurrentRequests, requestTokens, requestUsd, requestsPerMinute, tokensPerDay, tokensPerMinute, tokensPerMonth, "
    "tokensTotal, usdPerDay, usdPerMonth, usdTotal"
)


WRONG: list[tuple[str, str, object, str | None, str]] = [
    ("POST", "/tenants", {}, "name", f"name: is missing; it must be {_NAME}"),
    ("POST", "/tenants", {"name": "Acme Corp"}, "name", f'name: "Acme Corp" does not fit; it must be {_NAME}'),
    ("POST", "/tenants", {"name": "b", "budget": {}}, "budget", "budget: no such key; did you mean budgets?"),
    (
        "POST",
        "/tenants",
        {"name": "b", "budgets": {"usdPerDay": -1}},
        "budgets.usdPerDay",
        f"budgets.usdPerDay: -1 does not fit; it must be {_USD} {_ZERO}",
    ),
    (
        "PATCH",
        "/tenants/other",
        {"budgets": {"usdPerDya": 1}},
        "budgets.usdPerDya",
        "budgets.usdPerDya: no such key; did you mean usdPerDay?",
    ),
    (
        "PATCH",
        "/tenants/other",
        {"sessionBudgets": {"tokensTotal": "9"}},
        "sessionBudgets.tokensTotal",
        f'sessionBudgets.tokensTotal: "9" does not fit; it must be {_TOKENS}; take the quotes away',
    ),
    (
        "PATCH",
        "/tenants/other",
        {"whenRedisIsAway": "ajar"},
        "whenRedisIsAway",
        'whenRedisIsAway: "ajar" does not fit; it must be closed or open',
    ),
    (
        "PUT",
        "/tenants/other/teams/ads",
        {"budgets": {"usdPerDay": 0}},
        "budgets.usdPerDay",
        f"budgets.usdPerDay: 0 does not fit; it must be {_USD} {_ZERO}",
    ),
    ("PUT", "/tenants/other/teams/A", {}, "teams.A", f'teams.A: "A" cannot be a name; it must be {_NAME}'),
    (
        "PUT",
        "/tenants/other/teams/ads",
        {"whenRedisIsAway": "open"},
        "whenRedisIsAway",
        "whenRedisIsAway: no such key; the keys here are: budgets, description",
    ),
    ("POST", "/keys", {}, "tenant", f"tenant: is missing; it must be {_NAME}"),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "role": "root"},
        "role",
        'role: "root" does not fit; it must be user or admin',
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "budgets": {"money": 1}},
        "budgets.money",
        f"budgets.money: no such key; the keys here are: {_LIMITS}",
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "budgets": {"tokensTotal": 1.5}},
        "budgets.tokensTotal",
        f"budgets.tokensTotal: 1.5 does not fit; it must be {_TOKENS}",
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "models": ["general", "gneral"]},
        "models[1]",
        'models[1]: "gneral" is not a model; the models are: general, code, vision',
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "routes": ["fast"]},
        "routes[0]",
        'routes[0]: "fast" is not a route; the routes are: general, code, vision',
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "models": []},
        "models",
        "models: a list does not fit; it must be a list of 1 to 1000 values",
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "expires_at": 1_699_999_999},
        "expires_at",
        "expires_at: 1699999999 is past; it must be later than now, which is 1700000000 seconds since the epoch",
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "expires_at": 1_700_000_000_000},
        "expires_at",
        "expires_at: 1700000000000 does not fit; it must be a time as seconds since the epoch, before the year 2100",
    ),
    (
        "POST",
        "/keys",
        {"tenant": "acme", "name": "two\nlines"},
        "name",
        'name: "two\\nlines" does not fit; it must be text of at most 100 characters on one line',
    ),
    ("GET", "/keys?limit=0", None, "limit", "limit is '0'; it has to be a whole number from 1 to 1000"),
    ("GET", "/keys?limit=1e3", None, "limit", "limit is '1e3'; it has to be a whole number from 1 to 1000"),
    ("GET", "/keys?ended=yes", None, "ended", "ended is 'yes'; it has to be true or false"),
    ("POST", "/keys", [1], None, "the body is a JSON array; it has to be an object"),
]


async def test_what_is_wrong_is_told_with_its_place_its_value_and_what_would_be_right(admin: Admin) -> None:
    keys, tenants = await admin.done("GET", "/keys"), await admin.done("GET", "/tenants")
    for method, path, body, param, message in WRONG:
        assert await admin.refused(method, path, body) == (400, message, param), (method, path, body)
    assert (await admin.done("GET", "/keys"), await admin.done("GET", "/tenants")) == (keys, tenants)


async def test_all_that_is_wrong_is_told_at_once(admin: Admin) -> None:
    body = {"tenant": "Acme", "budgets": {"usdTotal": "5"}, "colour": "red"}
    status, message, param = await admin.refused("POST", "/keys", body)
    lines = message.splitlines()
    assert (status, param, lines[0]) == (400, "budgets.usdTotal", "3 faults in the request:")
    assert [line.split(":")[0] for line in lines[1:]] == ["budgets.usdTotal", "colour", "tenant"]


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_key_is_made_shown_once_and_lets_its_holder_in(stack: Stack, admin: Admin) -> None:
    made = await admin.key(name="batch jobs", team="search", budgets={"usdTotal": 5, "tokensPerDay": 100})
    secret, key_id = made.pop("key"), made["id"]
    assert made.pop("made_tenant") is made.pop("made_team") is False
    assert secret.startswith("sk-stoker-")
    assert len(secret) == 53
    assert made == {
        "id": key_id,
        "tenant": "acme",
        "team": "search",
        "name": "batch jobs",
        "role": "user",
        "state": "in use",
        "prefix": secret[:14],
        "budgets": {"tokensPerDay": 100, "usdTotal": 5},
        "models": None,
        "routes": None,
        "created_at": 1_700_000_000.0,
        "rotated_at": None,
        "expires_at": None,
        "revoked_at": None,
    }
    assert await admin.done("GET", f"/keys/{key_id}") == made
    assert made in (await admin.done("GET", "/keys?tenant=acme"))["keys"]

    engine = await stack.engine()
    assert (await (await stack.http(secret)).request("POST", "/v1/chat/completions", body=CHAT)).status == 200
    assert len(engine.requests) == 1
    record = await stack.record()
    assert (record.tenant, record.team, record.key_id) == ("acme", "search", key_id)


async def test_what_has_to_be_made_for_a_key_is_said(admin: Admin) -> None:
    made = await admin.key(tenant="acmee", team="a")
    assert (made["made_tenant"], made["made_team"]) == (True, True)
    again = await admin.key(tenant="acmee", team="b")
    assert (again["made_tenant"], again["made_team"]) == (False, True)
    tenant = await admin.done("GET", "/tenants/acmee")
    assert (tenant["source"], tenant["budgets"], list(tenant["teams"])) == ("api", {}, ["a", "b"])


async def test_keys_are_listed_oldest_first_page_by_page(admin: Admin, clock: ManualClock) -> None:
    made = []
    for number in range(5):
        await clock.advance(1.0)
        made.append((await admin.key(tenant="beta", team="ads" if number % 2 else None, name=str(number)))["id"])
    page = await admin.done("GET", "/keys?tenant=beta&limit=3")
    assert ([key["id"] for key in page["keys"]], page["has_more"]) == (made[:3], True)
    page = await admin.done("GET", f"/keys?tenant=beta&limit=2&after={made[2]}")
    assert ([key["id"] for key in page["keys"]], page["has_more"]) == (made[3:], False)
    page = await admin.done("GET", "/keys?tenant=beta&team=ads")
    assert ([key["id"] for key in page["keys"]], page["has_more"]) == ([made[1], made[3]], False)
    assert [key["name"] for key in (await admin.done("GET", "/keys?tenant=other"))["keys"]] == ["the user's"]
    assert len((await admin.done("GET", "/keys"))["keys"]) == 8


async def test_those_that_ended_are_listed_when_asked_for(admin: Admin, clock: ManualClock) -> None:
    await admin.done("POST", "/tenants", {"name": "beta"}, status=201)
    kept = await admin.key(tenant="beta")
    gone = await admin.key(tenant="beta")
    late = await admin.key(tenant="beta", expires_at=clock.now() + 5)
    await admin.done("DELETE", f"/keys/{gone['id']}")
    await clock.advance(5)
    assert [key["id"] for key in (await admin.done("GET", "/keys?tenant=beta"))["keys"]] == [kept["id"]]
    listed = (await admin.done("GET", "/keys?tenant=beta&ended=true"))["keys"]
    assert {key["id"]: key["state"] for key in listed} == {
        kept["id"]: "in use",
        gone["id"]: "revoked",
        late["id"]: "expired",
    }


async def test_a_key_is_changed_by_a_merge_patch(admin: Admin) -> None:
    made = await admin.key(name="a", budgets={"usdTotal": 5, "usdPerDay": 1}, models=["general", "code"])
    path = f"/keys/{made['id']}"
    changed = await admin.done("PATCH", path, {"name": "b", "budgets": {"usdPerDay": None, "usdTotal": 6}})
    assert (changed["name"], changed["budgets"], changed["models"]) == ("b", {"usdTotal": 6}, ["code", "general"])
    changed = await admin.done("PATCH", path, {"models": None, "routes": ["code"], "expires_at": 1_700_000_100})
    assert (changed["models"], changed["routes"], changed["expires_at"]) == (None, ["code"], 1_700_000_100)
    changed = await admin.done("PATCH", path, {"budgets": None, "expires_at": None, "routes": None, "name": None})
    assert [changed[name] for name in ("name", "budgets", "routes", "expires_at")] == ["", {}, None, None]
    assert changed == await admin.done("GET", path)


async def test_whose_a_key_is_and_what_it_may_be_stays(admin: Admin) -> None:
    path = f"/keys/{(await admin.key())['id']}"
    for name, value in (("tenant", "other"), ("team", "search"), ("role", "admin")):
        status, message, param = await admin.refused("PATCH", path, {name: value})
        assert (status, param) == (400, name)
        assert message.startswith(f"{name}: no such key; ")


async def test_rotation_gives_another_secret_to_the_same_key(stack: Stack, admin: Admin, clock: ManualClock) -> None:
    made = await admin.key(name="app", budgets={"usdTotal": 5})
    await clock.advance(10)
    rotated = await admin.done("POST", f"/keys/{made['id']}/rotate")
    assert (rotated["id"], rotated["name"], rotated["budgets"]) == (made["id"], "app", {"usdTotal": 5})
    assert rotated["key"] != made["key"]
    assert (rotated["prefix"], rotated["rotated_at"]) == (rotated["key"][:14], clock.now())
    assert await status_of(stack, rotated["key"]) == 200
    await clock.advance(1)
    assert await status_of(stack, made["key"]) == 401

    again = await admin.done("POST", f"/keys/{made['id']}/rotate", {"grace_seconds": 3600})
    await clock.advance(3599)
    assert await status_of(stack, rotated["key"]) == 200
    await clock.advance(1)
    assert await status_of(stack, rotated["key"]) == 401
    assert await status_of(stack, again["key"]) == 200


async def test_a_grace_is_a_month_at_most(admin: Admin) -> None:
    path = f"/keys/{(await admin.key())['id']}/rotate"
    for grace, shown in ((-1, "-1"), (2592001, "2592001"), ("1h", '"1h"')):
        status, message, param = await admin.refused("POST", path, {"grace_seconds": grace})
        assert (status, param) == (400, "grace_seconds")
        assert message.startswith(f"grace_seconds: {shown} does not fit; it must be a number from 0 to 2592000")


async def test_a_revoked_key_stays_so(stack: Stack, admin: Admin, clock: ManualClock) -> None:
    made = await admin.key()
    assert await status_of(stack, made["key"]) == 200
    await clock.advance(3)
    gone = await admin.done("DELETE", f"/keys/{made['id']}")
    assert (gone["state"], gone["revoked_at"]) == ("revoked", clock.now())
    await clock.advance(1)
    assert await status_of(stack, made["key"]) == 401

    path = f"/keys/{made['id']}"
    assert (await admin.refused("DELETE", path))[:2] == (404, f"there is no key '{made['id']}' in use")
    message = f"key {made['id']} was revoked; a revoked key stays so (make a new one)"
    assert (await admin.refused("PATCH", path, {"name": "x"}))[:2] == (409, message)
    message = f"key {made['id']} is revoked; only one in use can be rotated"
    assert (await admin.refused("POST", path + "/rotate"))[:2] == (409, message)


async def test_an_expired_key_can_be_given_more_time(stack: Stack, admin: Admin, clock: ManualClock) -> None:
    made = await admin.key(expires_at=clock.now() + 10)
    await clock.advance(10)
    assert await status_of(stack, made["key"]) == 401
    message = f"key {made['id']} is expired; only one in use can be rotated"
    assert (await admin.refused("POST", f"/keys/{made['id']}/rotate"))[:2] == (409, message)
    # Its name can be changed without a word about the time.
    assert (await admin.done("PATCH", f"/keys/{made['id']}", {"name": "x"}))["state"] == "expired"
    assert (await admin.done("PATCH", f"/keys/{made['id']}", {"expires_at": clock.now() + 10}))["state"] == "in use"
    assert await status_of(stack, made["key"]) == 200


async def test_a_key_that_is_sent_as_an_id_is_not_repeated(admin: Admin) -> None:
    made = await admin.key()
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
        status, message, _ = await admin.refused(method, f"/keys/{made['key']}{path}", {} if method != "GET" else None)
        assert (status, message) == (
            404,
            "this is a key and not the id of one; ids begin with key_ (`stoker keys list` shows them)",
        )


async def test_a_secret_is_shown_once_and_never_logged(
    stack: Stack, admin: Admin, clock: ManualClock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as events:
        made = await admin.key(name="app")
        rotated = await admin.done("POST", f"/keys/{made['id']}/rotate")
        await admin.done("PATCH", f"/keys/{made['id']}", {"budgets": {"usdTotal": 5}})
        await admin.done("PUT", "/tenants/acme/teams/ads", {}, status=201)
        await admin.done("PATCH", "/tenants/acme/teams/ads", {})
        await admin.done("POST", "/tenants", {"name": "beta"}, status=201)
        await admin.done("PATCH", "/tenants/beta", {"description": "x"})
        await admin.done("DELETE", f"/keys/{made['id']}")
        await clock.advance(1)
        assert await status_of(stack, rotated["key"]) == 401
        answers = [
            await admin.done("GET", f"/keys/{made['id']}"),
            await admin.done("GET", "/keys?ended=true"),
            await admin.done("GET", "/budgets"),
        ]
    by = (await admin.done("GET", "/keys?tenant=acme"))["keys"]
    admin_id = next(key["id"] for key in by if key["role"] == "admin")
    changes = [event for event in events if event["event"] == "admin change"]
    assert {event["by"] for event in changes} == {admin_id}
    assert [event["did"] for event in changes] == [
        "keys.create",
        "keys.rotate",
        "keys.update",
        "teams.create",
        "teams.update",
        "tenants.create",
        "tenants.update",
        "keys.revoke",
    ]
    objects = {event["did"]: event["object"] for event in changes}
    assert {objects[did] for did in objects if did.startswith("keys.")} == {f"key:{made['id']}"}
    assert (objects["teams.create"], objects["tenants.create"]) == ("team:acme/ads", "tenant:beta")
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())  # noqa: ASYNC240 - a few kB, after the act
    assert made["id"].encode() in stored
    for secret in (made["key"], rotated["key"], ADMIN_KEY):
        assert secret not in repr(answers)
        assert secret not in repr(events)
        assert secret not in caplog.text
        assert secret.encode() not in stored


# --- admin keys -------------------------------------------------------------------------------------------------------


async def test_an_admin_key_may_do_what_users_may_and_is_accounted_for_like_one(stack: Stack, admin: Admin) -> None:
    made = await admin.key(role="admin", name="ops", models=["general"])
    assert (made["role"], (await admin.done("GET", f"/keys/{made['id']}"))["role"]) == ("admin", "admin")
    assert (await admin.ask("GET", "/keys", key=made["key"]))[0] == 200

    await stack.engine()
    http = await stack.http(made["key"])
    assert (await http.request("POST", "/v1/chat/completions", body=CHAT)).status == 200
    record = await stack.record()
    assert (record.tenant, record.key_id) == ("acme", made["id"])
    # What it may use of models is about its own requests.
    assert (await http.request("POST", "/v1/chat/completions", body={**CHAT, "model": "code"})).status == 403


async def test_the_last_admin_key_cannot_be_lost(admin: Admin, clock: ManualClock) -> None:
    listed = (await admin.done("GET", "/keys?tenant=acme"))["keys"]
    last = next(key["id"] for key in listed if key["role"] == "admin")
    status, message, _ = await admin.refused("DELETE", f"/keys/{last}")
    assert status == 409
    assert message == (
        f"key {last} is the last admin key; without one nobody could make keys any more "
        "(make another first: stoker keys create --role admin --tenant TENANT)"
    )
    status, message, _ = await admin.refused("PATCH", f"/keys/{last}", {"expires_at": clock.now() + 60})
    assert status == 409
    assert message.startswith(f"key {last} is an admin's, which cannot be made to expire sooner: ")

    short = await admin.key(role="admin", expires_at=clock.now() + 60)
    status, _, _ = await admin.refused("PATCH", f"/keys/{short['id']}", {"expires_at": clock.now() + 59})
    assert status == 409
    later = await admin.done("PATCH", f"/keys/{short['id']}", {"expires_at": clock.now() + 61})
    assert later["expires_at"] == clock.now() + 61
    await admin.done("DELETE", f"/keys/{last}")


# --- what a key may use -----------------------------------------------------------------------------------------------


async def test_a_key_of_some_models_is_refused_the_others_everywhere(stack: Stack, admin: Admin) -> None:
    made = await admin.key(models=["code"])
    http = await stack.http(made["key"])
    names = [model["id"] for model in (await http.get_json("/v1/models"))["data"]]
    assert names == ["code", "auto"]
    message = "this key may not use the model general; it may use the models: code"
    for path, body in (
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "model": "gpt-4o"}),
        ("/v1/chat/completions", {**CHAT, "model": "auto"}),
        ("/v1/general/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"model": "general", "prompt": "one two"}),
        ("/v1/tasks", CHAT),
        ("/v1/tasks", {"endpoint": "/v1/chat/completions", "body": CHAT}),
    ):
        answer = await http.request("POST", path, body=body)
        assert (answer.status, answer.json()["error"]["code"]) == (403, "not_permitted"), path
        assert answer.json()["error"]["message"] == message
    assert await stack.records() == []
    await stack.engine("code")
    assert (await http.request("POST", "/v1/chat/completions", body={**CHAT, "model": "code"})).status == 200


async def test_a_key_of_some_routes_is_refused_the_others(stack: Stack, admin: Admin) -> None:
    made = await admin.key(routes=["code"])
    http = await stack.http(made["key"])
    answer = await http.request("GET", "/v1/general/models")
    assert (answer.status, answer.json()["error"]["message"]) == (
        403,
        "this key may not use /v1/general; it may use the routes: code",
    )
    assert (await http.request("POST", "/v1/general/chat/completions", body={"messages": HELLO})).status == 403
    assert [model["id"] for model in (await http.get_json("/v1/code/models"))["data"]] == ["code", "auto"]
    await stack.engine("code")
    assert (await http.request("POST", "/v1/code/chat/completions", body={"messages": HELLO})).status == 200
    assert (await http.request("POST", "/v1/chat/completions", body={**CHAT, "model": "code"})).status == 200


# --- several gateways on one store ------------------------------------------------------------------------------------


async def test_a_change_made_at_one_gateway_holds_at_every_other_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        a_stack(tmp_path, platform=the_platform(), clock=clock) as here,
        a_stack(tmp_path, platform=the_platform(), clock=clock) as there,
    ):
        admin = Admin(here)
        revoked, rotated, scoped = [await admin.key(name=name) for name in ("revoked", "rotated", "scoped")]
        late = await admin.key(expires_at=clock.now() + 100)
        for gateway in (here, there):
            for made in (revoked, rotated, scoped, late):
                assert await status_of(gateway, made["key"]) == 200

        await admin.done("DELETE", f"/keys/{revoked['id']}")
        fresh = await admin.done("POST", f"/keys/{rotated['id']}/rotate")
        await admin.done("PATCH", f"/keys/{scoped['id']}", {"routes": ["code"], "budgets": {"usdTotal": 1}})
        await admin.done("PATCH", f"/keys/{late['id']}", {"expires_at": clock.now() + 1})
        await clock.advance(1)
        for gateway in (here, there):
            assert await status_of(gateway, revoked["key"]) == 401
            assert await status_of(gateway, rotated["key"]) == 401
            assert await status_of(gateway, fresh["key"]) == 200
            assert await status_of(gateway, late["key"]) == 401
            assert await status_of(gateway, scoped["key"], "/v1/general/models") == 403
            assert await status_of(gateway, scoped["key"], "/v1/code/models") == 200
            account = await gateway.gateway.services.auth.account(scoped["key"])
            assert str(account.budgets.usd_total) == "1"

        # A tenant's and a team's limits are the account's, too.
        await admin.done("POST", "/tenants", {"name": "beta", "teams": {"ads": {}}}, status=201)
        made = await admin.key(tenant="beta", team="ads")
        assert await status_of(there, made["key"]) == 200
        await admin.done("PATCH", "/tenants/beta", {"budgets": {"tokensTotal": 7}})
        await admin.done("PATCH", "/tenants/beta/teams/ads", {"budgets": {"tokensTotal": 3}})
        await clock.advance(1)
        account = await there.gateway.services.auth.account(made["key"])
        assert account.team_terms is not None
        assert (account.tenant_terms.budgets.tokens_total, account.team_terms.budgets.tokens_total) == (7, 3)


class Outage:
    """A database whose tables of accounts are gone for a while: it answers, with errors."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def _rename(self, before: str, after: str) -> None:
        connection = sqlite3.connect(self._file, timeout=20)
        connection.execute(f"ALTER TABLE {before} RENAME TO {after}")
        connection.commit()
        connection.close()

    def begins(self) -> None:
        self._rename("revisions", "revisions_away")
        self._rename("secrets", "secrets_away")

    def ends(self) -> None:
        self._rename("revisions_away", "revisions")
        self._rename("secrets_away", "secrets")


async def test_without_its_database_a_gateway_lets_nobody_in(
    tmp_path: Path, stack: Stack, admin: Admin, clock: ManualClock
) -> None:
    made, unused = await admin.key(), await admin.key()
    assert await status_of(stack, made["key"]) == 200
    outage = Outage(tmp_path / "ledger.sqlite")
    outage.begins()

    # What was looked up less than a second ago holds; what has to be looked up now does not.
    assert await status_of(stack, made["key"]) == 200
    assert await status_of(stack, unused["key"]) == 503
    await clock.advance(1)
    for path in ("/v1/models", "/admin/v1/keys"):
        for key in (made["key"], ADMIN_KEY, "sk-nobodys"):
            answer = await (await stack.http(key)).request("GET", path)
            assert (answer.status, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
            assert answer.headers["retry-after"] == "1"

    outage.ends()
    assert await status_of(stack, made["key"]) == 200
    assert await status_of(stack, "sk-nobodys") == 401


# --- budgets ----------------------------------------------------------------------------------------------------------


async def test_every_limit_is_shown_with_what_was_spent_of_it(stack: Stack, admin: Admin) -> None:
    limits = {"usdTotal": 0.00006, "tokensTotal": 60, "concurrentRequests": 2, "requestTokens": 50, "requestUsd": 0.5}
    terms = {"sessionBudgets": {"tokensTotal": 100}, "runBudgets": {"usdTotal": 1}}
    await admin.done(
        "POST", "/tenants", {"name": "beta", "teams": {"ads": {"budgets": {"tokensPerDay": 100}}}, **terms}, status=201
    )
    made = await admin.key(tenant="beta", team="ads", budgets=limits)
    await stack.engine()
    http = await stack.http(made["key"])
    answer = await http.post_json("/v1/chat/completions", {**CHAT, "max_tokens": 8})
    used = answer["usage"]
    assert (used["prompt_tokens"], used["completion_tokens"]) == (4, 4)

    rows = (await admin.done("GET", "/budgets?tenant=beta"))["budgets"]
    assert {row["tenant"] for row in rows} == {"beta"}
    whole = rows.pop(next(index for index, row in enumerate(rows) if row["budget"] == "tokensPerDay"))
    assert whole == {
        "scope": "team",
        "tenant": "beta",
        "id": "ads",
        "budget": "tokensPerDay",
        "unit": "tokens",
        "window": "day",
        "limit": 100,
        "spent": 8,
        "reserved": whole["reserved"],
        "left": 92,
        "renews_at": 1_700_006_400.0,  # midnight UTC
        "alert": None,
    }
    short = ("scope", "id", "budget", "unit", "window", "limit", "spent", "left", "renews_at")
    key = made["id"]
    assert [tuple(row[name] for name in short) for row in rows] == [
        ("session", None, "tokensTotal", "tokens", "total", 100, None, None, None),
        ("run", None, "usdTotal", "usd", "total", 1.0, None, None, None),
        ("key", key, "requestTokens", "tokens", "request", 50, None, None, None),
        ("key", key, "requestUsd", "usd", "request", 0.5, None, None, None),
        ("key", key, "tokensTotal", "tokens", "total", 60, 8, 52, None),
        # 4 tokens at $1 and 4 at $2 a million
        ("key", key, "usdTotal", "usd", "total", 0.00006, 0.000012, 0.000048, None),
        ("key", key, "concurrentRequests", "concurrent", "total", 2, None, None, None),
    ]


async def test_windows_are_those_of_now(tmp_path: Path) -> None:
    clock = ManualClock(1_700_006_370.0)  # 2023-11-14 23:59:30 UTC
    async with a_stack(tmp_path, platform=the_platform(), clock=clock) as stack:
        admin = Admin(stack)
        limits = {"tokensPerMinute": 200, "tokensPerDay": 200, "tokensPerMonth": 200, "requestsPerMinute": 9}
        made = await admin.key(tenant="other", budgets=limits)
        await stack.engine()
        await (await stack.http(made["key"])).post_json("/v1/chat/completions", {**CHAT, "max_tokens": 8})

        async def spent() -> dict[str, tuple[int, int, float]]:
            rows = (await admin.done("GET", "/budgets?tenant=other"))["budgets"]
            return {row["budget"]: (row["spent"], row["left"], row["renews_at"] - clock.now()) for row in rows}

        days_s = 16 * 86400.0
        assert await spent() == {
            "requestsPerMinute": (1, 8, 30.0),
            "tokensPerMinute": (8, 192, 30.0),
            "tokensPerDay": (8, 192, 30.0),
            "tokensPerMonth": (8, 192, days_s + 30),
        }
        await clock.advance(30)
        assert await spent() == {
            "requestsPerMinute": (0, 9, 60.0),
            "tokensPerMinute": (0, 200, 60.0),
            "tokensPerDay": (0, 200, 86400.0),
            "tokensPerMonth": (8, 192, days_s),
        }


async def test_limits_of_keys_that_ended_are_not_shown(admin: Admin) -> None:
    made = await admin.key(tenant="other", budgets={"usdTotal": 1})
    assert len((await admin.done("GET", "/budgets?tenant=other"))["budgets"]) == 1
    await admin.done("DELETE", f"/keys/{made['id']}")
    assert (await admin.done("GET", "/budgets?tenant=other"))["budgets"] == []


async def test_a_budget_that_was_lowered_below_what_is_spent_has_nothing_left(stack: Stack, admin: Admin) -> None:
    made = await admin.key(tenant="other", budgets={"tokensTotal": 50})
    await stack.engine()
    await (await stack.http(made["key"])).post_json("/v1/chat/completions", {**CHAT, "max_tokens": 8})
    await admin.done("PATCH", f"/keys/{made['id']}", {"budgets": {"tokensTotal": 5}})
    [row] = (await admin.done("GET", "/budgets?tenant=other"))["budgets"]
    assert (row["limit"], row["spent"], row["left"]) == (5, 8, 0)

"""`stoker tenants` and `stoker budgets` against a real gateway."""

import re
import shlex
from pathlib import Path

import pytest
from cli_parts import CommandLine
from gateway_parts import HELLO

from stoker.cli import show
from stoker.gateway import accounts_api
from stoker.spec import Budgets
from stoker.spec.section import yaml_name

# --- the documentation ------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "accounts.md"


async def test_the_commands_of_the_documentation_work_in_their_order(cli: CommandLine) -> None:
    [block] = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    key_id = "none yet"
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    for program, *arguments in commands:
        assert program == "stoker"
        said = await cli.does(*(key_id if word == "ID" else word for word in arguments), "--json")
        if arguments[:2] == ["keys", "create"]:
            key_id = said.json["id"]
    assert [command[1:3] for command in commands].count(["keys", "create"]) == 1
    [key] = said.json["keys"]
    assert (key["id"], key["state"], key["budgets"]) == (key_id, "revoked", {"usdPerDay": 2})


async def test_the_documentation_has_every_limit_and_every_route(cli: CommandLine) -> None:
    text = DOCS.read_text()
    for name in Budgets.model_fields:
        assert f"`{yaml_name(name)}`" in text
    for route in accounts_api.routes(cli.stack.gateway.services):
        path = route.path.removeprefix("/admin/v1").replace("{tenant}", "{t}").replace("{team}", "{n}")
        assert path in text


# --- tenants ----------------------------------------------------------------------------------------------------------


async def test_tenants_are_a_table_with_where_they_are_written(cli: CommandLine) -> None:
    await cli.does("tenants", "create", "beta", "--description", "Beta", "--budget", "usdPerDay=0.5")
    said = await cli.does("tenants", "list")
    assert said.out == (
        "tenant  description         teams   budgets                                  written in\n"
        "acme    The people of ACME  search  tokensPerMinute=200000, usdPerMonth=500  platform.yaml\n"
        "beta    Beta                -       usdPerDay=0.5                            the store\n"
        "other   -                   -       -                                        platform.yaml\n"
    )
    assert said.err == ""
    listed = await cli.json("tenants", "list")
    assert [tenant["name"] for tenant in listed["tenants"]] == ["acme", "beta", "other"]
    assert listed["tenants"][1] == await cli.json("tenants", "show", "beta")


async def test_a_tenant_is_shown_with_its_teams(cli: CommandLine) -> None:
    said = await cli.does("tenants", "show", "acme")
    assert said.out == (
        "tenant        acme\n"
        "description   The people of ACME\n"
        "budgets       tokensPerMinute=200000, usdPerMonth=500\n"
        "each session  -\n"
        "each run      -\n"
        "without redis closed\n"
        "team search   tokensPerDay=1000\n"
        "written in    platform.yaml\n"
    )


async def test_a_tenant_is_made_and_changed(cli: CommandLine) -> None:
    made = await cli.json(
        "tenants", "create", "beta", "--budget", "usdPerDay=5", "--budget", "usdTotal=50",
        "--session-budget", "tokensTotal=1e3", "--when-redis-is-away", "open",
    )  # fmt: skip
    assert made == {
        "name": "beta",
        "description": "",
        "budgets": {"usdPerDay": 5, "usdTotal": 50},
        "sessionBudgets": {"tokensTotal": 1000},
        "runBudgets": {},
        "whenRedisIsAway": "open",
        "weight": 1,
        "maxPriority": "interactive",
        "whenBusy": "wait",
        "callbackHosts": [],
        "recordContent": False,
        "teams": {},
        "source": "api",
        "created_at": 1_700_000_000.0,
    }
    changed = await cli.json(
        "tenants", "update", "beta", "--budget", "usdPerDay=none", "--run-budget", "usdTotal=0.5",
        "--when-redis-is-away", "closed", "--description", "Beta",
    )  # fmt: skip
    said = {"description": "Beta", "budgets": {"usdTotal": 50}, "runBudgets": {"usdTotal": 0.5}}
    assert changed == {**made, **said, "whenRedisIsAway": "closed"}


async def test_a_team_is_made_by_naming_it_and_said_to_be(cli: CommandLine) -> None:
    said = await cli.does("tenants", "update", "acme", "--team", "serach", "--budget", "usdPerDay=2")
    assert said.out == (
        "tenant        acme\n"
        "team          serach\n"
        "description   -\n"
        "budgets       usdPerDay=2\n"
        "written in    the store\n"
    )
    assert said.err == "note: team serach was not there and was made, without limits of its own; did you mean search?\n"
    said = await cli.does("tenants", "update", "acme", "--team", "serach", "--description", "Slip", "--json")
    assert (said.json["budgets"], said.json["description"], said.err) == ({"usdPerDay": 2}, "Slip", "")


FILE = "is written in platform.yaml, which wins at each start"


MISTAKES: list[tuple[list[str], int, str, str]] = [
    (["create", "acme"], 1, "there is a tenant 'acme' already", "stoker tenants update acme"),
    (
        ["create", "Beta"],
        2,
        'TENANT: "Beta" does not fit; it must be a name of 1 to 40 lower-case letters, digits and hyphens that begins '
        "with a letter",
        "`stoker tenants create --help` shows what can be asked",
    ),
    (
        ["create", "beta", "--session-budget", "tokensTotal=0"],
        2,
        "--session-budget tokensTotal: 0 does not fit; it must be a whole number from 1 to 1000000000000000",
        "0 would refuse every request; leave it out for no limit",
    ),
    (
        ["update", "other", "--run-budget", "usdTotl=5"],
        2,
        "--run-budget usdTotl: no such key; did you mean usdTotal?",
        "`stoker tenants update --help` shows what can be asked",
    ),
    (["update", "acme", "--budget", "usdPerDay=5"], 1, f"tenant 'acme' {FILE}", "change it there, and start again"),
    (
        ["update", "acme", "--team", "search", "--budget", "usdPerDay=5"],
        1,
        f"team 'search' of tenant 'acme' {FILE}",
        "change it there, and start again",
    ),
    (
        ["update", "acme", "--team", "Ads"],
        2,
        '--team Ads: "Ads" cannot be a name; it must be a name of 1 to 40 lower-case letters, digits and hyphens that '
        "begins with a letter",
        "`stoker tenants update --help` shows what can be asked",
    ),
    (
        ["update", "acme", "--team", "ads", "--session-budget", "usdTotal=5"],
        2,
        "a team has a description and budgets only; the rest is its tenant's",
        "leave --team out, or the other options",
    ),
    (
        ["update", "other"],
        2,
        "there is nothing to change",
        "`stoker tenants update --help` shows what can be",
    ),
    (["show", "amce"], 2, "there is no tenant 'amce'", "`stoker tenants list` shows those there are"),
    (
        ["update", "amce", "--description", "x"],
        2,
        "there is no tenant 'amce'",
        "`stoker tenants list` shows those there are",
    ),
]


async def test_a_mistake_is_told_and_nothing_is_changed(cli: CommandLine) -> None:
    before = await cli.json("tenants", "list")
    for arguments, code, message, hint in MISTAKES:
        said = await cli.says("tenants", *arguments)
        assert (said.code, said.out) == (code, ""), arguments
        assert said.err == f"error: {message}\n\nhint: {hint}\n"
    assert await cli.json("tenants", "list") == before


# --- budgets ----------------------------------------------------------------------------------------------------------


async def test_budgets_show_what_was_spent_and_what_is_left(cli: CommandLine) -> None:
    await cli.does("tenants", "create", "beta", "--session-budget", "usdTotal=0.5", "--budget", "concurrentRequests=4")
    await cli.does("tenants", "update", "beta", "--team", "ads", "--budget", "tokensPerDay=100")
    made = await cli.json(
        "keys", "create", "--tenant", "beta", "--team", "ads",
        "--budget-usd", "0.00006", "--budget-tokens", "1e6", "--budget", "requestTokens=50",
    )  # fmt: skip
    await cli.stack.engine()
    body = {"model": "general", "messages": HELLO, "max_tokens": 8}
    answer = await (await cli.stack.http(made["key"])).post_json("/v1/chat/completions", body)
    assert answer["usage"]["total_tokens"] == 8

    key = made["id"]
    said = await cli.does("budgets", "--tenant", "beta")
    head, *lines = said.out.splitlines()
    assert head.split() == ["tenant", "scope", "id", "budget", "limit", "spent", "reserved", "left", "renews"]
    # What is reserved ahead changes with each renewal of the gateway, so it is looked at on its own.
    shown = [(*words[:6], *words[7:]) for words in (line.split() for line in lines)]
    assert shown == [
        ("beta", "tenant", "beta", "concurrentRequests", "4", "-", "-", "as", "requests", "end"),
        ("beta", "session", "each", "usdTotal", "$0.50", "-", "-", "never"),
        ("beta", "team", "ads", "tokensPerDay", "100", "8", "92", "2023-11-15", "00:00:00"),
        ("beta", "key", key, "requestTokens", "50", "-", "-", "each", "request"),
        ("beta", "key", key, "tokensTotal", "1000000", "8", "999992", "never"),
        ("beta", "key", key, "usdTotal", "$0.00006", "$0.000012", "$0.000048", "never"),
    ]
    assert said.err == ""
    rows = (await cli.json("budgets", "--tenant", "beta"))["budgets"]
    assert [(row["limit"], row["spent"], row["left"]) for row in rows[-2:]] == [
        (1_000_000, 8, 999_992),
        (0.00006, 0.000012, 0.000048),
    ]
    assert all(0 <= row["reserved"] <= row["left"] for row in rows[-2:])
    assert [row["reserved"] for row in rows if row["budget"] == "requestTokens"] == [None]
    everybody = (await cli.json("budgets"))["budgets"]
    assert {row["tenant"] for row in everybody} == {"acme", "beta"}


async def test_what_is_reserved_has_its_place(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"tenant": "t", "scope": "key", "id": "k", "budget": "usdTotal", "unit": "usd", "window": "total"}
    row |= {"limit": 5.0, "spent": 1.0, "reserved": 0.25, "left": 3.75, "renews_at": None}
    monkeypatch.setattr("stoker.cli.api.call", lambda *_, **__: {"budgets": [row]})
    line = (await cli.does("budgets")).out.splitlines()[1]
    assert line.split() == ["t", "key", "k", "usdTotal", "$5.00", "$1.00", "$0.25", "$3.75", "never"]


async def test_the_last_alert_of_a_budget_is_shown_and_who_was_not_told(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"tenant": "t", "scope": "tenant", "id": "t", "budget": "usdTotal", "unit": "usd", "window": "total"}
    row |= {"limit": 5.0, "spent": 4.0, "reserved": 0.0, "left": 1.0, "renews_at": None}
    told = {"threshold": 0.8, "at": 1.0, "told": {"webhook": "waiting", "sns": "told"}}
    refused = {"threshold": None, "at": 1.0, "told": {"webhook": "told"}}
    rows = [{**row, "alert": told}, {**row, "alert": refused}, {**row, "alert": None}]
    monkeypatch.setattr("stoker.cli.api.call", lambda *_, **__: {"budgets": rows})
    head, *lines = (await cli.does("budgets")).out.splitlines()
    assert head.endswith("last alert")
    assert [line.split("never")[1].strip() for line in lines] == ["80% (webhook waiting)", "refused", "-"]


async def test_where_no_limit_is_set_it_says_how_to_set_one(cli: CommandLine) -> None:
    said = await cli.does("budgets", "--tenant", "other")
    assert said.out == "tenant  scope  id  budget  limit  spent  reserved  left  renews\n"
    assert said.err == "no limits are set; `stoker keys update ID --budget usdPerDay=5` sets one\n"
    said = await cli.says("budgets", "--tenant", "amce")
    assert (said.code, said.out) == (2, "")
    assert said.err == "error: there is no tenant 'amce'\n\nhint: `stoker tenants list` shows those there are\n"


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.0, "$0.00"),
        (5.0, "$5.00"),
        (0.5, "$0.50"),
        (0.000000001, "$0.000000001"),
        (999999.123456789, "$999999.123456789"),
        (1000000.0, "$1000000.00"),
    ],
)
def test_money_has_all_the_digits_that_count(usd: float, text: str) -> None:
    assert show.money(usd) == text

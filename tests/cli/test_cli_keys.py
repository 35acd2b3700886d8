"""`stoker keys` against a real gateway: what a person sees, what a script reads, and what mistakes are told."""

import time
from typing import Any

import pytest
from cli_parts import CommandLine
from gateway_parts import ADMIN_KEY, HELLO, KEY

from stoker.cli import limits

MADE = ("keys", "create", "--tenant", "acme")


async def lets_in(cli: CommandLine, secret: str) -> bool:
    return (await (await cli.stack.http(secret)).request("GET", "/v1/models")).status == 200


# --- create -----------------------------------------------------------------------------------------------------------


async def test_what_scripts_rely_on(cli: CommandLine) -> None:
    """DESIGN.md: `stoker keys create --tenant T [--budget-usd X] [--budget-tokens N] --json -> {"id", "key", ...}`."""
    said = await cli.does(
        "keys", "create", "--tenant", "other", "--budget-usd", "5", "--budget-tokens", "100", "--json"
    )
    made = said.json
    assert said.err == ""
    assert list(made)[:2] == ["id", "key"]
    assert (made["tenant"], made["budgets"]) == ("other", {"tokensTotal": 100, "usdTotal": 5})
    assert await lets_in(cli, made["key"])


async def test_a_person_sees_the_key_once_with_what_it_may(cli: CommandLine) -> None:
    said = await cli.does(
        *MADE, "--team", "search", "--name", "batch jobs", "--budget-usd", "5", "--budget", "tokensPerDay=1e6",
        "--budget", "usdPerDay=0.25", "--models", "general, code", "--routes", "code",
    )  # fmt: skip
    [key_id, key] = [line.split()[1] for line in said.out.splitlines()[:2]]
    assert said.out == (
        f"id          {key_id}\n"
        f"key         {key}\n"
        "tenant      acme\n"
        "team        search\n"
        "name        batch jobs\n"
        "role        user\n"
        "state       in use\n"
        "models      code, general\n"
        "routes      code\n"
        "budgets     tokensPerDay=1000000, usdPerDay=0.25, usdTotal=5\n"
        f"begins with {key[:14]}\n"
        "created     2023-11-14 22:13:20\n"
        "rotated     -\n"
        "expires     -\n"
        "revoked     -\n"
    )
    assert said.err == "keep the key now: nobody can show it again\n"
    assert await lets_in(cli, key)
    again = await cli.does("keys", "show", key_id)
    assert again.out == said.out.replace(f"key         {key}\n", "")
    assert again.err == ""


async def test_a_key_can_be_made_with_a_state_directory_that_is_named(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STOKER_STATE")
    assert (await cli.json(*MADE, "--state", str(cli.state.path)))["tenant"] == "acme"
    assert (await cli.json(*MADE, "--url", cli.stack.url, "--key", ADMIN_KEY))["tenant"] == "acme"


async def test_a_tenant_or_team_that_had_to_be_made_is_said_with_the_one_that_was_meant(cli: CommandLine) -> None:
    said = await cli.does("keys", "create", "--tenant", "acmee", "--json")
    assert said.json["made_tenant"] is True
    assert said.err == "note: tenant acmee was not there and was made, without limits of its own; did you mean acme?\n"
    said = await cli.does(*MADE, "--team", "serach", "--json")
    assert said.err == "note: team serach was not there and was made, without limits of its own; did you mean search?\n"
    said = await cli.does("keys", "create", "--tenant", "zebra", "--json")
    assert said.err == "note: tenant zebra was not there and was made, without limits of its own\n"
    assert (await cli.does("keys", "create", "--tenant", "zebra", "--json")).err == ""


async def test_an_expiry_is_a_span_from_now(cli: CommandLine) -> None:
    for text, seconds in (("90s", 90), ("30m", 1800), ("1.5h", 5400), ("30d", 2592000)):
        before = time.time()
        expires_at = (await cli.json(*MADE, "--expires-in", text))["expires_at"]
        assert before - 0.001 <= expires_at - seconds <= time.time() + 0.001
    assert (await cli.json(*MADE, "--expires-in", "none"))["expires_at"] is None


NAME = "a name of 1 to 40 lower-case letters, digits and hyphens that begins with a letter"
USD = "an amount in US dollars above 0 and at most 1000000 with at most 9 decimals, as a number"
ZERO = "0 would refuse every request; leave it out for no limit"
HELP = "`stoker keys create --help` shows what can be asked"
SPAN = "it must be a time span above 0 such as 90s, 30m, 24h or 30d, or none"

MISTAKES: list[tuple[list[str], str, str]] = [
    ([], "Missing option '--tenant'.", HELP),
    (["--tenant", "Acme Corp"], f'--tenant: "Acme Corp" does not fit; it must be {NAME}', HELP),
    (["--tenant", "acme", "--team", "A"], f'--team: "A" does not fit; it must be {NAME}', HELP),
    (["--tenant", "acme", "--role", "root"], "Invalid value for '--role': 'root' is not one of 'user', 'admin'.", HELP),
    (["--tenant", "acme", "--budget-usd", "-5"], f"--budget-usd: -5 does not fit; it must be {USD}", ZERO),
    (["--tenant", "acme", "--budget-usd", "0"], f"--budget-usd: 0 does not fit; it must be {USD}", ZERO),
    (["--tenant", "acme", "--budget-usd", "5$"], "--budget-usd is '5$'; it must be a number, or none", HELP),
    (["--tenant", "acme", "--budget-usd", "inf"], "--budget-usd is 'inf'; it must be a number, or none", HELP),
    (
        ["--tenant", "acme", "--budget-tokens", "1.5"],
        "--budget-tokens: 1.5 does not fit; it must be a whole number from 1 to 1000000000000000",
        ZERO,
    ),
    (
        ["--tenant", "acme", "--budget", "usdPerDya=1"],
        "--budget usdPerDya: no such key; did you mean usdPerDay?",
        HELP,
    ),
    (
        ["--tenant", "acme", "--budget", "money=1"],
        "--budget money: no such key; the keys here are: concurrentRequests, requestTokens, requestUsd, "
        "requestsPerMinute, tokensPerDay, tokensPerMinute, tokensPerMonth, tokensTotal, "
        "usdPerDay, usdPerMonth, usdTotal",
        HELP,
    ),
    (["--tenant", "acme", "--budget", "usdPerDay=-1"], f"--budget usdPerDay: -1 does not fit; it must be {USD}", ZERO),
    *(
        (
            ["--tenant", "acme", "--budget", wrong],
            f"--budget is '{wrong}'; it must be NAME=NUMBER, such as usdPerDay=5, or NAME=none",
            HELP,
        )
        for wrong in ("usdPerDay", "=5", "usdPerDay=five", "usdPerDay=nan")
    ),
    (
        ["--tenant", "acme", "--budget", "usdTotal=5", "--budget-usd", "6"],
        "--budget-usd says usdTotal twice; one limit has one value",
        HELP,
    ),
    (
        ["--tenant", "acme", "--budget", "usdPerDay=5", "--budget", "usdPerDay=6"],
        "--budget says usdPerDay twice; one limit has one value",
        HELP,
    ),
    *((["--tenant", "acme", "--expires-in", wrong], f"--expires-in is '{wrong}'; {SPAN}", HELP) for wrong in (
        "30", "0d", "2027-01-01", "-1h", "", "h", "1 d", "1w",
    )),
    (
        ["--tenant", "acme", "--models", "gneral"],
        '--models: "gneral" is not a model; the models are: general, code, vision',
        HELP,
    ),
    (
        ["--tenant", "acme", "--routes", "general,fast"],
        '--routes: "fast" is not a route; the routes are: general, code, vision',
        HELP,
    ),
    (
        ["--tenant", "acme", "--models", "general,"],
        "--models is 'general,'; it must be names with commas between them, or all",
        HELP,
    ),
]  # fmt: skip


async def test_a_mistake_is_told_in_the_words_of_the_option_and_nothing_is_made(cli: CommandLine) -> None:
    before = await cli.json("keys", "list")
    for arguments, message, hint in MISTAKES:
        said = await cli.says("keys", "create", *arguments)
        assert (said.code, said.out) == (2, ""), arguments
        assert said.err == f"error: {message}\n\nhint: {hint}\n"
    assert await cli.json("keys", "list") == before


async def test_all_mistakes_of_one_command_are_told_at_once(cli: CommandLine) -> None:
    said = await cli.says("keys", "create", "--tenant", "Acme", "--budget", "money=1", "--name", "a\nb")
    assert (said.code, said.out) == (2, "")
    first, *lines = said.err.splitlines()
    assert first == "error: 3 faults in the request:"
    assert [line.split(":")[0] for line in lines[:3]] == ["--budget money", "--name", "--tenant"]
    assert lines[3:] == ["", f"hint: {HELP}"]


# --- list and show ----------------------------------------------------------------------------------------------------


async def test_keys_are_a_table_for_people(cli: CommandLine) -> None:
    made = await cli.json("keys", "create", "--tenant", "beta", "--team", "ads", "--name", "app", "--budget-usd", "5")
    await cli.clock.advance(1)
    ops = await cli.json("keys", "create", "--tenant", "beta", "--role", "admin")
    said = await cli.does("keys", "list", "--tenant", "beta")
    assert said.out == (
        "id                              begins with     tenant  team  name  role   state   budgets     expires\n"
        f"{made['id']}  {made['prefix']}  beta    ads   app   user   in use  usdTotal=5  -\n"
        f"{ops['id']}  {ops['prefix']}  beta    -     -     admin  in use  -           -\n"
    )
    assert said.err == ""
    assert made["key"] not in said.out
    [line] = (await cli.does("keys", "list", "--tenant", "beta", "--team", "ads")).out.splitlines()[1:]
    assert line.startswith(made["id"])


async def test_keys_are_json_for_scripts_whatever_their_number(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.gateway.accounts_api.MOST_LISTED", 2)
    made = []
    for _ in range(5):
        await cli.clock.advance(1)
        made.append((await cli.json("keys", "create", "--tenant", "beta"))["id"])
    listed = await cli.json("keys", "list", "--tenant", "beta")
    assert list(listed) == ["keys"]
    assert [key["id"] for key in listed["keys"]] == made
    assert not any("key" in key for key in listed["keys"])
    assert listed["keys"][0] == await cli.json("keys", "show", made[0])


async def test_those_that_ended_are_listed_with_all(cli: CommandLine) -> None:
    made = await cli.json("keys", "create", "--tenant", "beta")
    await cli.does("keys", "revoke", made["id"])
    said = await cli.does("keys", "list", "--tenant", "beta")
    assert said.out == "id  begins with  tenant  team  name  role  state  budgets  expires\n"
    assert said.err == "there are none in use; --all shows those that have ended, too\n"
    assert (await cli.json("keys", "list", "--tenant", "beta", "--all"))["keys"][0]["state"] == "revoked"
    await cli.json("tenants", "create", "empty")
    assert (await cli.does("keys", "list", "--tenant", "empty", "--all")).err == "there are none\n"


async def test_what_is_not_there_is_told(cli: CommandLine) -> None:
    listed, there = "`stoker keys list` shows those there are", "`stoker tenants list` shows those there are"
    for arguments, message, hint in (
        (["keys", "show", "key_x"], "there is no key 'key_x'", listed),
        (["keys", "update", "key_x", "--name", "n"], "there is no key 'key_x'", listed),
        (["keys", "rotate", "key_x"], "there is no key 'key_x'", listed),
        (["keys", "revoke", "key_x"], "there is no key 'key_x'", listed),
        (["keys", "list", "--tenant", "amce"], "there is no tenant 'amce'", there),
    ):
        said = await cli.says(*arguments)
        assert (said.code, said.out) == (2, "")
        assert said.err == f"error: {message}\n\nhint: {hint}\n"


async def test_a_secret_in_the_place_of_an_id_is_neither_sent_nor_repeated(cli: CommandLine) -> None:
    made = await cli.json(*MADE)
    for command in (["show"], ["update", "--name", "x"], ["rotate"], ["revoke"]):
        said = await cli.says("keys", *command, made["key"])
        assert (said.code, said.out) == (2, "")
        assert said.err == (
            "error: this is a key and not the id of one; ids begin with key_\n\nhint: `stoker keys list` shows them\n"
        )
    assert await lets_in(cli, made["key"])


# --- update -----------------------------------------------------------------------------------------------------------


async def test_what_is_said_is_changed_and_the_rest_stays(cli: CommandLine) -> None:
    made = await cli.json(
        *MADE,
        "--name",
        "a",
        "--budget-usd",
        "5",
        "--budget",
        "tokensPerDay=7",
        "--models",
        "code",
        "--expires-in",
        "1d",
    )
    update = ("keys", "update", made["id"])
    shown = {name: made[name] for name in made if name not in ("key", "made_tenant", "made_team")}
    changed = await cli.json(*update, "--name", "b", "--budget", "tokensPerDay=none", "--budget", "usdPerDay=1")
    assert changed == {**shown, "name": "b", "budgets": {"usdPerDay": 1, "usdTotal": 5}}
    changed = await cli.json(
        *update, "--budget-usd", "none", "--models", "all", "--routes", "code", "--expires-in", "none"
    )
    assert changed == {
        **shown,
        "name": "b",
        "budgets": {"usdPerDay": 1},
        "models": None,
        "routes": ["code"],
        "expires_at": None,
    }
    said = await cli.does(*update, "--name", "")
    assert "name        -\n" in said.out
    assert "key  " not in said.out


async def test_nothing_to_change_is_a_mistake(cli: CommandLine) -> None:
    said = await cli.says("keys", "update", (await cli.json(*MADE))["id"])
    assert (said.code, said.err) == (
        2,
        "error: there is nothing to change\n\nhint: `stoker keys update --help` shows what can be changed\n",
    )


async def test_a_key_that_was_bound_is_bound_within_a_second(cli: CommandLine) -> None:
    made = await cli.json(*MADE)
    await cli.stack.engine()
    http, body = await cli.stack.http(made["key"]), {"model": "general", "messages": HELLO}
    assert (await http.request("POST", "/v1/chat/completions", body=body)).status == 200
    await cli.does("keys", "update", made["id"], "--models", "code")
    await cli.clock.advance(1)
    assert (await http.request("POST", "/v1/chat/completions", body=body)).status == 403


# --- rotate and revoke ------------------------------------------------------------------------------------------------


async def test_a_rotated_key_has_another_secret_and_its_old_one_for_as_long_as_was_said(cli: CommandLine) -> None:
    made = await cli.json(*MADE)
    rotated = await cli.json("keys", "rotate", made["id"], "--grace", "1h")
    assert (rotated["id"], rotated["rotated_at"]) == (made["id"], cli.clock.now())
    await cli.clock.advance(3599)
    assert await lets_in(cli, made["key"])
    assert await lets_in(cli, rotated["key"])
    await cli.clock.advance(1)
    assert not await lets_in(cli, made["key"])

    said = await cli.does("keys", "rotate", made["id"])
    assert said.err == "keep the key now: nobody can show it again\n"
    last = said.out.splitlines()[1].split()[1]
    await cli.clock.advance(1)
    assert [await lets_in(cli, secret) for secret in (made["key"], rotated["key"], last)] == [False, False, True]


async def test_a_grace_that_cannot_be_is_told(cli: CommandLine) -> None:
    key_id = (await cli.json(*MADE))["id"]
    hint = "hint: `stoker keys rotate --help` shows what can be asked\n"
    for grace, message in (
        ("60d", "--grace: 5184000 does not fit; it must be a number from 0 to 2592000"),
        ("soon", "--grace is 'soon'; it must be a time span such as 90s, 30m, 24h or 30d"),
    ):
        said = await cli.says("keys", "rotate", key_id, "--grace", grace)
        assert (said.code, said.err) == (2, f"error: {message}\n\n{hint}")


async def test_a_revoked_key_is_ended_for_ever(cli: CommandLine) -> None:
    made = await cli.json(*MADE)
    said = await cli.does("keys", "revoke", made["id"])
    assert "state       revoked\n" in said.out
    assert "revoked     2023-11-14 22:13:20\n" in said.out
    await cli.clock.advance(1)
    assert not await lets_in(cli, made["key"])
    for arguments, code, message in (
        (["revoke"], 2, f"there is no key '{made['id']}' in use"),
        (["rotate"], 1, f"key {made['id']} is revoked; only one in use can be rotated"),
        (["update", "--name", "x"], 1, f"key {made['id']} was revoked; a revoked key stays so"),
    ):
        said = await cli.says("keys", *arguments, made["id"])
        assert (said.code, said.err.splitlines()[0]) == (code, f"error: {message}")


async def test_the_last_admin_key_stays(cli: CommandLine) -> None:
    admins = [key["id"] for key in (await cli.json("keys", "list"))["keys"] if key["role"] == "admin"]
    said = await cli.says("keys", "revoke", admins[0])
    assert (len(admins), said.code) == (1, 1)
    assert said.err == (
        f"error: key {admins[0]} is the last admin key; without one nobody could make keys any more\n\n"
        "hint: make another first: stoker keys create --role admin --tenant TENANT\n"
    )


# --- the keys of the state directory ----------------------------------------------------------------------------------


async def the_states_own(cli: CommandLine) -> dict[str, str]:
    """Makes a user's and an admin's key into those of the state directory; their ids by field."""
    from dataclasses import replace

    user, admin = await cli.json(*MADE), await cli.json(*MADE, "--role", "admin")
    before = cli.state.read_credentials()
    assert before is not None
    cli.state.write_credentials(replace(before, key=user["key"], admin_key=admin["key"]))
    return {"key": user["id"], "admin_key": admin["id"]}


@pytest.mark.parametrize(("field", "what"), [("key", "the key"), ("admin_key", "the admin key")])
async def test_rotating_a_key_of_the_state_directory_puts_the_new_one_there(
    cli: CommandLine, field: str, what: str
) -> None:
    ids = await the_states_own(cli)
    before: Any = cli.state.read_credentials()
    said = await cli.does("keys", "rotate", ids[field], "--json")
    assert said.err == f"note: this is {what} of the state directory; {cli.state.credentials} has the new one\n"
    after: Any = cli.state.read_credentials()
    assert getattr(after, field) == said.json["key"] != getattr(before, field)
    other = "key" if field == "admin_key" else "admin_key"
    assert getattr(after, other) == getattr(before, other)
    await cli.clock.advance(1)
    await cli.does("keys", "list")
    assert await lets_in(cli, after.key)


async def test_revoking_one_says_what_comes_of_it(cli: CommandLine) -> None:
    ids = await the_states_own(cli)
    said = await cli.does("keys", "revoke", ids["key"])
    assert said.err == "note: this was the key of the state directory; the next `stoker up` makes another\n"
    other = await cli.json(*MADE)
    assert (await cli.does("keys", "revoke", other["id"])).err == ""


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_only_an_admin_key_may(cli: CommandLine) -> None:
    said = await cli.says("keys", "list", "--key", KEY)
    assert (said.code, said.out, said.err) == (
        2,
        "",
        'error: key "the user\'s" may not use /admin/v1/keys\n\n'
        "hint: this needs the admin key: name the state directory with --state DIR, or --key ADMIN_KEY\n",
    )
    said = await cli.says("keys", "list", "--key", "sk-x")
    assert (said.code, said.err) == (
        2,
        "error: this API key is not known here, or it was revoked or has expired\n\n"
        "hint: check --key or STOKER_KEY; the keys of a local platform are in its state directory\n",
    )


async def test_an_admin_key_that_was_made_may(cli: CommandLine) -> None:
    made = await cli.json(*MADE, "--role", "admin", "--name", "ops")
    assert made["role"] == "admin"
    listed = await cli.json("keys", "list", "--url", cli.stack.url, "--key", made["key"])
    assert made["id"] in [key["id"] for key in listed["keys"] if key["role"] == "admin"]


async def test_a_platform_that_is_away_is_exit_code_1(cli: CommandLine) -> None:
    await cli.stack.shut()
    said = await cli.says("keys", "list")
    assert (said.code, said.out) == (1, "")
    first, _, hint = said.err.splitlines()
    assert first.startswith(f"error: cannot reach {cli.stack.url}: ")
    assert hint == "hint: is it running? `stoker ps` shows it, `stoker up` starts it"


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("1e6", 1_000_000), ("0.1", 0.1), ("-5", -5), ("5.0", 5), ("none", None), ("NULL", None), ("", None)],
)
def test_a_number_is_what_was_meant(text: str, number: float | None) -> None:
    said = limits.number_or_none(text)
    assert (said, type(said)) == (number, type(number))


def test_limits_are_shown_as_they_can_be_pasted() -> None:
    shown = limits.written({"usdPerDay": 0.5, "tokensTotal": 7})
    assert shown == "usdPerDay=0.5, tokensTotal=7"
    assert limits.budgets("budget", shown.split(", ")) == {"usdPerDay": 0.5, "tokensTotal": 7}
    assert limits.written({}) is None

"""`stoker keys`: who may call, and what each key may spend."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, limits, show, target

if TYPE_CHECKING:
    from stoker.local.state import Credentials, StateDirectory

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _what_can_change(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `create` and `update` share. They arrive as `name`, `budget_usd`, and so on."""
    for decorate in (
        click.option("--expires-in", metavar="SPAN", help="Refuse it after so long: 90s, 30m, 24h, 30d; none: never."),
        click.option("--routes", metavar="A,B", help="Only these routes (prefixes); all: every one."),
        click.option("--models", metavar="A,B", help="Only these models; all: every one."),
        limits.budget_option("budget", "the key spends"),
        click.option("--budget-tokens", metavar="N", help="Tokens that it may use in total (tokensTotal); or none."),
        click.option("--budget-usd", metavar="X", help="US dollars that it may spend in total (usdTotal); or none."),
        click.option("--name", help="What it is called, for people."),
    ):
        command = decorate(command)
    return command


@click.group()
def keys() -> None:
    """Who may call, and what each key may spend."""


@keys.command()
@target.options
@click.option("--tenant", required=True, help="Whose key it is; a tenant that is not there is made.")
@click.option("--team", help="Team of the tenant; one that is not there is made.")
@click.option("--role", type=click.Choice(["user", "admin"]), help="admin keys may do all that this command line does.")
@_what_can_change
@_JSON
def create(
    url: str | None,
    key: str | None,
    state: Path | None,
    tenant: str,
    team: str | None,
    role: str | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Make a key. It is shown this once."""
    found = target.find(target.Asked(url, key, state), admin=True)
    body = {"tenant": tenant, "team": team, "role": role, **_patch(**changes)}
    body["budgets"] = {name: value for name, value in body.get("budgets", {}).items() if value is not None}
    given = {name: value for name, value in body.items() if value is not None}
    made = api.call(found, "POST", "/admin/v1/keys", body=given, options=_options(**changes))
    _print_secret(made, as_json)
    if made["made_tenant"]:
        names = [one["name"] for one in api.call(found, "GET", "/admin/v1/tenants")["tenants"]]
        limits.note_made("tenant", tenant, names)
    if made["made_team"]:
        teams = api.call(found, "GET", f"/admin/v1/tenants/{quote(tenant, safe='')}/teams")["teams"]
        limits.note_made("team", str(team), [one["name"] for one in teams])


@keys.command("list")
@target.options
@click.option("--tenant", help="Only this tenant's.")
@click.option("--team", help="Only this team's.")
@click.option("--all", "ended", is_flag=True, help="Those that were revoked or have expired, too.")
@_JSON
def list_keys(
    url: str | None,
    key: str | None,
    state: Path | None,
    tenant: str | None,
    team: str | None,
    ended: bool,
    as_json: bool,
) -> None:
    """The keys, oldest first."""
    found = target.find(target.Asked(url, key, state), admin=True)
    params: dict[str, str | None] = {"tenant": tenant, "team": team, "ended": "true" if ended else None}
    rows: list[dict[str, Any]] = []
    more = True
    while more:
        page = api.call(found, "GET", "/admin/v1/keys", params=params)
        rows += page["keys"]
        more = page["has_more"]
        params["after"] = rows[-1]["id"] if rows else None
    if as_json:
        show.as_json({"keys": rows})
        return
    headers = ["id", "begins with", "tenant", "team", "name", "role", "state", "budgets", "expires"]
    show.table(headers, [_row(one) for one in rows])
    if not rows:
        show.note("there are none" if ended else "there are none in use; --all shows those that have ended, too")


@keys.command("show")
@click.argument("key_id", metavar="ID")
@target.options
@_JSON
def show_key(key_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """One key, without its secret."""
    found = target.find(target.Asked(url, key, state), admin=True)
    _print(api.call(found, "GET", _path(key_id)), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@target.options
@_what_can_change
@_JSON
def update(key_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool, **changes: Any) -> None:
    """Change what is named here; the rest stays. It holds for every gateway within a second."""
    patch = _patch(**changes)
    if not patch:
        raise InvalidInput("there is nothing to change", hint="`stoker keys update --help` shows what can be changed")
    found = target.find(target.Asked(url, key, state), admin=True)
    _print(api.call(found, "PATCH", _path(key_id), body=patch, options=_options(**changes)), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@target.options
@click.option("--grace", metavar="SPAN", help="How long the old secret still works: 1h. Without it: not at all.")
@_JSON
def rotate(key_id: str, url: str | None, key: str | None, state: Path | None, grace: str | None, as_json: bool) -> None:
    """Give a key another secret. What it has spent stays spent."""
    body = {} if grace is None else {"grace_seconds": limits.span_s("grace", grace)}
    found = target.find(target.Asked(url, key, state), admin=True)
    ours = _in_state(found, key_id)
    rotated = api.call(found, "POST", _path(key_id) + "/rotate", body=body, options={"grace_seconds": "--grace"})
    _print_secret(rotated, as_json)  # before anything else can fail: it is shown this once
    if ours is not None:
        ours.write(rotated["key"])
        show.note(f"note: this is {ours.what} of the state directory; {ours.state.credentials} has the new one")


@keys.command()
@click.argument("key_id", metavar="ID")
@target.options
@_JSON
def revoke(key_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """End a key for ever, within a second on every gateway."""
    found = target.find(target.Asked(url, key, state), admin=True)
    ours = _in_state(found, key_id)
    _print(api.call(found, "DELETE", _path(key_id)), as_json)
    if ours is not None:
        show.note(f"note: this was {ours.what} of the state directory; the next `stoker up` makes another")


def _path(key_id: str) -> str:
    """Raises InvalidInput, without repeating it, for a secret: what is in a path may end in somebody's log."""
    if key_id.startswith("sk-"):
        raise InvalidInput(
            "this is a key and not the id of one; ids begin with key_", param="ID", hint="`stoker keys list` shows them"
        )
    return "/admin/v1/keys/" + quote(key_id, safe="")


@dataclass(frozen=True)
class _Ours:
    """One of the two keys that `stoker up` keeps in the state directory."""

    state: "StateDirectory"
    credentials: "Credentials"
    is_admin: bool

    @property
    def what(self) -> str:
        return "the admin key" if self.is_admin else "the key"

    def write(self, secret: str) -> None:
        """Keep the new one: the next command and the next `stoker up` need it."""
        before = self.credentials
        self.state.write_credentials(
            replace(before, admin_key=secret) if self.is_admin else replace(before, key=secret)
        )


def _in_state(found: target.Target, key_id: str) -> _Ours | None:
    """Whether the key is one of the state directory that the platform was found by."""
    from stoker.local.state import StateDirectory

    path = _path(key_id)
    if found.state is None:
        return None
    state = StateDirectory(found.state)
    credentials, begins = state.read_credentials(), api.call(found, "GET", path)["prefix"]
    if credentials is not None and begins:
        for secret, is_admin in ((credentials.key, False), (credentials.admin_key, True)):
            if secret.startswith(begins):
                return _Ours(state, credentials, is_admin)
    return None


def _patch(
    *,
    name: str | None,
    budget_usd: str | None,
    budget_tokens: str | None,
    budget: tuple[str, ...],
    models: str | None,
    routes: str | None,
    expires_in: str | None,
) -> dict[str, Any]:
    """What was said, as a merge patch: null where it was said that there is none."""
    patch: dict[str, Any] = {}
    if name is not None:
        patch["name"] = name
    said = limits.budgets("budget", budget)
    limits.add_total(said, "usdTotal", "budget-usd", budget_usd)
    limits.add_total(said, "tokensTotal", "budget-tokens", budget_tokens)
    if said:
        patch["budgets"] = said
    for word, value in (("models", models), ("routes", routes)):
        if value is not None:
            patch[word] = limits.names(word, value)
    if expires_in is not None:
        patch["expires_at"] = limits.expiry("expires-in", expires_in, time.time())
    return patch


def _options(*, budget_usd: str | None, budget_tokens: str | None, **_: object) -> dict[str, str]:
    """By which option each key of the body is given."""
    short = {"budgets.usdTotal": "--budget-usd"} if budget_usd is not None else {}
    short |= {"budgets.tokensTotal": "--budget-tokens"} if budget_tokens is not None else {}
    same = {name: f"--{name}" for name in ("tenant", "team", "name", "models", "routes")}
    return {**short, **same, "budgets": "--budget", "expires_at": "--expires-in"}


def _row(one: dict[str, Any]) -> list[show.Cell]:
    names = ("id", "prefix", "tenant", "team", "name", "role", "state")
    cells: list[show.Cell] = [one[name] or None for name in names]
    return [*cells, limits.written(one["budgets"]), show.local_time(one["expires_at"])]


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    _print(made, as_json)
    if not as_json:
        show.note("keep the key now: nobody can show it again")


def _print(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(one)
        return
    names = ("id", "key", "tenant", "team", "name", "role", "state")
    lines: list[tuple[str, show.Cell]] = [(name, one[name]) for name in names if name in one]
    lines += [(name, ", ".join(one[name]) if one[name] else "all") for name in ("models", "routes")]
    lines += [("budgets", limits.written(one["budgets"])), ("begins with", one["prefix"])]
    lines += [(word, show.local_time(one[f"{word}_at"])) for word in ("created", "rotated", "expires", "revoked")]
    show.fields(lines, 11)

"""`stoker keys`: who may call, and what each key may spend."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, limits, show, target

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _what_can_change(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `create` and `update` share. They arrive as `name`, `budget_usd`, and so on."""
    for decorate in (
        click.option("--expires-in", metavar="SPAN", help="Refuse it after so long: 24h, 30d; none: never."),
        click.option("--routes", metavar="A,B", help="Only these routes (prefixes); all: every one."),
        click.option("--models", metavar="A,B", help="Only these models; all: every one."),
        limits.budget_option("budget", "the key spends"),
        click.option("--budget-tokens", type=int, metavar="N", help="Tokens that it may use in total (tokensTotal)."),
        click.option("--budget-usd", type=float, metavar="X", help="US dollars that it may spend in total (usdTotal)."),
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
    made = api.call(found, "POST", "/admin/v1/keys", body=given)
    if made["made_tenant"]:
        show.note(f"note: tenant {tenant} was not there and was made, without limits of its own")
    if made["made_team"]:
        show.note(f"note: team {team} was not there and was made, without limits of its own")
    _print_secret(made, as_json)


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
    headers = ["id", "key", "tenant", "team", "name", "role", "state", "budgets", "expires"]
    show.table(headers, [_row(one) for one in rows])


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
    _print(api.call(found, "PATCH", _path(key_id), body=patch), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@target.options
@click.option("--grace", metavar="SPAN", help="How long the old secret still works: 1h. Without it: not at all.")
@_JSON
def rotate(key_id: str, url: str | None, key: str | None, state: Path | None, grace: str | None, as_json: bool) -> None:
    """Give a key another secret. What it has spent stays spent."""
    body = {} if grace is None else {"grace_seconds": limits.span_s("grace", grace)}
    found = target.find(target.Asked(url, key, state), admin=True)
    _print_secret(api.call(found, "POST", _path(key_id) + "/rotate", body=body), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@target.options
@_JSON
def revoke(key_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """End a key for ever, within a second on every gateway."""
    found = target.find(target.Asked(url, key, state), admin=True)
    _print(api.call(found, "DELETE", _path(key_id)), as_json)


def _path(key_id: str) -> str:
    return "/admin/v1/keys/" + quote(key_id, safe="")


def _patch(
    *,
    name: str | None,
    budget_usd: float | None,
    budget_tokens: int | None,
    budget: tuple[str, ...],
    models: str | None,
    routes: str | None,
    expires_in: str | None,
) -> dict[str, Any]:
    """What was said, as a merge patch: null where it was said that there is none."""
    patch: dict[str, Any] = {}
    if name is not None:
        patch["name"] = name
    total = [("usdTotal", budget_usd), ("tokensTotal", budget_tokens)]
    said = limits.budgets("budget", [*budget, *(f"{one}={value}" for one, value in total if value is not None)])
    if said:
        patch["budgets"] = said
    for word, value in (("models", models), ("routes", routes)):
        if value is not None:
            patch[word] = limits.names(value)
    if expires_in is not None:
        never = expires_in == "none"
        patch["expires_at"] = None if never else round(time.time() + limits.span_s("expires-in", expires_in), 3)
    return patch


def _row(one: dict[str, Any]) -> list[show.Cell]:
    names = ("id", "prefix", "tenant", "team", "name", "role", "state")
    cells: list[show.Cell] = [one[name] for name in names]
    return [*cells, _limits_text(one["budgets"]), show.local_time(one["expires_at"])]


def _limits_text(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items()) or "-"


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    _print(made, as_json)
    if not as_json:
        show.note("keep the key now: nobody can show it again")


def _print(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(one)
        return
    lines = [(name, show.text(one.get(name))) for name in ("id", "key", "tenant", "team", "name", "role", "state")]
    lines = [line for line in lines if line != ("key", "-")]
    lines += [(name, ", ".join(one[name]) if one[name] else "all") for name in ("models", "routes")]
    lines += [("budgets", _limits_text(one["budgets"])), ("begins with", one["prefix"] or "-")]
    lines += [(word, show.local_time(one[f"{word}_at"])) for word in ("created", "rotated", "expires", "revoked")]
    for name, value in lines:
        click.echo(f"{name:<11} {value}")

"""`stoker tenants`: who is accounted for, their teams, and what they may spend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, limits, show, target

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _what_can_change(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option(
            "--when-redis-is-away",
            type=click.Choice(["closed", "open"]),
            help="Refuse requests then, or go on with what is set aside.",
        ),
        limits.budget_option("run-budget", "each agent run spends"),
        limits.budget_option("session-budget", "each session spends"),
        limits.budget_option("budget", "all its keys spend together"),
        click.option("--description", help="For people."),
    ):
        command = decorate(command)
    return command


@click.group()
def tenants() -> None:
    """Who is accounted for, their teams, and what they may spend."""


@tenants.command("list")
@target.options
@_JSON
def list_tenants(url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """The tenants, by name."""
    found = target.find(target.Asked(url, key, state), admin=True)
    answer = api.call(found, "GET", "/admin/v1/tenants")
    if as_json:
        show.as_json(answer)
        return
    show.table(
        ["tenant", "description", "teams", "budgets", "written in"],
        [
            [
                one["name"],
                one["description"] or None,
                ", ".join(one["teams"]) or None,
                limits.written(one["budgets"]),
                "platform.yaml" if one["source"] == "file" else "the store",
            ]
            for one in answer["tenants"]
        ],
    )


@tenants.command("show")
@click.argument("name", metavar="TENANT")
@target.options
@_JSON
def show_tenant(name: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """One tenant with its teams."""
    found = target.find(target.Asked(url, key, state), admin=True)
    _print(api.call(found, "GET", _path(name)), as_json)


@tenants.command()
@click.argument("name", metavar="TENANT")
@target.options
@_what_can_change
@_JSON
def create(name: str, url: str | None, key: str | None, state: Path | None, as_json: bool, **changes: Any) -> None:
    """Make a tenant."""
    body = _without_null({"name": name, **_patch(**changes)})
    found = target.find(target.Asked(url, key, state), admin=True)
    _print(api.call(found, "POST", "/admin/v1/tenants", body=body, options=_OPTIONS), as_json)


@tenants.command()
@click.argument("name", metavar="TENANT")
@target.options
@click.option("--team", help="Change this team of the tenant instead; one that is not there is made.")
@_what_can_change
@_JSON
def update(
    name: str, url: str | None, key: str | None, state: Path | None, team: str | None, as_json: bool, **changes: Any
) -> None:
    """Change what is named here; the rest stays. It holds for every gateway within a second."""
    patch = _patch(**changes)
    if team is not None:
        wrong = set(patch) - {"description", "budgets"}
        if wrong:
            raise InvalidInput(
                "a team has a description and budgets only; the rest is its tenant's",
                hint="leave --team out, or the other options",
            )
        path = f"{_path(name)}/teams/{quote(team, safe='')}"
    elif patch:
        path = _path(name)
    else:
        raise InvalidInput("there is nothing to change", hint="`stoker tenants update --help` shows what can be")
    found = target.find(target.Asked(url, key, state), admin=True)
    changed = api.call(found, "PATCH" if team is None else "PUT", path, body=patch, options=_OPTIONS)
    _print(changed, as_json)
    if changed.get("made_team"):
        teams = api.call(found, "GET", f"{_path(name)}/teams")["teams"]
        limits.note_made("team", str(team), [one["name"] for one in teams])


# By which option each key of the body is given.
_OPTIONS = {
    "name": "TENANT",
    "teams": "--team",
    "description": "--description",
    "budgets": "--budget",
    "sessionBudgets": "--session-budget",
    "runBudgets": "--run-budget",
}


def _path(name: str) -> str:
    return "/admin/v1/tenants/" + quote(name, safe="")


def _patch(
    *,
    description: str | None,
    budget: tuple[str, ...],
    session_budget: tuple[str, ...],
    run_budget: tuple[str, ...],
    when_redis_is_away: str | None,
) -> dict[str, Any]:
    """What was said, as a merge patch of the tenant's section of platform.yaml."""
    said = {
        "description": description,
        "budgets": limits.budgets("budget", budget) or None,
        "sessionBudgets": limits.budgets("session-budget", session_budget) or None,
        "runBudgets": limits.budgets("run-budget", run_budget) or None,
        "whenRedisIsAway": when_redis_is_away,
    }
    return {name: value for name, value in said.items() if value is not None}


def _without_null(body: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {one: limit for one, limit in value.items() if limit is not None} if isinstance(value, dict) else value
        for name, value in body.items()
    }


def _print(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(one)
        return
    lines: list[tuple[str, show.Cell]] = [("tenant", one.get("tenant", one["name"]))]
    if "tenant" in one:
        lines.append(("team", one["name"]))
    lines += [("description", one["description"]), ("budgets", limits.written(one["budgets"]))]
    if "tenant" not in one:
        lines.append(("each session", limits.written(one["sessionBudgets"])))
        lines.append(("each run", limits.written(one["runBudgets"])))
        lines.append(("without redis", one["whenRedisIsAway"]))
        lines += [(f"team {team}", limits.written(terms["budgets"])) for team, terms in one["teams"].items()]
    lines.append(("written in", "platform.yaml" if one["source"] == "file" else "the store"))
    show.fields(lines, 13)

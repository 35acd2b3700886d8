"""`stoker agents schedules`: runs that begin by the clock."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from stoker.cli import agents_tree, api, show, target
from stoker.cli.agents_input import input_of

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def schedules() -> None:
    """Runs that begin by the clock."""


@schedules.command("list")
@click.argument("name", metavar="NAME")
@target.options
@_JSON
def list_schedules(name: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """The schedules of an agent."""
    found = target.find(target.Asked(url, key, state))
    answer = api.call(found, "GET", _path(name))
    if as_json:
        show.as_json({"schedules": answer["data"]})
        return
    show.table(
        ["id", "cron", "timezone", "next", "input"],
        [
            [
                each["id"],
                each["cron"],
                each.get("timezone") or "UTC",
                show.local_time(each.get("next_at")),
                agents_tree.short(each["input"]),
            ]
            for each in answer["data"]
        ],
    )


@schedules.command()
@click.argument("name", metavar="NAME")
@click.argument("cron")
@click.argument("text", required=False)
@target.options
@click.option("--file", "file", metavar="FILE", help="The input instead of TEXT; - is stdin, .json is what it says.")
@click.option("--timezone", metavar="ZONE", help="Such as Europe/Berlin. Default: UTC.")
@click.option("--thread", metavar="ID", help="All its runs are of this thread.")
@_JSON
def create(
    name: str,
    cron: str,
    text: str | None,
    url: str | None,
    key: str | None,
    state: Path | None,
    file: str | None,
    timezone: str | None,
    thread: str | None,
    as_json: bool,
) -> None:
    """Begin a run of NAME with TEXT at each time of CRON, such as '0 7 * * 1-5'."""
    body = {"cron": cron, "input": input_of(text, file, ()), "timezone": timezone, "thread": thread}
    given = {each: value for each, value in body.items() if value is not None}
    found = target.find(target.Asked(url, key, state))
    made: Any = api.call(
        found, "POST", _path(name), body=given, options={"cron": "CRON", "timezone": "--timezone", "thread": "--thread"}
    )
    if as_json:
        show.as_json(made)
    else:
        click.echo(f"{made['id']}  next {show.local_time(made.get('next_at'))}")


@schedules.command()
@click.argument("name", metavar="NAME")
@click.argument("schedule_id", metavar="ID")
@target.options
def delete(name: str, schedule_id: str, url: str | None, key: str | None, state: Path | None) -> None:
    """No further run begins. Those that have begun go on."""
    found = target.find(target.Asked(url, key, state))
    api.fetch(found, "DELETE", f"{_path(name)}/{quote(schedule_id, safe='')}")
    click.echo(f"deleted {schedule_id}")


def _path(agent: str) -> str:
    return f"/v1/agents/{quote(agent, safe='')}/schedules"

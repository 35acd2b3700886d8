"""`stoker tasks dead | replay | drop | dropped`: tasks that were given up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, limits, show, target

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_OPTIONS = {
    "model": "--model",
    "tenant": "--tenant",
    "reason": "--reason",
    "older_than": "--older-than",
    "newer_than": "--newer-than",
    "max": "--max",
    "why": "--why",
}


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which letters are meant. They arrive as `model`, `tenant`, `reason`, `older_than` and `newer_than`."""
    for decorate in (
        click.option("--newer-than", metavar="SPAN", help="Only what died within this time, such as 24h."),
        click.option("--older-than", metavar="SPAN", help="Only what died longer ago, such as 90s, 30m, 24h, 30d."),
        click.option("--reason", metavar="CODE", help="Only what died with this error code."),
        click.option("--tenant", help="Only this tenant's."),
        click.option("--model", help="Only this model's."),
    ):
        command = decorate(command)
    return command


def _narrowed(given: dict[str, Any]) -> dict[str, Any]:
    """The filters as the platform wants them: spans in seconds, and nothing that was not said."""
    said = {name: given[name] for name in ("model", "tenant", "reason", "older_than", "newer_than")}
    for name in ("older_than", "newer_than"):
        if said[name] is not None:
            said[name] = limits.span_s(_OPTIONS[name].removeprefix("--"), said[name])
    return {name: value for name, value in said.items() if value is not None}


def _which(ids: tuple[str, ...], everything: bool, most: int, given: dict[str, Any]) -> dict[str, Any]:
    """The letters that a command is to change. Raises InvalidInput when nothing, or two things, say which."""
    narrowed = _narrowed(given)
    if ids and (narrowed or everything):
        raise InvalidInput("both IDs and options say which are meant", hint="leave one of them out")
    if not (ids or narrowed or everything):
        raise InvalidInput("nothing says which are meant", hint="name IDs, narrow them (--tenant, ...), or say --all")
    return {**narrowed, "ids": list(ids), "all": everything, "max": most}


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@target.options
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@click.option("--after", metavar="CURSOR", help="Go on where a page ended (`next`).")
@click.option("--body", is_flag=True, help="With ID: show what was asked, too, which may be private.")
@_JSON
def dead(
    task_id: str | None,
    url: str | None,
    key: str | None,
    state: Path | None,
    limit: int,
    after: str | None,
    body: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Tasks that were given up, with what went wrong; or one of them, with all its attempts."""
    found = target.find(target.Asked(url, key, state), admin=True)
    if task_id is not None:
        params = {"body": "true"} if body else None
        _print_letter(api.call(found, "GET", f"/admin/v1/dead/{task_id}", params=params), as_json)
        return
    narrowed = {name: str(value) for name, value in _narrowed(given).items()}
    answer = api.call(found, "GET", "/admin/v1/dead", params={**narrowed, "limit": str(limit), "after": after})
    if as_json:
        show.as_json(answer)
        return
    show.table(
        ["id", "model", "tenant", "attempts", "died", "reason", "error"],
        [
            [t["id"], t["model"], t["tenant"], t["attempts"], show.local_time(t["ended_at"]), *_error(t)]
            for t in answer["tasks"]
        ],
    )
    if answer["next"] is not None:
        show.note(f"there are more: --after {answer['next']}")
    if answer["forwarding"] is not None:
        show.note(_forwarding(answer["forwarding"]))


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@target.options
@_filters
@click.option("--all", "everything", is_flag=True, help="All of them, up to --max.")
@click.option("--from-sqs", is_flag=True, help="Those that went to SQS.")
@click.option("--max", "most", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@_JSON
def replay(
    ids: tuple[str, ...],
    url: str | None,
    key: str | None,
    state: Path | None,
    everything: bool,
    from_sqs: bool,
    most: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Let dead tasks wait again, each with all its attempts and a reservation of its own. What its budget or its key
    does not allow now stays as it is, and is listed."""
    if from_sqs and (ids or everything or _narrowed(given)):
        raise InvalidInput("--from-sqs takes what SQS delivers", hint="leave IDs and other options than --max out")
    path, body = "/admin/v1/dead/replay-from-sqs", {"max": most}
    if not from_sqs:
        path, body = "/admin/v1/dead/replay", _which(ids, everything, most, given)
    found = target.find(target.Asked(url, key, state), admin=True)
    _print_outcome(api.call(found, "POST", path, body=body, options=_OPTIONS), "replayed", as_json)


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@target.options
@_filters
@click.option("--all", "everything", is_flag=True, help="All of them, up to --max.")
@click.option("--max", "most", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@click.option("--why", required=True, metavar="TEXT", help="The reason; `stoker tasks dropped` shows it.")
@_JSON
def drop(
    ids: tuple[str, ...],
    url: str | None,
    key: str | None,
    state: Path | None,
    everything: bool,
    most: int,
    why: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Give up dead tasks for good. What they used stays accounted for."""
    body = {**_which(ids, everything, most, given), "why": why}
    found = target.find(target.Asked(url, key, state), admin=True)
    _print_outcome(api.call(found, "POST", "/admin/v1/dead/drop", body=body, options=_OPTIONS), "dropped", as_json)


@click.command()
@target.options
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@_JSON
def dropped(url: str | None, key: str | None, state: Path | None, limit: int, as_json: bool) -> None:
    """What was dropped: by which key, why and when; the latest first."""
    found = target.find(target.Asked(url, key, state), admin=True)
    answer = api.call(found, "GET", "/admin/v1/dead/dropped", params={"limit": str(limit)})
    if as_json:
        show.as_json(answer)
        return
    show.table(
        ["id", "model", "tenant", "reason", "dropped", "by", "why"],
        [
            [d["id"], d["model"], d["tenant"], d["code"], show.local_time(d["dropped_at"]), d["by"], d["why"]]
            for d in answer["dropped"]
        ],
    )


def _error(task: dict[str, Any]) -> tuple[str | None, str | None]:
    error = task.get("error")
    return (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)


def _forwarding(said: dict[str, Any]) -> str:
    words = f"{said['waiting']} wait to be sent to the SQS queue {said['queue']}; {said.get('sent', 0)} were sent"
    if said.get("error"):
        words += f"; SQS is away: {said['error']}"
    return words + "".join(f"\n{name} stays here: {why}" for name, why in (said.get("refused") or {}).items())


def _print_letter(letter: Any, as_json: bool) -> None:
    if as_json:
        show.as_json(letter)
        return
    code, message = _error(letter)
    names = ("id", "model", "state", "tenant", "session", "run", "endpoint", "replays")
    lines = [(name, letter.get(name)) for name in names]
    lines += [(name, show.local_time(letter.get(f"{name}_at"))) for name in ("submitted", "ended")]
    lines += [("reason", code), ("error", message)]
    for failure in letter["failures"]:
        when = show.local_time(failure["ended_at"])
        lines.append((f"attempt {failure['attempt']}", f"{when}  {failure['worker']}  {failure['why']}"))
    show.fields(lines, 10)
    if "body" in letter:
        show.as_json(letter["body"])


def _print_outcome(answer: Any, done: str, as_json: bool) -> None:
    if as_json:
        show.as_json(answer)
        return
    show.table([done], [[task_id] for task_id in answer[done]])
    for refused in answer["refused"]:
        show.note(f"{refused['id'] or 'a message'} stays: {refused['message']}")
    if answer["stopped"] is not None:
        show.note(f"stopped: {answer['stopped']}")
    elif answer["more"]:
        show.note("there may be more: run it again, or with a larger --max")

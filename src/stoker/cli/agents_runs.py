"""`stoker agents runs`: what became of runs, what they wait for, and what a person says to them."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from stoker.cli import agents_tree, agents_waits, api, show, target
from stoker.cli.agents_follow import ENDED, follow, path_of, rest_of, why
from stoker.cli.target import Target

STATUSES = ("queued", "running", "waiting", *ENDED)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WAIT = click.option("--wait", metavar="ID", help="Which of its open waits is meant. Default: the only one.")
_MESSAGE = click.option("--message", help="A word to the agent.")


@click.group()
def runs() -> None:
    """Runs of agents: what they did, what they wait for, how they ended."""


@runs.command("list")
@click.argument("name", metavar="[NAME]", required=False)
@target.options
@click.option("--status", type=click.Choice(STATUSES), help="Only runs in this state.")
@click.option("--thread", metavar="ID", help="Only those of this thread.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@_JSON
def list_runs(
    name: str | None,
    url: str | None,
    key: str | None,
    state: Path | None,
    status: str | None,
    thread: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """The newest first, of the key's tenant; of one agent, or of all."""
    from urllib.parse import quote

    found = target.find(target.Asked(url, key, state))
    path = "/v1/agents/runs" if name is None else f"/v1/agents/{quote(name, safe='')}/runs"
    params = {"status": status, "thread": thread, "limit": str(limit)}
    answer = api.call(found, "GET", path, params=params)
    if as_json:
        show.as_json({"runs": answer["data"]})
        return
    show.table(
        ["id", "agent", "status", "created", "steps", "tokens", "dollars", "why"],
        [
            [
                each["id"],
                each["agent"],
                each["status"],
                show.local_time(each["created_at"]),
                each["usage"]["steps"],
                each["usage"]["prompt_tokens"] + each["usage"]["completion_tokens"],
                show.money(each["usage"]["usd"]),
                _why_in_short(each),
            ]
            for each in answer["data"]
        ],
        right=("dollars",),
    )


@runs.command("show")
@click.argument("run_id", metavar="ID")
@target.options
@_JSON
def show_run(run_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """One run as a tree: its steps, calls of models and tools, waits and sub-agents; what it cost, and why it ended."""
    found = target.find(target.Asked(url, key, state))
    run = api.call(found, "GET", path_of(run_id))
    spans = api.call(found, "GET", path_of(run_id, "trace"))["data"]
    if as_json:
        show.as_json({**run, "trace": spans})
        return
    show.fields(
        [
            ("run", run["id"]),
            ("agent", run["agent"]),
            ("status", why(run)),
            ("thread", run.get("thread")),
            ("created", show.local_time(run["created_at"])),
            ("ended", show.local_time(run["ended_at"])),
            ("input", agents_tree.short(run["input"])),
            ("output", agents_tree.short(run["output"])),
            ("used", agents_tree.totals(run)),
            ("limits", _limits(run)),
        ],
        8,
    )
    click.echo()
    for line in agents_tree.tree_of(spans):
        click.echo(line)
    if run["status"] == "waiting":
        _note_all(rest_of(run))


@runs.command("follow")
@click.argument("run_id", metavar="ID")
@target.options
@_JSON
def follow_run(run_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> int:
    """Say what a run does, from its beginning, and print its output when it has ended."""
    return followed(target.find(target.Asked(url, key, state)), run_id, as_json)


@runs.command()
@click.argument("run_id", metavar="ID")
@target.options
@_JSON
def cancel(run_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """End a run, and all runs below it. What is under way ends with its step."""
    found = target.find(target.Asked(url, key, state))
    _print(api.call(found, "POST", path_of(run_id, "cancel")), as_json)


@runs.command()
@click.argument("run_id", metavar="ID")
@target.options
@_JSON
def resume(run_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Let a run that was stopped go on from its last step."""
    found = target.find(target.Asked(url, key, state))
    _print(api.call(found, "POST", path_of(run_id, "resume"), body={}), as_json)


@runs.command()
@click.argument("run_id", metavar="ID")
@target.options
@_WAIT
@click.option("--arguments", metavar="JSON", help="Other arguments than those that the agent chose.")
@_MESSAGE
@_JSON
def approve(
    run_id: str,
    url: str | None,
    key: str | None,
    state: Path | None,
    wait: str | None,
    arguments: str | None,
    message: str | None,
    as_json: bool,
) -> None:
    """Let the call of a tool be made; or again, where nobody knows how it ended. Without --wait: all such calls."""
    changed = agents_waits.arguments_of(arguments)
    answer = {"decision": "approve", "arguments": changed, "message": message}
    found = target.find(target.Asked(url, key, state))
    _answer(found, run_id, agents_waits.DECIDED, wait, answer, as_json=as_json, one=changed is not None)


@runs.command()
@click.argument("run_id", metavar="ID")
@target.options
@_WAIT
@_MESSAGE
@_JSON
def reject(
    run_id: str,
    url: str | None,
    key: str | None,
    state: Path | None,
    wait: str | None,
    message: str | None,
    as_json: bool,
) -> None:
    """Do not let the call of a tool be made; or not again. Without --wait: none of those that a run waits for."""
    found = target.find(target.Asked(url, key, state))
    answer = {"decision": "reject", "message": message}
    _answer(found, run_id, agents_waits.DECIDED, wait, answer, as_json=as_json)


@runs.command("answer")
@click.argument("run_id", metavar="ID")
@click.argument("value")
@target.options
@_WAIT
@_JSON
def answer_run(
    run_id: str, value: str, url: str | None, key: str | None, state: Path | None, wait: str | None, as_json: bool
) -> None:
    """Answer what a run asks with VALUE: JSON, or else a text.

    Where nobody knows how the call of a tool ended, VALUE is its result, and it is not made again.
    """
    found = target.find(target.Asked(url, key, state))
    run = api.call(found, "GET", path_of(run_id))
    (chosen,) = agents_waits.chosen(run, agents_waits.ANSWERED, wait, one=True)
    is_uncertain = _kinds(run)[chosen] == "uncertain"
    said = {"decision": "done", "result": value} if is_uncertain else agents_waits.value_of(value)
    _print(api.call(found, "POST", path_of(run_id, "resume"), body={"answers": {chosen: said}}), as_json)


def followed(found: Target, run_id: str, as_json: bool) -> int:
    """Follows the run until it rests. The exit code: 1 when it ended otherwise than completed; one that waits for a
    person has not failed."""
    run = follow(found, run_id)
    if as_json:
        show.as_json(run)
    elif run["status"] == "completed":
        click.echo(_text(run["output"]))
    if run["status"] != "completed":
        _note_all(rest_of(run))
    return 1 if run["status"] in ("failed", "cancelled") else 0


def _answer(
    found: Target,
    run_id: str,
    kinds: Collection[str],
    wait: str | None,
    answer: dict[str, Any],
    *,
    as_json: bool,
    one: bool = False,
) -> None:
    run = api.call(found, "GET", path_of(run_id))
    given = {name: value for name, value in answer.items() if value is not None}
    answers = {
        each: {**given, "decision": agents_waits.decision_on(_kinds(run)[each], answer["decision"])}
        for each in agents_waits.chosen(run, kinds, wait, one=one)
    }
    _print(api.call(found, "POST", path_of(run_id, "resume"), body={"answers": answers}), as_json)


def _kinds(run: Any) -> dict[str, str]:
    return {wait["id"]: wait["kind"] for wait in run["waiting_for"]}


def _print(run: Any, as_json: bool) -> None:
    if as_json:
        show.as_json(run)
    else:
        click.echo(f"{run['id']} {why(run)}")


def _text(output: object) -> str:
    return output if isinstance(output, str) else json.dumps(output)


def _why_in_short(run: Any) -> str | None:
    if run["status"] == "waiting":
        waits = agents_waits.of_people(run)
        return f"{waits[0]['kind']}: {waits[0].get('tool') or '-'}" if waits else "sub-agents"
    reason = why(run).partition(": ")[2]
    return agents_tree.short(reason) or None


def _limits(run: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in (run["limits"] or {}).items() if value is not None)


def _note_all(lines: list[str]) -> None:
    for line in lines:
        show.note(line)

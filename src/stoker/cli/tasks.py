"""`stoker tasks`: the queue and its dead letters."""

from pathlib import Path
from typing import Any

import click

from stoker.cli import api, letters, show, target

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def tasks() -> None:
    """Work that waits, runs, ended or died."""


for _command in (letters.dead, letters.replay, letters.drop, letters.dropped):
    tasks.add_command(_command)


@tasks.command("list")
@target.options
@click.option("--model", help="Only this model's.")
@click.option(
    "--only", help="Only tasks in this state: queued, running, retrying, done, dead, cancelled, forwarded, dropped."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@_JSON
def list_tasks(
    url: str | None,
    key: str | None,
    state: Path | None,
    model: str | None,
    only: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """The newest tasks first."""
    found = target.find(target.Asked(url, key, state), admin=True)
    params = {"model": model, "state": only, "limit": str(limit)}
    _print_tasks(api.call(found, "GET", "/admin/v1/tasks", params=params), as_json)


@tasks.command("show")
@click.argument("task_id", metavar="ID")
@target.options
@click.option("--wait", type=click.FloatRange(0, 300), help="Wait for its end for so many seconds.")
@_JSON
def show_task(
    task_id: str, url: str | None, key: str | None, state: Path | None, wait: float | None, as_json: bool
) -> None:
    """One task, with its result or its error."""
    found = target.find(target.Asked(url, key, state), admin=True)
    params = {"wait": None if wait is None else f"{wait:g}"}
    _print_task(api.call(found, "GET", f"/v1/tasks/{task_id}", params=params), as_json)


@tasks.command()
@click.argument("task_id", metavar="ID")
@target.options
@_JSON
def retry(task_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Let a dead task wait again, with all its attempts before it."""
    found = target.find(target.Asked(url, key, state), admin=True)
    _print_task(api.call(found, "POST", f"/admin/v1/tasks/{task_id}/retry"), as_json)


@tasks.command()
@click.argument("task_id", metavar="ID")
@target.options
@_JSON
def cancel(task_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Nobody wants this task any more."""
    found = target.find(target.Asked(url, key, state), admin=True)
    _print_task(api.call(found, "DELETE", f"/v1/tasks/{task_id}"), as_json)


@tasks.command()
@click.argument("text")
@target.options
@click.option("--model", default="auto", show_default=True, help="Model, or auto.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens of the answer at most.")
@click.option("--wait", type=click.FloatRange(0, 300), help="Wait for its end for so many seconds.")
@click.option("--idempotency-key", metavar="TEXT", help="Sent again with the same one, it is the same task.")
@_JSON
def submit(
    text: str,
    url: str | None,
    key: str | None,
    state: Path | None,
    model: str,
    max_tokens: int | None,
    wait: float | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Queue TEXT as a task and print its id."""
    found = target.find(target.Asked(url, key, state))
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    headers = None if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    sent = {"endpoint": "/v1/chat/completions", "body": body}
    task = api.call(found, "POST", "/v1/tasks", body=sent, headers=headers)
    if wait is not None:
        task = api.call(found, "GET", f"/v1/tasks/{task['id']}", params={"wait": f"{wait:g}"})
    _print_task(task, as_json)


def _print_tasks(answer: Any, as_json: bool) -> None:
    if as_json:
        show.as_json(answer)
        return
    show.table(
        ["id", "model", "state", "attempts", "submitted", "worker", "error"],
        [
            [
                t["id"],
                t["model"],
                t["state"],
                t["attempts"],
                show.local_time(t["submitted_at"]),
                t["worker"],
                error_text(t),
            ]
            for t in answer["tasks"]
        ],
    )


def _print_task(task: Any, as_json: bool) -> None:
    if as_json:
        show.as_json(task)
        return
    names = ("id", "model", "state", "attempts", "tenant", "session", "worker")
    lines = [(name, show.text(task.get(name))) for name in names]
    lines += [(name, show.local_time(task.get(f"{name}_at"))) for name in ("submitted", "started", "ended")]
    lines += [(f"attempt {f['attempt']}", str(f["why"])) for f in task.get("failures") or [] if f.get("why")]
    lines += [("error", error_text(task) or "-"), ("answer", answer_text(task) or "-")]
    if task.get("callback"):
        lines.append(("callback", callback_text(task["callback"])))
    for name, value in lines:
        click.echo(f"{name:<10} {value}")


def error_text(task: dict[str, Any]) -> str | None:
    error = task.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else None


def callback_text(callback: dict[str, Any]) -> str:
    """How it stands with telling somebody of the task's end."""
    tries = f"{callback['tries']} {'try' if callback['tries'] == 1 else 'tries'}"
    why = f": {callback['error']}" if callback.get("error") else ""
    return f"{callback['state']} after {tries}{why}"


def answer_text(task: dict[str, Any]) -> str | None:
    """The text of a chat completion; None while there is none."""
    try:
        return str(task["result"]["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        return None

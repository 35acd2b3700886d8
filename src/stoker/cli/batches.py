"""`stoker batches`: many requests in a file, done within hours."""

import json
import secrets
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, show, target
from stoker.cli.target import Target

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WAIT = click.option("--wait", is_flag=True, help="Wait for its end; says meanwhile how far it is.")
# Between two looks at a batch that somebody waits for.
LOOK_EVERY_S = 1.0
_ENDS = ("completed", "failed", "expired", "cancelled")


@click.group()
def batches() -> None:
    """Many requests in a file, done within hours."""


@batches.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@target.options
@click.option("--endpoint", help="Path that the requests go to. Default: the url of the first line.")
@click.option("--window", default="24h", show_default=True, help="Time in which it has to be done: 30m, 24h, 2d.")
@_WAIT
@_JSON
def create(
    file: Path,
    url: str | None,
    key: str | None,
    state: Path | None,
    endpoint: str | None,
    window: str,
    wait: bool,
    as_json: bool,
) -> int:
    """Upload FILE, one request a line as OpenAI has it, and begin."""
    content = file.read_bytes()
    wanted = endpoint or _url_in(content, file)
    found = target.find(target.Asked(url, key, state))
    uploaded = _upload(found, file.name, content)
    body = {"input_file_id": uploaded["id"], "endpoint": wanted, "completion_window": window}
    options = {"completion_window": "--window", "endpoint": "--endpoint"}
    made = api.call(found, "POST", "/v1/batches", body=body, options=options)
    return _shown(found, made, wait, as_json)


@batches.command("list")
@target.options
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@_JSON
def list_batches(url: str | None, key: str | None, state: Path | None, limit: int, as_json: bool) -> None:
    """The newest first, of the key's tenant."""
    found = target.find(target.Asked(url, key, state))
    answer = api.call(found, "GET", "/v1/batches", params={"limit": str(limit)})
    if as_json:
        show.as_json({"batches": answer["data"]})
        return
    show.table(
        ["id", "endpoint", "status", "total", "completed", "failed", "created", "expires"],
        [
            [
                each["id"],
                each["endpoint"],
                each["status"],
                *each["request_counts"].values(),
                show.local_time(each["created_at"]),
                show.local_time(each["expires_at"]),
            ]
            for each in answer["data"]
        ],
    )


@batches.command("show")
@click.argument("batch_id", metavar="ID")
@target.options
@_WAIT
@_JSON
def show_batch(batch_id: str, url: str | None, key: str | None, state: Path | None, wait: bool, as_json: bool) -> int:
    """One batch: how far it is, or how it ended."""
    found = target.find(target.Asked(url, key, state))
    return _shown(found, api.call(found, "GET", f"/v1/batches/{batch_id}"), wait, as_json)


@batches.command()
@click.argument("batch_id", metavar="ID")
@target.options
@click.option("--errors", is_flag=True, help="The lines of the error file instead.")
def results(batch_id: str, url: str | None, key: str | None, state: Path | None, errors: bool) -> None:
    """The lines of the output file of a batch that has ended, to stdout."""
    found = target.find(target.Asked(url, key, state))
    batch = api.call(found, "GET", f"/v1/batches/{batch_id}")
    if batch["status"] not in _ENDS:
        raise InvalidInput(f"batch {batch_id} is {batch['status']}: it has no files yet", hint="add --wait to `show`")
    file_id = batch["error_file_id" if errors else "output_file_id"]
    if file_id is not None:
        click.echo(_content(found, file_id), nl=False)


@batches.command()
@click.argument("batch_id", metavar="ID")
@target.options
@_JSON
def cancel(batch_id: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Stop what runs, and begin nothing more; what is done stays done."""
    found = target.find(target.Asked(url, key, state))
    _print(api.call(found, "POST", f"/v1/batches/{batch_id}/cancel"), as_json)


def _url_in(content: bytes, file: Path) -> str:
    """What the first line says. Raises InvalidInput."""
    first = content.lstrip().partition(b"\n")[0]
    try:
        url = json.loads(first)["url"]
    except (ValueError, KeyError, TypeError):
        url = None
    if not isinstance(url, str):
        raise InvalidInput(
            f"the first line of {file} is not a request of a batch",
            hint='a line is {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}',
        )
    return url


def _upload(found: Target, name: str, content: bytes) -> Any:
    boundary = secrets.token_hex(16)
    safe = "".join(each if each.isascii() and each.isprintable() and each not in '"\\' else "_" for each in name)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return json.loads(api.fetch(found, "POST", "/v1/files", body=body, headers=headers))


def _content(found: Target, file_id: str) -> bytes:
    return api.fetch(found, "GET", f"/v1/files/{file_id}/content")


def _shown(found: Target, batch: Any, wait: bool, as_json: bool) -> int:
    """The exit code: who waits is told whether it was completed."""
    if wait:
        batch = _ended(found, batch)
    _print(batch, as_json)
    return 1 if wait and batch["status"] != "completed" else 0


def _ended(found: Target, batch: Any) -> Any:
    import time

    said = ""
    while batch["status"] not in _ENDS:
        counts = batch["request_counts"]
        now = f"{batch['status']}: {counts['completed']} of {counts['total']} done, {counts['failed']} failed"
        if now != said:
            said = now
            show.note(now)
        time.sleep(LOOK_EVERY_S)
        batch = api.call(found, "GET", f"/v1/batches/{batch['id']}")
    return batch


def _print(batch: Any, as_json: bool) -> None:
    if as_json:
        show.as_json(batch)
        return
    counts, usage = batch["request_counts"], batch["usage"]
    ended = next((batch[f"{name}_at"] for name in _ENDS if batch[f"{name}_at"]), None)
    lines = [(name, show.text(batch[name])) for name in ("id", "endpoint", "status")]
    lines += [("lines", f"{counts['total']}, {counts['completed']} done, {counts['failed']} failed")]
    lines += [("tokens", f"{usage['input_tokens']} in, {usage['output_tokens']} out")]
    lines += [(name, show.local_time(batch[f"{name}_at"])) for name in ("created", "expires")]
    lines += [("ended", show.local_time(ended))]
    lines += [(name, show.text(batch[f"{name}_file_id"])) for name in ("input", "output", "error")]
    faults = (batch["errors"] or {"data": []})["data"]
    lines += [
        ("fault", f"line {each['line']}: {each['message']}" if each["line"] else each["message"]) for each in faults
    ]
    for name, value in lines:
        click.echo(f"{name:<10} {value}")

"""`stoker audit`: what admins' keys changed."""

import json
import time
from pathlib import Path
from typing import Any

import click

from stoker.cli import api, show, target
from stoker.cli.usage import parse_since

PAGE = 1000


@click.command()
@target.options
@click.option("--by", metavar="KEY", help="Only what this admin key did: its id.")
@click.option("--did", help="Only this, such as keys.revoke; 'keys.*' for all that begin so.")
@click.option("--object", "object_", help="Only what was done to this, such as key:key_1; 'team:research/*' likewise.")
@click.option("--since", help="Only since then: a span such as 30m, 24h or 7d, or a date such as 2026-01-31 (UTC).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(
    url: str | None,
    key: str | None,
    state: Path | None,
    by: str | None,
    did: str | None,
    object_: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """What admins' keys changed, and what they were refused; the newest first."""
    found = target.find(target.Asked(url, key, state), admin=True)
    params: dict[str, str | None] = {"key": by, "did": did, "object": object_}
    if since is not None:
        params["since"] = str(parse_since(since, time.time()))
    rows: list[dict[str, Any]] = []
    more: str | None = ""
    while more is not None and len(rows) < limit:
        asked = {**params, "after": more or None, "limit": str(min(PAGE, limit - len(rows)))}
        page = api.call(found, "GET", "/admin/v1/audit", params=asked)
        rows, more = rows + page["records"], page["next"]
    if as_json:
        show.as_json({"records": rows, "next": more})
        return
    headers = ["when", "key", "did", "object", "result", "change", "request"]
    show.table(headers, [_row(one) for one in rows])
    if more is not None:
        show.note(f"there are more; --limit shows more than {limit}")


def _row(record: dict[str, Any]) -> list[show.Cell]:
    names = ("key_id", "did", "object", "result")
    return [
        show.local_time(record["at"]),
        *(record[name] for name in names),
        change_in_words(record["before"], record["after"]),
        record["request_id"],
    ]


def change_in_words(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str | None:
    """`budgets.usdPerDay: 2 -> 5`; of what was made, what it is, without what has no value."""
    old, new = _flat(before or {}), _flat(after or {})
    words = []
    for name in {**old, **new}:
        if before is None:
            if new[name] or (new[name] == 0 and new[name] is not False):
                words.append(f"{name}: {_short(name, new[name])}")
        else:
            words.append(f"{name}: {_short(name, old.get(name))} -> {_short(name, new.get(name))}")
    return ", ".join(words) or None


def _flat(said: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in said.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def _short(name: str, value: object) -> str:
    if name.endswith("_at"):
        return show.local_time(value)
    text = value if isinstance(value, str) else "-" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."

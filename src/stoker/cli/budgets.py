"""`stoker budgets`: every limit that is set, what was spent of it, and when it renews."""

from pathlib import Path
from typing import Any

import click

from stoker.cli import api, show, target

_AMOUNTS = ("limit", "spent", "reserved", "left")


@click.command()
@target.options
@click.option("--tenant", help="Only this tenant's: its own limits, its teams', its keys'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def budgets(url: str | None, key: str | None, state: Path | None, tenant: str | None, as_json: bool) -> None:
    """Limits, what is spent, what running requests may still cost, and what is left."""
    found = target.find(target.Asked(url, key, state), admin=True)
    answer = api.call(found, "GET", "/admin/v1/budgets", params={"tenant": tenant})
    if as_json:
        show.as_json(answer)
        return
    headers = ["tenant", "scope", "id", "budget", *_AMOUNTS, "renews"]
    cells = [_cells(row) for row in answer["budgets"]]
    if any(row.get("alert") for row in answer["budgets"]):
        headers.append("last alert")
        cells = [[*one, _alert(row)] for one, row in zip(cells, answer["budgets"], strict=True)]
    show.table(headers, cells, right=_AMOUNTS)
    if not answer["budgets"]:
        show.note("no limits are set; `stoker keys update ID --budget usdPerDay=5` sets one")


def _cells(row: dict[str, Any]) -> list[show.Cell]:
    amounts = [_amount(row["unit"], row.get(name)) for name in _AMOUNTS]
    return [row["tenant"], row["scope"], row["id"] or "each", row["budget"], *amounts, _renews(row)]


def _amount(unit: str, value: float | None) -> str | None:
    if value is None:
        return None
    return show.money(value) if unit == "usd" else str(value)


def _alert(row: dict[str, Any]) -> str | None:
    """`80%`, and who was not told of it yet or at all."""
    alert = row.get("alert")
    if alert is None:
        return None
    what = "refused" if alert["threshold"] is None else f"{100 * alert['threshold']:g}%"
    others = [f"{channel} {state}" for channel, state in alert["told"].items() if state != "told"]
    return f"{what} ({', '.join(others)})" if others else what


def _renews(row: dict[str, Any]) -> str:
    if row["window"] == "request":
        return "each request"
    if row["unit"] == "concurrent":
        return "as requests end"
    return "never" if row["renews_at"] is None else show.local_time(row["renews_at"])

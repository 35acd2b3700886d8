"""`stoker budgets`: every limit that is set, what was spent of it, and when it renews."""

from pathlib import Path
from typing import Any

import click

from stoker.cli import api, show, target


@click.command()
@target.options
@click.option("--tenant", help="Only this tenant's: its own limits, its teams', its keys'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def budgets(url: str | None, key: str | None, state: Path | None, tenant: str | None, as_json: bool) -> None:
    """Limits, what is spent and what is left."""
    found = target.find(target.Asked(url, key, state), admin=True)
    answer = api.call(found, "GET", "/admin/v1/budgets", params={"tenant": tenant})
    if as_json:
        show.as_json(answer)
        return
    show.table(
        ["tenant", "scope", "id", "budget", "limit", "spent", "left", "renews"],
        [
            [
                row["tenant"],
                row["scope"],
                row["id"],
                row["budget"],
                *(_amount(row, name) for name in ("limit", "spent", "left")),
                "never" if row["renews_at"] is None else show.local_time(row["renews_at"]),
            ]
            for row in answer["budgets"]
        ],
    )


def _amount(row: dict[str, Any], name: str) -> str | None:
    value = row[name]
    if value is None:
        return None
    return f"${value:.6f}" if row["unit"] == "usd" else str(value)

"""`stoker starts`: how long machines and replicas took to start, and what that cost."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.cli import api, show, stopped, target
from stoker.cli.usage import parse_since

if TYPE_CHECKING:
    from stoker.local.state import StateDirectory

_DAY_S = 86400.0


@click.command()
@target.options
@click.option("--model", help="Only replicas of this model.")
@click.option("--since", help="Begun since then: 30m, 24h, 7d, or a date such as 2026-01-31. Default: 24h.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Starts; the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def starts(
    url: str | None,
    key: str | None,
    state: Path | None,
    model: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Seconds and dollars of each phase of starts: queue, capacity, boot, image, weights, warm-up.

    The newest first, and below it by model: median and 95th percentile, dollars, what took longest, what would help."""
    now = time.time()
    begins = now - _DAY_S if since is None else parse_since(since, now)
    report = _report(target.find(target.Asked(url, key, state), admin=True), model, begins, now, limit)
    if as_json:
        show.as_json(report)
    else:
        _print(report)


def _report(found: target.Target, model: str | None, since: float, until: float, limit: int) -> Any:
    params = {"since": repr(since), "until": repr(until), "limit": str(limit), **({"model": model} if model else {})}

    def of_ledger(state: "StateDirectory") -> Any:
        from stoker.meter import starts as ledger
        from stoker.meter.lives import Lives

        with stopped.store_of(state) as store:
            return ledger.report(Lives(store), since=since, until=until, model=model, most=limit)

    return stopped.ask(found, lambda: api.call(found, "GET", "/admin/v1/starts", params=params), of_ledger)


def _print(report: dict[str, Any]) -> None:
    from stoker.meter.lives import PHASES
    from stoker.meter.money import spoken

    rows: list[list[show.Cell]] = []
    for start in report["starts"]:
        took = {part["phase"]: "..." if part["seconds"] is None else _s(part["seconds"]) for part in start["phases"]}
        rows.append(
            [
                show.local_time(start["began_at"]),
                start["name"],
                start["model"] or f"({start['kind']})",
                start["type"],
                *(took.get(phase, "") for phase in PHASES),
                "" if start["seconds"] is None else _s(start["seconds"]),
                spoken(start["usd"]),
            ]
        )
    if not rows:
        show.note("nothing started in that time; --since 7d looks further back")
        return
    show.table(
        ["began", "name", "model", "type", *PHASES, "ready", "dollars"], rows, right=[*PHASES, "ready", "dollars"]
    )
    for each in report["models"]:
        click.echo()
        click.echo(f"{each['model']}: {each['starts']} started, {each['ready']} ready, {spoken(each['usd'])}")
        if each["dominates"] is None:
            continue
        cells: list[list[show.Cell]] = [
            [part["phase"], _s(part["median_s"]), _s(part["p95_s"]), spoken(part["usd"])] for part in each["phases"]
        ]
        cells.append(["ready", _s(each["median_s"]), _s(each["p95_s"]), spoken(each["usd"])])
        show.table(["phase", "median", "p95", "dollars"], cells, right=["median", "p95", "dollars"])
        click.echo(f"{each['evidence']}; what would help: {each['would_help']}")


def _s(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 100 else f"{seconds:,.0f} s"

"""`stoker cost`: what machines cost and for whom, from the running platform or the ledger of one that has ended."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, bill_cost, cost_ahead, show, stopped, target
from stoker.cli.bill_cost import AMOUNTS
from stoker.cli.usage import parse_since

if TYPE_CHECKING:
    from stoker.local.state import StateDirectory

_DAY_S = 86400.0


@click.command()
@target.options
@click.option("--by", default="tenant", show_default=True, metavar="KEY[,KEY]", help="What to sum by.")
@click.option("--since", help="From then on: 30m, 24h, 7d, or a date such as 2026-01-31. Default: 24h.")
@click.option("--until", help="Up to then: the same words. Default: now.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Rows; all others are one more."
)
@click.option("--bill", "file", type=click.Path(path_type=Path), metavar="FILE", help="Split this bill of AWS instead.")
@click.option("--aws", is_flag=True, help="Ask Cost Explorer for the bill ($0.01 a request).")
@click.option(
    "--amount", default="unblended", show_default=True, type=click.Choice(AMOUNTS), help="Which of its costs."
)
@click.option("--cluster", metavar="NAME", help="Whose tags are ours. Default: that of platform.yaml.")
@click.option("--all", "take_all", is_flag=True, help="All of the bill, whatever its tags say.")
@click.option("--savings", "what", flag_value="savings", help="What spot and scaling saved.")
@click.option("--forecast", "what", flag_value="forecast", help="What the month will cost.")
@click.option("--anomalies", "what", flag_value="anomalies", help="Days that stand out, and what changed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cost(
    url: str | None,
    key: str | None,
    state: Path | None,
    by: str,
    since: str | None,
    until: str | None,
    limit: int,
    file: Path | None,
    aws: bool,
    amount: bill_cost.Amount,
    cluster: str | None,
    take_all: bool,
    what: str | None,
    as_json: bool,
) -> None:
    """Dollars of machines by who caused them; idle and start-up are shown as themselves, and rows sum to the bill.

    KEY is tenant, team, key, session, run or agent; model; nodepool, capacity, type, zone, item or day; part."""
    now = time.time()
    ends = now if until is None else parse_since(until, now, "until")
    begins = ends - _DAY_S if since is None else parse_since(since, now)
    if begins >= ends:
        raise InvalidInput(
            f"--since is {since or '24h'} and --until {until or 'now'}; since must be before until", param="since"
        )
    asked = target.Asked(url, key, state)
    if file is not None and aws:
        raise InvalidInput("--bill and --aws are two bills; give one of them", param="aws")
    if what in ("forecast", "anomalies") and (file is not None or aws):
        raise InvalidInput(f"--{what} is of the platform's own days; it takes no bill", param=what)
    if what is not None and ends > now:
        raise InvalidInput(f"--until is {until}; --{what} looks at what is over: not after now", param="until")
    if what in ("forecast", "anomalies"):
        _check_keys(what, by)
    if file is not None or aws:
        which = bill_cost.Which(
            file, amount, cluster, take_all, None if since is None else begins, None if until is None else ends, now
        )
        report = bill_cost.savings(which, asked) if what == "savings" else bill_cost.report(which, asked, by, limit)
    elif what == "savings":
        report = cost_ahead.savings(target.find(asked, admin=True), begins, ends)
    elif what is not None:
        found = target.find(asked, admin=True)

        def by_day(since: float) -> Any:
            return _report(found, f"day,{by}", since, ends, 100_000)

        report = cost_ahead.outlook(what, by_day, by.split(","), None if since is None else begins, ends)
    else:
        report = _report(target.find(asked, admin=True), by, begins, ends, limit)
    if as_json:
        show.as_json(report)
    elif what is not None:
        cost_ahead.show_as_text(what, report)
    else:
        _print(report)


def _check_keys(what: str, by: str) -> None:
    """Raises InvalidInput."""
    from stoker.meter.costs import KEYS, keys_of

    if "day" in (keys := keys_of(by)) or len(keys) > 2:
        raise InvalidInput(
            f"--by is {by}; --{what} is by day, and by one or two of {', '.join(key for key in KEYS if key != 'day')}",
            param="by",
        )


def _report(found: target.Target, by: str, since: float, until: float, limit: int) -> Any:
    params = {"by": by, "since": repr(since), "until": repr(until), "limit": str(limit)}

    def of_ledger(state: "StateDirectory") -> Any:
        from stoker import spec
        from stoker.meter import costs
        from stoker.meter.ledger import Ledger
        from stoker.meter.lives import Lives

        asked = costs.asked_of(spec.load(state.spec), by=by, since=since, until=until, most_rows=limit)
        with stopped.store_of(state) as store:
            return costs.report(asked, Ledger(store), Lives(store))

    return stopped.ask(found, lambda: api.call(found, "GET", "/admin/v1/cost", params=params), of_ledger)


def _print(report: dict[str, Any]) -> None:
    from stoker.meter.money import shown_by, spoken

    rows, by = report["rows"], report["by"]
    shown = shown_by({str(i): row["nano_usd"] for i, row in enumerate(rows)})
    whole = shown_by({"all": sum(row["nano_usd"] for row in rows)})["all"]
    has_tokens = any("requests" in row for row in rows)
    if report["since"] is not None:
        show.note(f"{show.local_time(report['since'])} to {show.local_time(report['until'])}")
    if report.get("left_out_rows"):
        show.note(
            f"{report['left_out_rows']:,} lines of the bill, {spoken(report['left_out_usd'])}, are not "
            "this platform's; --all takes them, too"
        )
    names = [name for name in rows[0] if name in _NAMES] if rows else list(by)
    headers = [*names, "dollars", "work", "idle", "start-up", *(_OF_TOKENS if has_tokens else ())]
    cells = [
        [
            *(str(row[name]) for name in names),
            spoken(shown[str(i)]),
            *(spoken(row[f"{part}_usd"]) for part in ("work", "idle", "start_up")),
            *(_tokens(row) if has_tokens else ()),
        ]
        for i, row in enumerate(rows)
    ]
    total: list[show.Cell] = ["total", *[""] * (len(names) - 1), spoken(whole)]
    show.table(headers, [*cells, total + [""] * (len(headers) - len(total))], right=headers[len(names) :])
    if not rows:
        show.note("nothing was running in that time; --since 7d looks further back")


_NAMES = (
    *("tenant", "team", "key_id", "session", "run", "agent"),
    *("model", "nodepool", "capacity", "type", "zone", "item", "part", "day"),
)
_OF_TOKENS = ("requests", "tokens", "$ per million")


def _tokens(row: dict[str, Any]) -> list[show.Cell]:
    if not row["requests"]:
        return ["", "", ""]
    per_million = row["usd_per_million_tokens"]
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    return [str(row["requests"]), f"{tokens:,}", "" if per_million is None else f"{per_million:,.2f}"]

"""`stoker usage`: who used what, from the running platform or, when it does not run, from its ledger."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import click

from stoker.base.errors import InvalidInput
from stoker.cli import api, show, stopped, target

if TYPE_CHECKING:
    from stoker.local.state import StateDirectory
    from stoker.meter.export import Format
    from stoker.meter.ledger import Ledger
    from stoker.meter.usage import UsageRecord

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@click.group(invoke_without_command=True)
@target.options
@click.option("--since", help="Only what ended since then: 30m, 24h, 7d, or a date such as 2026-01-31.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--agent", help="Only runs of this agent.")
@click.option("--run", metavar="ID", help="Only this run, with all below it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def usage(
    context: click.Context,
    url: str | None,
    key: str | None,
    state: Path | None,
    since: str | None,
    tenant: str | None,
    agent: str | None,
    run: str | None,
    as_json: bool,
) -> None:
    """Requests, tokens and dollars by tenant, model, session and agent."""
    if context.invoked_subcommand is not None:
        if any(context.params.values()):
            raise click.UsageError(f"options belong behind the word {context.invoked_subcommand}", context)
        return
    after = None if since is None else parse_since(since, time.time())
    which = _Which(after, tenant, agent, run)
    report = _report(target.find(target.Asked(url, key, state), admin=True), which)
    if as_json:
        show.as_json(report)
        return
    rows = [*report["rows"], {**report["total"], "tenant": "total", "model": "", "session": "", "agent": ""}]
    has_agents = any(row["agent"] for row in rows)
    show.table(
        [
            *("tenant", "model", "session"),
            *(("agent", "requests", "steps") if has_agents else ("requests",)),
            *("prompt tokens", "completion tokens", "usd"),
        ],
        [
            [
                r["tenant"],
                r["model"],
                r["session"],
                *((r["agent"], r["requests"], r["steps"]) if has_agents else (r["requests"],)),
                r["prompt_tokens"],
                r["completion_tokens"],
                f"{r['usd']:.6f}",
            ]
            for r in rows
        ],
    )


@usage.command()
@target.options
@click.option("--format", "kind", type=click.Choice(["csv", "parquet"]), default="csv", help="Default: csv.")
@click.option("--since", help="Only what ended since then: 30m, 24h, 7d, or a date such as 2026-01-31.")
@click.option("--until", help="Only what ended before that: the same words.")
@click.option("--tenant", help="Only this tenant.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    help="- is stdout.",
)
def export(
    url: str | None,
    key: str | None,
    state: Path | None,
    kind: "Format",
    since: str | None,
    until: str | None,
    tenant: str | None,
    output: Path,
) -> None:
    """Write every record into a file. It is there when it is whole."""
    from stoker.meter.export import writer

    now = time.time()
    asked = _Asked(
        None if since is None else parse_since(since, now),
        None if until is None else parse_since(until, now, "until"),
        tenant,
    )
    count = 0
    with _source(target.find(target.Asked(url, key, state), admin=True)) as source, _whole(output) as out:
        written = writer(kind, out)
        for page in _pages(source, asked):
            written.write(page)
            count += len(page)
            if sys.stderr.isatty():
                click.echo(f"\r{count:,} records", nl=False, err=True)
        written.close()
    if sys.stderr.isatty():
        click.echo("\r", nl=False, err=True)
    show.note(f"{count:,} records written to {'stdout' if str(output) == '-' else output}")


@usage.command()
@target.options
@click.option("--before", required=True, metavar="DATE", help="The first day whose records are kept, UTC.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(url: str | None, key: str | None, state: Path | None, before: str, as_json: bool) -> None:
    """Turn old records into a sum for each day, tenant, team, key and model. Totals stay as they are."""
    try:
        day = date.fromisoformat(before)
    except ValueError as error:
        raise InvalidInput(f"--before is {before!r}; it must be a date such as 2026-01-31", param="before") from error
    with _source(target.find(target.Asked(url, key, state), admin=True)) as source:
        pruned = source.prune(day)
    if as_json:
        show.as_json({"before": str(day), "pruned": pruned})
    else:
        show.note(f"{pruned:,} records of days before {day} became sums of their days")


def parse_since(text: str, now: float, option: str = "since") -> float:
    """Seconds since the epoch of `30m` (that long before `now`) or of a date, with or without a time, local unless it
    says its zone. Raises InvalidInput."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.replace(".", "", 1).isdigit():
        return now - float(number) * _UNITS[unit]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidInput(
            f"--{option} is {text!r}; it must be a time span such as 30m, 24h or 7d, or a date such as 2026-01-31",
            param=option,
        ) from error


@dataclass(frozen=True)
class _Which:
    """What is asked for; None: all of it."""

    since: float | None
    tenant: str | None
    agent: str | None
    run: str | None


def _report(found: target.Target, which: _Which) -> Any:
    params = asdict(which) | {"since": None if which.since is None else repr(which.since)}
    return stopped.ask(
        found,
        lambda: api.call(found, "GET", "/admin/v1/usage", params=params),
        lambda state: _from_ledger(state, which),
    )


def _from_ledger(state: "StateDirectory", which: _Which) -> Any:
    from stoker.meter.report import usage_report

    with _ledger(state) as ledger:
        return usage_report(ledger.rows(**asdict(which)))


@contextmanager
def _ledger(state: "StateDirectory") -> Iterator["Ledger"]:
    from stoker.meter.ledger import Ledger

    with stopped.store_of(state) as store:
        yield Ledger(store)


# --- records themselves -----------------------------------------------------------------------------------------------

_PAGE = 5000
_Cursor = str | tuple[float, str] | None
"""After which record a page begins, as the source that gave it says it; None: at the first, or there are no more."""


@dataclass(frozen=True)
class _Asked:
    since: float | None
    until: float | None
    tenant: str | None


class _Source(Protocol):
    def page(self, asked: _Asked, after: Any) -> tuple[Sequence["UsageRecord"], _Cursor]: ...

    def prune(self, before: date) -> int: ...


class _Platform:
    """A platform that runs."""

    def __init__(self, found: target.Target) -> None:
        self._found = found

    def page(self, asked: _Asked, after: str | None) -> tuple[Sequence["UsageRecord"], _Cursor]:
        from stoker.meter.usage import UsageRecord

        since, until = (None if time is None else repr(time) for time in (asked.since, asked.until))
        params = {"since": since, "until": until, "tenant": asked.tenant, "after": after, "limit": str(_PAGE)}
        answer = api.call(self._found, "GET", "/admin/v1/usage/records", params=params)
        return [UsageRecord.from_dict(record) for record in answer["records"]], answer["next"]

    def prune(self, before: date) -> int:
        return int(api.call(self._found, "POST", "/admin/v1/usage/prune", body={"before": str(before)})["pruned"])


class _Stopped:
    """The ledger of a platform that does not."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    def page(self, asked: _Asked, after: tuple[float, str] | None) -> tuple[Sequence["UsageRecord"], _Cursor]:
        found = self._ledger.page(since=asked.since, until=asked.until, tenant=asked.tenant, after=after, limit=_PAGE)
        return found, (found[-1].ended_at, found[-1].id) if len(found) == _PAGE else None

    def prune(self, before: date) -> int:
        return self._ledger.prune(before, datetime.fromtimestamp(time.time(), UTC).date())


@contextmanager
def _source(found: target.Target) -> Iterator[_Source]:
    from stoker.local.state import StateDirectory

    state = None if found.state is None else StateDirectory(found.state)
    if state is None or state.is_locked():
        yield _Platform(found)
        return
    with _ledger(state) as ledger:
        yield _Stopped(ledger)


def _pages(source: _Source, asked: _Asked) -> Iterator[Sequence["UsageRecord"]]:
    after: _Cursor = None
    while True:
        page, after = source.page(asked, after)
        yield page
        if after is None:
            return


@contextmanager
def _whole(output: Path) -> Iterator[BinaryIO]:
    """A file beside it that takes its name at the end, so that nobody takes half an export for a whole one."""
    if str(output) == "-":
        yield sys.stdout.buffer
        return
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(output)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}", param="output") from error
    finally:
        part.unlink(missing_ok=True)

"""`stoker usage`: who used what, from the running platform or, when it does not run, from its ledger."""

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput, NotFound, Unavailable
from stoker.cli import api, show, target

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@click.command()
@target.options
@click.option("--since", help="Only what ended since then: 30m, 24h, 7d, or a date such as 2026-01-31.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def usage(
    url: str | None, key: str | None, state: Path | None, since: str | None, tenant: str | None, as_json: bool
) -> None:
    """Requests, tokens and dollars by tenant, model and session."""
    after = None if since is None else parse_since(since, time.time())
    report = _report(target.find(target.Asked(url, key, state), admin=True), after, tenant)
    if as_json:
        show.as_json(report)
        return
    rows = [*report["rows"], {**report["total"], "tenant": "total", "model": "", "session": ""}]
    show.table(
        ["tenant", "model", "session", "requests", "prompt tokens", "completion tokens", "usd"],
        [
            [
                r["tenant"],
                r["model"],
                r["session"],
                r["requests"],
                r["prompt_tokens"],
                r["completion_tokens"],
                f"{r['usd']:.6f}",
            ]
            for r in rows
        ],
    )


def parse_since(text: str, now: float) -> float:
    """Seconds since the epoch of `30m` (that long before `now`) or of a date, with or without a time, local unless it
    says its zone. Raises InvalidInput."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.replace(".", "", 1).isdigit():
        return now - float(number) * _UNITS[unit]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidInput(
            f"--since is {text!r}; it must be a time span such as 30m, 24h or 7d, or a date such as 2026-01-31",
            param="since",
        ) from error


def _report(found: target.Target, since: float | None, tenant: str | None) -> Any:
    from stoker.local.state import StateDirectory

    params = {"since": None if since is None else repr(since), "tenant": tenant}
    state = None if found.state is None else StateDirectory(found.state)
    if state is None or state.is_locked():
        try:
            return api.call(found, "GET", "/admin/v1/usage", params=params)
        except Unavailable:
            if state is None:
                raise
    return _from_ledger(state, since, tenant)


def _from_ledger(state: Any, since: float | None, tenant: str | None) -> Any:
    from stoker import spec
    from stoker.local.plan import ledger_url
    from stoker.meter.ledger import Ledger
    from stoker.meter.report import usage_report
    from stoker.meter.store import Store

    url = ledger_url(spec.load(state.spec), state, os.environ)
    if url == f"sqlite:///{state.ledger}" and not state.ledger.exists():
        raise NotFound(f"there is no ledger in {state.path}", hint="`stoker up` makes one")
    store = Store(url)
    try:
        return usage_report(Ledger(store).rows(since=since, tenant=tenant))
    finally:
        store.close()

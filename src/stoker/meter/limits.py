"""From the budgets that people write to the limits that are counted: one table, for admission and for reports."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from stoker.meter.accounts import Account
from stoker.policy.budgets import Limit, Scope, Unit, Window, inside
from stoker.spec import Budgets

COUNTED: Mapping[str, tuple[Unit, Window]] = {
    "requests_per_minute": (Unit.REQUESTS, Window.MINUTE),
    "tokens_per_minute": (Unit.TOKENS, Window.MINUTE),
    "tokens_per_day": (Unit.TOKENS, Window.DAY),
    "usd_per_day": (Unit.NANO_USD, Window.DAY),
    "tokens_per_month": (Unit.TOKENS, Window.MONTH),
    "usd_per_month": (Unit.NANO_USD, Window.MONTH),
    "tokens_total": (Unit.TOKENS, Window.TOTAL),
    "usd_total": (Unit.NANO_USD, Window.TOTAL),
    "concurrent_requests": (Unit.CONCURRENT, Window.TOTAL),
}
"""Fields of `Budgets` that are counters. `request_tokens` and `request_usd` are not: they bound one request."""


class Named(NamedTuple):
    """A limit and the field of `Budgets` that sets it."""

    field: str
    limit: Limit


def limits_of(scope: Scope, budgets: Budgets) -> list[Named]:
    """Those that are set, in the order of the table; money in nano-dollars."""
    found = []
    for field, (unit, window) in COUNTED.items():
        value = getattr(budgets, field)
        if value is not None:
            # Nine decimals at most, so nothing is rounded.
            amount = int(value.scaleb(9)) if unit is Unit.NANO_USD else value
            found.append(Named(field, Limit(scope, unit, window, amount)))
    return found


def limits_of_account(account: Account, session: str | None, run: str | None) -> list[Named]:
    """All that a request of this key, in this session and agent run, falls under; from the key outwards."""
    tenant = account.tenant
    found = limits_of(Scope("key", account.id), account.budgets)
    if account.team_terms is not None:
        found += limits_of(Scope("team", inside(tenant, account.team_terms.name)), account.team_terms.budgets)
    found += limits_of(Scope("tenant", tenant), account.tenant_terms.budgets)
    if session is not None:
        found += limits_of(Scope("session", inside(tenant, session)), account.tenant_terms.session_budgets)
    if run is not None:
        found += limits_of(Scope("run", inside(tenant, run)), account.tenant_terms.run_budgets)
    return found


def began_at(window: Window, renews_at: float | None) -> float | None:
    """When the window that ends at `renews_at` began (seconds since the epoch; UTC's calendar). None: it has none."""
    if renews_at is None:
        return None
    end = datetime.fromtimestamp(renews_at, UTC)
    if window is Window.MONTH:
        return (end - timedelta(days=1)).replace(day=1).timestamp()
    return (end - (timedelta(days=1) if window is Window.DAY else timedelta(minutes=1))).timestamp()

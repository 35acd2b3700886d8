"""From the budgets that people write to the limits that are counted: one table, for admission and for reports."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from stoker.meter.accounts import Account
from stoker.meter.grants import Grant
from stoker.policy.budgets import MOST, Limit, Scope, Unit, Window, inside, runs_counted
from stoker.spec import NO_BUDGETS, Budgets

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


def limits_of_account(
    account: Account,
    session: str | None,
    run: str | None,
    agent: str | None = None,
    agent_budgets: Budgets = NO_BUDGETS,
) -> list[Named]:
    """All that a request of this key, in this session and agent run, falls under; from the key outwards. What a tenant
    allows each run is that of the outermost one, with all below it."""
    tenant = account.tenant
    found = limits_of(Scope("key", account.id), account.budgets)
    if account.team_terms is not None:
        found += limits_of(Scope("team", inside(tenant, account.team_terms.name)), account.team_terms.budgets)
    found += limits_of(Scope("tenant", tenant), account.tenant_terms.budgets)
    if session is not None:
        found += limits_of(Scope("session", inside(tenant, session)), account.tenant_terms.session_budgets)
    if run is not None:
        outermost = runs_counted(run, agent)[0]
        found += limits_of(Scope("run", inside(tenant, outermost)), account.tenant_terms.run_budgets)
    if account.grant is not None:
        found += _limits_of_runs(tenant, account.grant)
    if agent is not None:
        found += limits_of(Scope("agent", agent), agent_budgets)
    return found


def _limits_of_runs(tenant: str, grant: Grant) -> list[Named]:
    """Those of the grant's run, and of the ones above it."""
    found = []
    for each in grant.limits:
        scope = Scope("run", inside(tenant, each.run))
        for field, unit, amount in (
            ("usd_total", Unit.NANO_USD, each.nano_usd),
            ("tokens_total", Unit.TOKENS, each.tokens),
        ):
            if amount is not None:
                found.append(Named(field, Limit(scope, unit, Window.TOTAL, min(amount, MOST))))
    return found


def began_at(window: Window, renews_at: float | None) -> float | None:
    """When the window that ends at `renews_at` began (seconds since the epoch; UTC's calendar). None: it has none."""
    if renews_at is None:
        return None
    end = datetime.fromtimestamp(renews_at, UTC)
    if window is Window.MONTH:
        return (end - timedelta(days=1)).replace(day=1).timestamp()
    return (end - (timedelta(days=1) if window is Window.DAY else timedelta(minutes=1))).timestamp()

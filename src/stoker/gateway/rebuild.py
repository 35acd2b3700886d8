"""Counters that Redis does not know: set up from what the ledger says was spent.

At a counter's first use that is what it was before there was a limit; after Redis has lost its data it is what keeps a
budget from starting anew. Rare, so it may take its time: everything on its way to the ledger is moved there first.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime

from stoker.base.errors import Unavailable
from stoker.gateway.limits import Terms
from stoker.gateway.settling import Settler
from stoker.meter.ledger import Ledger
from stoker.policy.budgets import KEPT_AFTER_S, Counter, Plan, ScopeKind, Unit, Window
from stoker.queue.budgets import BudgetStore

# Counters whose scopes are remembered: all that this process holds slices of, and more.
REMEMBERED = 100_000
_DAY_S = 86_400.0


class _Known:
    __slots__ = ("counter", "name", "scope_kind", "since", "tenant")

    def __init__(self, counter: Counter, kind: ScopeKind, tenant: str, name: str, since: float | None) -> None:
        self.counter = counter
        self.scope_kind = kind
        self.tenant = tenant
        self.name = name
        self.since = since


class Rebuild:
    def __init__(self, ledger: Ledger, settler: Settler) -> None:
        self._ledger = ledger
        self._settler = settler
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def know(self, terms: Terms, now: float) -> None:
        """Remember whose counters these are: their names alone do not say it."""
        account = terms.account
        names = {
            "key": account.id,
            "team": account.team or "",
            "tenant": account.tenant,
            "session": terms.session or "",
            "run": terms.run or "",
        }
        for limit in terms.limits:
            (counter,) = Plan([limit]).at(now)
            kind = limit.scope.kind
            self._known[counter.name] = _Known(
                counter, kind, account.tenant, names[kind], _begin(limit.window, counter.renews_at)
            )
            self._known.move_to_end(counter.name)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def begin(self, store: BudgetStore, names: Iterable[str]) -> None:
        """Raises Unavailable when the ledger does not answer: without it nobody knows what is left."""
        await self._settler.settle_all()
        for name in names:
            known = self._known.get(name)
            if known is None:
                raise Unavailable(f"the counter {name} cannot be set up again", code="budgets_unavailable")
            expires_at = None if known.counter.renews_at is None else known.counter.renews_at + KEPT_AFTER_S
            await store.begin(name, await self._spent(known), expires_at=expires_at)

    async def _spent(self, known: _Known) -> int:
        spent = await asyncio.to_thread(
            self._ledger.spent, known.scope_kind, known.tenant, known.name, since=known.since
        )
        unit = known.counter.unit
        if unit is Unit.TOKENS:
            return spent.tokens
        if unit is Unit.NANO_USD:
            return spent.nano_usd
        return spent.requests if unit is Unit.REQUESTS else 0

    async def is_first_start(self) -> bool:
        """Nothing was ever spent: no other owner can hold anything that a new Redis would not know."""
        await self._settler.settle_all()
        return not await asyncio.to_thread(self._ledger.rows)


def _begin(window: Window, renews_at: float | None) -> float | None:
    if renews_at is None:
        return None
    if window is Window.MONTH:
        last_day = datetime.fromtimestamp(renews_at - _DAY_S, UTC)
        return last_day.replace(day=1).timestamp()
    return renews_at - (_DAY_S if window is Window.DAY else 60.0)

"""Counters that Redis does not know: set up from what the ledger says was spent.

At a counter's first use that is what it was before there was a limit; after Redis has lost its data it is what keeps a
budget from starting anew. Rare, so it may take its time: everything on its way to the ledger is moved there first.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from stoker.base import logs
from stoker.base.errors import Unavailable
from stoker.gateway.commitments import seen
from stoker.gateway.limits import Terms
from stoker.gateway.settling import Settler
from stoker.meter.ledger import Ledger
from stoker.meter.limits import began_at
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import KEPT_AFTER_S, Counter, ScopeKind, Unit, Window
from stoker.queue.budgets import BudgetStore, Settlement

# Counters that are remembered beyond twice those that are held, before they are looked through.
SPARE = 1_000


class Rebuild:
    def __init__(self, ledger: Ledger, settler: Settler) -> None:
        self._ledger = ledger
        self._settler = settler
        self._known: dict[str, tuple[Counter, Terms]] = {}
        # What is to be begun by the next look into the ledger, and the look that is under way.
        self._wanted: dict[str, tuple[Counter, Terms]] = {}
        self._looking: asyncio.Task[None] | None = None

    def know(self, terms: Terms, now: float) -> None:
        """Remember whose counters these are: their names alone do not say it."""
        for counter in terms.plan.at(now):
            self._known[counter.name] = counter, terms

    def forget(self, count: int, held: Callable[[], Iterable[str]]) -> None:
        """Remember only counters that are `held` (some `count`), when there are many more than these."""
        if len(self._known) > 2 * count + SPARE:
            self._known = {name: self._known[name] for name in held() if name in self._known}

    async def begin(self, store: BudgetStore, names: Iterable[str]) -> None:
        """Whoever needs them asks again then. Those who come while the ledger is asked for others are served together
        by the next look: new callers come by the thousand. Raises Unavailable when the ledger does not answer: without
        it nobody knows what is left."""
        wanted: dict[str, tuple[Counter, Terms]] = {}
        for name in names:
            known = self._known.get(name)
            if known is None:
                raise Unavailable(f"the counter {name} cannot be set up again", code="budgets_unavailable")
            wanted[name] = known
        self._wanted |= wanted
        if self._looking is not None and not self._looking.done():
            await asyncio.wait({self._looking})  # it began before this was asked for
        if self._looking is None or (self._looking.done() and wanted.keys() & self._wanted.keys()):
            self._looking = logs.beside(self._look(store))
            self._looking.add_done_callback(seen)
        # A request that is given up must not end the look that others wait for.
        await asyncio.shield(self._looking)

    async def _look(self, store: BudgetStore) -> None:
        """In this order: what is settled while the ledger is asked is in its sum, or Redis adds it to the opening."""
        wanted, self._wanted = self._wanted, {}
        openings = await asyncio.gather(*map(store.open, wanted))
        await self._settler.settle_all()
        # Where there is no opening, another process was faster.
        found = [(*known, opening) for known, opening in zip(wanted.values(), openings, strict=True) if opening]
        sums = await asyncio.to_thread(lambda: [self._spent(counter, terms) for counter, terms, _ in found])
        await asyncio.gather(
            *(
                store.begin(counter.name, spent, expires_at=_expiry(counter), since=opening)
                for (counter, _, opening), spent in zip(found, sums, strict=True)
            )
        )

    async def in_ledger(self, pending: Sequence[Settlement]) -> set[int]:
        """The numbers of those whose usage record is in the ledger. Raises Unavailable."""
        await self._settler.settle_all()
        numbers = {UsageRecord.from_json(item.usage).id: item.number for item in pending if item.usage is not None}
        if not numbers:
            return set()
        found = await asyncio.to_thread(self._ledger.records, numbers)
        return {numbers[record.id] for record in found}

    def _spent(self, counter: Counter, terms: Terms) -> int:
        """Blocks."""
        account = terms.account
        kind, id, _, window = counter.name.split(":")[:4]
        names: dict[str, str | None] = {
            "key": account.id,
            "team": account.team,
            "tenant": account.tenant,
            "session": terms.session,
            "run": terms.run_called(f"{kind}:{id}"),
            "agent": terms.agent,
        }
        since = began_at(Window(window), counter.renews_at)
        spent = self._ledger.spent(cast(ScopeKind, kind), account.tenant, names[kind] or "", since=since)
        unit = counter.unit
        if unit is Unit.TOKENS:
            return spent.tokens
        if unit is Unit.NANO_USD:
            return spent.nano_usd
        return spent.requests if unit is Unit.REQUESTS else 0

    async def is_first_start(self) -> bool:
        """Nothing was ever spent: no other owner can hold anything that a new Redis would not know."""
        await self._settler.settle_all()
        return not await asyncio.to_thread(self._ledger.page, limit=1)


def _expiry(counter: Counter) -> float | None:
    return None if counter.renews_at is None else counter.renews_at + KEPT_AFTER_S

"""How far budgets are used up, as a metric without a tenant in it: how many budgets of each kind of scope are in which
part. `stoker budgets` says which. Each gateway says the same, as of the queue: take the highest, not the sum.

A scrape reads 20 numbers. A look at 10,000 budgets takes a thread half a second and the loop 50 ms, in 50 parts."""

import asyncio
from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence

from stoker.base.clock import Clock
from stoker.gateway import looking
from stoker.meter.keys import KeyStore
from stoker.meter.limits import limits_of
from stoker.meter.tenants import TenantStore
from stoker.policy.alerts import KINDS, PARTS, is_told_of, part_used
from stoker.policy.budgets import Counter, Plan, Scope
from stoker.queue import BudgetStore
from stoker.spec import Budgets
from stoker.telemetry.metrics import Metrics

LOOK_EVERY_S = 60.0
AT_ONCE = 200
"""Counters in one call: Redis does nothing else meanwhile, for less than a millisecond."""

Levels = Mapping[tuple[str, str], int]
"""(kind of scope, part that is spent) -> how many budgets."""


class Gauges:
    def __init__(self, metrics: Metrics) -> None:
        self._budgets = metrics.gauge(
            "stoker_budgets",
            "Budgets of a day, a month or for good, by the part of each that is spent; all: nothing is left.",
            ["scope", "used"],
        )

    def show(self, found: Levels | None) -> None:
        """None: nobody knows, and there is no sample."""
        self._budgets.clear()
        if found is not None:
            for kind in KINDS:
                for part in PARTS:
                    self._budgets.labels(kind, part).set(found.get((kind, part), 0))


async def look_forever(
    keys: KeyStore,
    tenants: TenantStore,
    agents: Mapping[str, Budgets],
    budgets: BudgetStore,
    tell: Callable[[Levels | None], None],
    clock: Clock,
) -> None:
    """`tell` gets each look; None while the ledger or Redis cannot be read. `agents`: the budgets of each."""

    def read() -> tuple[Counter, ...]:
        of_agents = {Scope("agent", name): each for name, each in agents.items()}
        return counters_of({**tenants.budgets(), **keys.budgets(), **of_agents}, clock.now())

    async def look() -> Levels:
        return await levels(await asyncio.to_thread(read), budgets)

    await looking.look_forever("how far budgets are used up", look, tell, clock, every_s=LOOK_EVERY_S)


def counters_of(scopes: Mapping[Scope, Budgets], now: float) -> tuple[Counter, ...]:
    """Those of `now` that are told of: not what renews each minute, nor how many run."""
    limits = (named.limit for scope, budgets in scopes.items() for named in limits_of(scope, budgets))
    return Plan(each for each in limits if is_told_of(each.unit, each.window)).at(now)


async def levels(counters: Sequence[Counter], budgets: BudgetStore) -> Levels:
    """A budget that Redis does not know has been spent nothing of. Raises QueueUnavailable."""
    found: Counts[tuple[str, str]] = Counts()
    for begin in range(0, len(counters), AT_ONCE):
        batch = counters[begin : begin + AT_ONCE]
        states = await budgets.state([each.name for each in batch])
        for counter, state in zip(batch, states, strict=True):
            kind, spent = counter.name.partition(":")[0], 0 if state is None else state.spent
            found[kind, part_used(spent, counter.limit)] += 1
    return found

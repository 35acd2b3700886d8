"""Which of the tasks that wait for a model is taken next. Pure; the time is handed in.

1. **Priority**: `interactive` before `normal` before `batch`. One that was passed over `MOST_PASSED` times goes first,
   so while something of `normal` waits, one of 10 takes in a row is of it, and of `batch` one of 11.
2. **Tenant**: within a priority, the one that has had the least service for its weight: the virtual token counter of
   Sheng et al., "Fairness in Serving Large Language Models", OSDI '24. Service is tokens: what a task may take at most
   when it is taken, corrected to what it took when it ends.
3. **Task**: within a tenant, the one that has waited longest.

`Order` is one model's. The queue in memory uses it; `queue/lua/order.lua` does the same arithmetic on Redis' sorted
sets, and a property test holds both to the same order. `docs/decisions/04-fair-order.md` says why.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from stoker.spec import Priority

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""The highest first."""

MOST_PASSED = 9
"""Takes of other priorities in a row, while something of a lower one waits, after which that one goes first."""

UNITS_PER_TOKEN = 1000
"""Counters are whole numbers, so that Lua and Python never differ; a weight divides a token into parts of this size."""

MOST_TOKENS = 2**31 - 1
"""Of one task: no request is let in with more."""

REMEMBERED_S = 3600.0
"""How long the counter of a tenant is kept that has nothing waiting."""

LOOKED_AT = 100
"""Tenants that `Order.ahead` looks at one by one."""


class Share(NamedTuple):
    """What of a waiting task decides about its turn. `tokens`: what it may take at most."""

    priority: Priority
    tenant: str
    weight: int
    tokens: int


def lower(one: Priority, other: Priority) -> Priority:
    return max(one, other, key=PRIORITIES.index)


def next_priority(waiting: Sequence[Priority], passed: Mapping[Priority, int]) -> Priority:
    """`waiting`: those of which something waits, highest first; not empty. `passed`: how often each was passed over."""
    overdue = (priority for priority in waiting if passed.get(priority, 0) >= MOST_PASSED)
    return next(overdue, waiting[0])


def passed_after(taken: Priority, waiting: Iterable[Priority], passed: Mapping[Priority, int]) -> dict[Priority, int]:
    """How often each was passed over, after one of `taken`; `waiting` as it is then. The highest is never overdue."""
    return {priority: passed.get(priority, 0) + 1 for priority in waiting if priority not in (taken, PRIORITIES[0])}


def next_tenant(counters: Mapping[str, int]) -> str:
    """The one with the least service for its weight; of equals, the first by name. Not empty."""
    return min(counters, key=lambda tenant: (counters[tenant], tenant))


def service(tokens: int, weight: int) -> int:
    """What so many tokens add to a tenant's counter."""
    return min(tokens, MOST_TOKENS) * UNITS_PER_TOKEN // weight


def lifted(own: int, counters: Mapping[str, int], floor: int) -> int:
    """The counter of a tenant that begins to wait, with `own` until then: nobody has credit for the time it was away.
    `counters` are those that wait; `floor` is what the last one that left had, for when nobody does."""
    return max(own, min(counters.values(), default=floor))


def smoothed_ms(before: int | None, run_ms: int) -> int:
    """How long a task runs, as far as is known after one that took `run_ms`."""
    return run_ms if before is None else (7 * before + run_ms) // 8


def wait_s(takes: int, run_ms: int | None, running: int) -> float | None:
    """How long so many takes last, if tasks run as long as the last ones did and as many at once as now. None: nothing
    has ended yet, so nobody knows."""
    return None if run_ms is None else math.ceil(takes * run_ms / max(1, running)) / 1000


class _Remembered(NamedTuple):
    counter: int
    until: float


@dataclass(slots=True)
class _Lane:
    """One priority. `waiting`: the tasks of each tenant that has any, the one that has waited longest first."""

    waiting: dict[str, dict[str, None]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    idle: dict[str, _Remembered] = field(default_factory=dict)
    floor: int = 0

    def add(self, task_id: str, tenant: str, now: float) -> None:
        if tenant not in self.waiting:
            self.counters[tenant] = lifted(self._remembered(tenant, now), self.counters, self.floor)
            self.idle.pop(tenant, None)
            self.waiting[tenant] = {}
        self.waiting[tenant][task_id] = None

    def remove(self, task_id: str, tenant: str, now: float) -> None:
        del self.waiting[tenant][task_id]
        if not self.waiting[tenant]:
            del self.waiting[tenant]
            self._forget(now)
            counter = self.counters.pop(tenant)
            self.idle[tenant] = _Remembered(counter, now + REMEMBERED_S)
            if not self.waiting:
                self.floor = counter

    def serve(self, tenant: str, amount: int, now: float) -> None:
        if tenant in self.counters:
            self.counters[tenant] += amount
        elif (idle := self.idle.get(tenant)) is not None and idle.until > now:
            self.idle[tenant] = idle._replace(counter=idle.counter + amount)

    def ahead(self, task_id: str, tenant: str) -> int:
        own = list(self.waiting[tenant]).index(task_id)
        ahead, is_before = own, True
        order = sorted(self.counters, key=lambda name: (self.counters[name], name))
        for name in order[:LOOKED_AT]:
            if name == tenant:
                is_before = False
            else:
                ahead += min(len(self.waiting[name]), own + is_before)
        ahead += max(0, len(order) - LOOKED_AT - is_before) * (own + 1)
        return min(ahead, self.count() - 1)

    def firsts(self, most: int) -> list[str]:
        """What has waited longest of each of so many tenants, by whose turn it is."""
        order = sorted(self.counters, key=lambda name: (self.counters[name], name))
        return [next(iter(self.waiting[tenant])) for tenant in order[:most]]

    def count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def _forget(self, now: float) -> None:
        """Those are in the order in which they left."""
        while self.idle:
            tenant = next(iter(self.idle))
            if self.idle[tenant].until > now:
                return
            del self.idle[tenant]

    def _remembered(self, tenant: str, now: float) -> int:
        idle = self.idle.get(tenant)
        return idle.counter if idle is not None and idle.until > now else 0


class Order:
    """The tasks that wait for one model, and whose turn it is."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, _Lane] = {priority: _Lane() for priority in PRIORITIES}
        self._shares: dict[str, Share] = {}
        self._passed: dict[Priority, int] = {}

    def __len__(self) -> int:
        return len(self._shares)

    def firsts(self, most: int) -> list[str]:
        """The task that has waited longest of each of the first `most` tenants of each priority."""
        return [task_id for lane in self._lanes.values() for task_id in lane.firsts(most)]

    def add(self, task_id: str, share: Share, now: float) -> None:
        """It begins to wait, behind those of its tenant that do."""
        self._shares[task_id] = share
        self._lanes[share.priority].add(task_id, share.tenant, now)

    def remove(self, task_id: str, now: float) -> Share:
        """It does not wait any more, and was not taken."""
        share = self._shares.pop(task_id)
        self._lanes[share.priority].remove(task_id, share.tenant, now)
        return share

    def next(self) -> str | None:
        """Whose turn it is."""
        waiting = self._waiting()
        if not waiting:
            return None
        lane = self._lanes[next_priority(waiting, self._passed)]
        return next(iter(lane.waiting[next_tenant(lane.counters)]))

    def take(self, task_id: str, now: float) -> int:
        """It is taken, and counts as what it may take at most: returns how much that is, for `correct`."""
        priority, tenant, weight, tokens = self._shares[task_id]
        lane = self._lanes[priority]
        self.remove(task_id, now)
        amount = service(tokens, weight)
        lane.serve(tenant, amount, now)
        self._passed = passed_after(priority, self._waiting(), self._passed)
        return amount

    def correct(self, share: Share, amount: int, tokens: int, now: float) -> None:
        """What counted as `amount` when it was taken has taken so many tokens."""
        self._lanes[share.priority].serve(share.tenant, service(tokens, share.weight) - amount, now)

    def counters(self, priority: Priority) -> Mapping[str, int]:
        """Those of the tenants that wait."""
        return self._lanes[priority].counters

    @property
    def tokens(self) -> int:
        """What all that wait may take at most."""
        return sum(share.tokens for share in self._shares.values())

    def of_tenant(self, tenant: str) -> int:
        """How many of its tasks wait."""
        return sum(len(lane.waiting.get(tenant, ())) for lane in self._lanes.values())

    def tenants(self, priority: Priority) -> int:
        return len(self._lanes[priority].waiting)

    def ahead(self, task_id: str) -> int:
        """How many are likely to be taken before it: all of higher priorities, those of its tenant that came before,
        and of each other tenant as many as of its own, as if weights and tasks were alike; of tenants beyond
        `LOOKED_AT` as if they had that many. Nothing is looked at task by task."""
        share = self._shares[task_id]
        higher = PRIORITIES[: PRIORITIES.index(share.priority)]
        before = sum(self._lanes[priority].count() for priority in higher)
        return before + self._lanes[share.priority].ahead(task_id, share.tenant)

    def _waiting(self) -> list[Priority]:
        return [priority for priority in PRIORITIES if self._lanes[priority].waiting]

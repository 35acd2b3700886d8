"""This process in the books of budgets: its name, its slices, its journal, and staying alive there.

One renewal each `RENEW_S` says that it lives, gives back what others want and what it does not use, and asks for more
before it is missing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError, Unavailable
from stoker.base.ids import new_id
from stoker.gateway import journal
from stoker.gateway.journal import Journal
from stoker.gateway.rebuild import Rebuild
from stoker.policy.budgets import Slices
from stoker.queue.budgets import BudgetStore, Gone, Leased, NotBegun, Settlement

_log = logs.get(__name__)

RENEW_S = 0.5
# An owner that did not renew for so long may be wound up by others, so by then it admits nothing more by itself.
OWNER_TTL_S = 60.0
# A tenant that is `closed` when Redis is away is refused once Redis was silent for so long.
CLOSED_AFTER_S = 5.0
# The first requests of a process wait so long for it to be in the books.
FIRST_S = 2.0


@dataclass(frozen=True, slots=True)
class Owner:
    name: str
    slices: Slices
    journal: Journal


class Life:
    """`journals` is the folder in which each owner of this machine has its journal."""

    def __init__(self, store: BudgetStore, rebuild: Rebuild, journals: Path, clock: Clock) -> None:
        self._store = store
        self._rebuild = rebuild
        self._journals = journals
        self.clock = clock
        self.owner = self._new_owner()
        # What has ended under an owner and is not in Redis yet; `Admission` knows.
        self.pending: Callable[[Owner], Sequence[Settlement]] = lambda _: ()
        self._heard_at = float("-inf")
        # Those that were taken for dead while they had requests in flight; their journals stay until the end.
        self._former: list[Owner] = []
        self._entering = asyncio.Lock()
        self._begun = asyncio.Event()
        # Who asks for more must not find it on its way back, or here already and not in the slices: one call at a time.
        self.leasing = asyncio.Lock()

    @property
    def silent_s(self) -> float:
        """Seconds since Redis last confirmed that this owner lives."""
        return self.clock.monotonic() - self._heard_at

    def _new_owner(self) -> Owner:
        name = new_id("gw")
        return Owner(name, Slices(), Journal(self._journals, name))

    async def begin(self) -> None:
        """Enter the books, and open them in a Redis that has none: before anything is spent, while it can still be seen
        whether this is the very first start. Raises QueueUnavailable, Unavailable."""
        await self.open_books()
        asked_at = self.clock.monotonic()
        await self._store.enter(self.owner.name, ttl_s=OWNER_TTL_S)
        self._heard_at = asked_at
        self._begun.set()

    async def has_begun(self) -> None:
        """Returns when this process is in the books for the first time, or after `FIRST_S` without that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await self._begun.wait()

    async def begin_when_possible(self) -> None:
        while self._heard_at == float("-inf"):
            try:
                await self.begin()
            except StokerError as error:
                _log.warning("budgets: cannot enter the books", error=error.in_log)
                await self.clock.sleep(RENEW_S)

    async def open_books(self) -> None:
        """For a Redis that has none: the first start of all, or one that has lost its data. In the latter case nothing
        is given out before those who live have said what they hold."""
        # An empty ledger alone does not say so: what runs in the first second of a platform is in journals only.
        runs_already = journal.others_have_lines(self._journals, besides=self.owner.name)
        is_first = await self._rebuild.is_first_start() and not runs_already
        await self._store.establish(wait_s=0.0 if is_first else OWNER_TTL_S)

    async def renew_forever(self) -> None:
        await self.begin_when_possible()
        while True:
            await self.clock.sleep(RENEW_S)
            try:
                await self.renew()
            except StokerError as error:
                _log.warning("budgets: cannot renew", error=error.in_log, silent_s=round(self.silent_s, 1))

    async def renew(self) -> None:
        """Raises QueueUnavailable."""
        owner, now = self.owner, self.clock.now()
        in_use = owner.slices.in_use()
        owner.slices.round(now)
        async with self.leasing:
            self._rebuild.forget(len(owner.slices), self._held)
            wanted = await self._renew_once(owner, now, ())
            if wanted:
                await self._renew_once(owner, now, wanted)
            refills = owner.slices.refills(now)
            if refills is not None and owner is self.owner:
                answer = await self._store.lease(owner.name, refills.asks)
                if isinstance(answer, Leased):
                    owner.slices.granted(refills, answer.granted)
        await self.look(owner, in_use)

    def _held(self) -> Iterator[str]:
        """The names of all counters that this process would have to state to a Redis that has lost its data."""
        for owner in (*self._former, self.owner):
            yield from owner.slices.names()
            for item in self.pending(owner):
                yield from (spent.counter for spent in item.spent)

    async def look(self, owner: Owner, counters: Sequence[str]) -> None:
        """See what is free of these, for those who ask what is left. Raises QueueUnavailable."""
        for counter, state in zip(counters, await self._store.state(counters), strict=True):
            if state is not None and state.limit is not None:
                owner.slices.saw_free(counter, state.limit - state.spent - state.leased - state.held)

    async def _renew_once(self, owner: Owner, now: float, wanted: Sequence[str]) -> Sequence[str]:
        asked_at = self.clock.monotonic()
        renewed = await self._store.renew(
            owner.name,
            ttl_s=OWNER_TTL_S,
            watermark=owner.slices.watermark,
            give_back=owner.slices.give_back(owner.slices.surplus(now, wanted)),
        )
        if renewed.state != "alive":
            await self.enter_again(owner, Gone(renewed.state))
            return ()
        self._heard_at = asked_at
        return renewed.wanted

    async def enter_again(self, owner: Owner, gone: Gone) -> None:
        """Redis does not have this owner among the living. Raises QueueUnavailable, Unavailable."""
        async with self._entering:
            if gone.state == "unknown":
                await self._state(owner)
            elif owner is self.owner:  # else another step has noticed it before
                _log.error("budgets: this process was taken for dead and goes on under a new name", owner=owner.name)
                self._former.append(owner)
                self.owner = self._new_owner()
                await self.begin()

    async def _state(self, owner: Owner) -> None:
        """Redis has lost its data: say what this owner holds, before anything is given out. What has ended and is in
        the ledger is in the sums that counters begin with, so it counts as settled; what is not is held still."""
        _log.warning("budgets: Redis has forgotten this process; it states what it holds", owner=owner.name)
        for _ in range(2):
            asked_at = self.clock.monotonic()
            known = await self._rebuild.in_ledger(self.pending(owner))
            pending = [item for item in self.pending(owner) if item.number not in known]
            answer = await self._store.enter(
                owner.name,
                ttl_s=OWNER_TTL_S,
                watermark=owner.slices.watermark,
                holding=owner.slices.holding([spent for item in pending for spent in item.spent]),
                settled=sorted(known),
            )
            if answer is None:
                if owner is self.owner:
                    self._heard_at = asked_at
                return
            if isinstance(answer, NotBegun):
                await self._rebuild.begin(self._store, answer.counters)
        raise Unavailable("budgets cannot be stated again", code="budgets_unavailable")

    async def leave(self) -> None:
        """A clean end, after the last settlement. What is in flight still stays set aside, for a successor to settle by
        the journal. Raises QueueUnavailable, upon which a successor does the rest."""
        for owner in (*self._former, self.owner):
            if not owner.journal.has_open:
                await self._store.leave(owner.name)
            owner.journal.close(remove=not owner.journal.has_open)

    def close(self) -> None:
        """An end that is not clean: the journals stay for a successor."""
        for owner in (*self._former, self.owner):
            owner.journal.close(remove=False)

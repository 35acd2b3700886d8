"""What a store of budgets promises: `BudgetStore`. One contract suite holds both implementations to it
(`RedisBudgets`, `MemoryBudgets`); `docs/budgets.md` has the picture and what each failure does.

For each counter, `spent + sum of slices + held by tasks <= limit` after every step, as long as nothing costs more than
was reserved for it. Every method raises QueueUnavailable when Redis does not answer; each says what is then to be done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from stoker.base.errors import Conflict
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Ask, Part, Spent, scope_names

# The same for both implementations.
WANTED_MS = 5_000  # how long others are asked to give back, unless somebody asks again
GIVE_BACK_MS = 1_000  # how long a task waits for what others give back: a little more than one of their renewals
LEAST_MS = 60_000  # a counter is kept for that long at least, so that beginning it is never in vain
REMEMBERED_MS = 86_400_000  # how long what a dead owner has settled is known, for calls that are made twice
UNTOUCHED_MS = 30 * 86_400_000  # after which a session's or run's total leaves Redis; the ledger still has it
OPENING_MS = 600_000  # how long a counter that was opened waits to be begun

OwnerState = Literal["alive", "gone", "unknown"]


class Settlement(NamedTuple):
    """What one reservation came to. `usage` is the record for the ledger as JSON (`UsageRecord.to_json`); None: it was
    refused before it ran, and leaves none. `scopes`: `scopes_of` the record."""

    number: int
    usage: str | None
    spent: Sequence[Spent]
    scopes: Sequence[str] = ()


def scopes_of(record: UsageRecord) -> tuple[str, ...]:
    """Those whose counters a record counts in. A step of a run is no request and costs nothing: none."""
    if record.kind == "step":
        return ()
    return scope_names(
        key=record.key_id,
        tenant=record.tenant,
        team=record.team,
        session=record.session,
        run=record.run,
        agent=record.agent,
    )


class Opening(NamedTuple):
    """A counter that is being begun: since when, and what had been settled of it when this was asked."""

    opened_at_ms: int
    late: int


class Hold(NamedTuple):
    """A reservation that a task takes over from an owner: what one attempt can cost at most, of each counter."""

    owner: str
    number: int
    parts: Sequence[Part]


class InFlightPart(NamedTuple):
    """One reservation that was in flight when its owner died, as the journal says."""

    number: int
    parts: Sequence[Part]


def hold_void(why: str) -> Conflict:
    """A task cannot take this reservation over."""
    return Conflict(
        f"the task's reservation is void: {why}", hint="reserve again, then submit it again", code="hold_void"
    )


@dataclass(frozen=True, slots=True)
class Leased:
    """Set aside for the owner, one amount for each ask, each at least its need."""

    granted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Short:
    """Nothing was granted. `free` is what nobody has of the counter that was short. `fits_later`: it would fit if
    others gave back what they hold, at most; they have been asked to, so try again after one renewal."""

    counter: str
    free: int
    fits_later: bool


@dataclass(frozen=True, slots=True)
class NotBegun:
    """Nothing happened: Redis does not know these counters. `begin` each with the ledger's sum, then ask again."""

    counters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotOpen:
    """Nothing was granted: Redis is new, or lost its data. `opens_in_s` None: call `establish`. A number: owners that
    live are stating what they hold, wait that long."""

    opens_in_s: float | None


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing happened: Redis does not have this owner among the living. `unknown`: never entered, or Redis lost its
    data: `enter` it (again), stating what it holds. `gone`: it was taken for dead, or left: nothing of its slices may
    be used any more; go on under a new name. What it had in flight is settled under the old name still."""

    state: OwnerState


@dataclass(frozen=True, slots=True)
class Renewed:
    """`wanted`: counters among those that this owner holds that others wait for: give back what is unused."""

    state: OwnerState
    wanted: tuple[str, ...]


class CounterState(NamedTuple):
    """`leased` is the sum of all slices, `held` what tasks hold. `limit` is the one last seen in a lease."""

    spent: int
    leased: int
    held: int
    limit: int | None


class Standing(NamedTuple):
    """How far a counter is used up. `limit` is the one last seen in a lease."""

    counter: str
    spent: int
    limit: int


class BudgetStore(Protocol):
    """Slices of counters for owners, and what was spent."""

    # --- a life -----------------------------------------------------------------------------------------------------

    async def establish(self, *, wait_s: float) -> None:
        """Open the books of a Redis that has none; nothing happens when it has. Nothing is leased for `wait_s` from
        now, so that every owner that lives states what it holds (`enter`), or stops by itself: at least the time after
        which an owner without Redis stops. 0 only when it is certain that no owner lives: at the very first start."""

    async def enter(
        self,
        owner: str,
        *,
        ttl_s: float,
        watermark: int = 1,
        holding: Sequence[Part] = (),
        settled: Sequence[int] = (),
    ) -> NotBegun | Gone | None:
        """The owner lives from now on, for `ttl_s`. None: it does. One that lives already is only renewed.

        `holding` and `watermark` (as in `renew`) are for an owner that Redis has forgotten with everything else: what
        it holds is set aside again, before anything is leased to others (see `establish`). `settled`: numbers not below
        the watermark whose usage the ledger has, so that a settlement that is made again counts once; `holding` is
        without them. A name that was taken for dead or has left is never used again (Gone).
        """

    async def renew(self, owner: str, *, ttl_s: float, watermark: int, give_back: Sequence[Part] = ()) -> Renewed:
        """The owner lives for `ttl_s` from now. `watermark`: all its reservations with lower numbers are settled; Redis
        forgets them. `give_back`: free again at once; hand each part in once, also after QueueUnavailable: the store
        sees to it that it happens, once, with a later renewal."""

    async def leave(self, owner: str) -> bool:
        """A clean end, after the last settlement: all its slices are free, the name is never used again. False: it had
        been taken for dead before."""

    # --- money ------------------------------------------------------------------------------------------------------

    async def lease(self, owner: str, asks: Sequence[Ask]) -> Leased | Short | NotBegun | NotOpen | Gone:
        """Set aside at least the need of every ask, or nothing of any. Beyond the need up to `want`, at most a quarter
        of what is then free, and nothing of what others wait for (`policy.budgets.share`). A counter stands in `asks`
        once. After QueueUnavailable nothing was granted: if Redis did it all the same, the next renewal takes it back.
        """

    async def open(self, counter: str) -> Opening | None:
        """The first step of beginning a counter from the ledger, before the ledger is asked: what is settled from now
        on, and may not be in the ledger's sum, is not lost. None: it is begun already. Nothing is leased of it yet. May
        be called by several, and again."""

    async def begin(
        self, counter: str, spent: int, *, expires_at: float | None, since: Opening | None = None
    ) -> int | None:
        """Set up a counter that Redis does not know with what the ledger says was spent, and what was settled `since`
        it was opened. Returns what now counts as spent: of several who begin the same, the first wins. None: Redis has
        lost what was opened (or it is `OPENING_MS` ago): open it again, then sum. Without `since` for a counter of
        which nothing can have been spent before."""

    async def settle(self, owner: str, items: Sequence[Settlement]) -> list[bool] | Gone:
        """Each item: `actual` is spent, what was reserved beyond it stays the owner's (or is free, of a dead owner),
        and the usage record goes to the ledger. Once for each (owner, number): False says that it was done before.
        `actual` above `reserved` is counted in full. Make the call again after QueueUnavailable. Gone(unknown): Redis
        has lost the owner, and nothing was settled: `enter` it with what it holds, then again.

        What the record came to is spent also of every other counter of its `scopes` that Redis has: one that was begun
        while the request ran, or whose limit was taken away for a time. Not of `concurrent` ones, and not where the
        item has an entry for the same unit and window, be it of another day: a request counts where it was reserved.
        """

    async def state(self, counters: Sequence[str]) -> list[CounterState | None]:
        """What is known of each; None: nothing."""

    async def standings(self, scopes: Sequence[str]) -> list[Standing]:
        """Of each counter of these scopes (`policy.budgets.scope_name`), of the newest window only: those of which
        something was leased, but for `concurrent` ones."""

    # --- the dead ---------------------------------------------------------------------------------------------------

    async def dead_owners(self) -> list[str]:
        """Owners that did not renew in time, or were taken over, and still hold something or were never forfeited."""

    async def take_over(self, owner: str, by: str, *, ttl_s: float, is_proved_dead: bool = False) -> list[Part] | None:
        """Become the one who winds up this owner, for `ttl_s`: what it holds. None: it lives, is not known, or another
        is at it. From then on it cannot renew or lease. `is_proved_dead`: do not wait for its time to be over (its
        journal's lock was free). May be called again by the same `by`."""

    async def forfeit(
        self, owner: str, by: str, open: Sequence[InFlightPart] | None, *, usage: Sequence[str] = ()
    ) -> bool:
        """Wind up the slices of a dead owner; `by` must have taken it over. Once; may be repeated.

        With the reservations that were in flight: everything else is free, and those stay set aside until each is
        settled under the dead owner's name. Those that are settled already do not matter. None (no journal): all that
        it held counts as spent for good, except slots of `concurrent` counters; `usage` are the records that say so.
        False: `by` does not have it (any more), and nothing happened.
        """

    async def aclose(self) -> None: ...

"""Hard budgets, the pure part: which counters a request falls under, and what a process may admit without asking.

A `Limit` holds for a scope (a key, a team, ...), in a unit, within a window. In one window it is one `Counter`, which
Redis keeps (`queue/budgets.py`). A process holds slices of counters (`Slices`) and admits against them in memory;
`docs/budgets.md` has the whole picture. Nothing here talks to anybody, and the time is handed in.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

from stoker.base.errors import InvalidInput

ScopeKind = Literal["key", "team", "tenant", "session", "run", "agent"]

# Amounts pass through Lua's numbers, which are doubles; sums of two of these are still exact.
MOST = 2**52


class Unit(StrEnum):
    """What is counted. The order is that of `Amounts`."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    NANO_USD = "nano_usd"
    CONCURRENT = "concurrent"  # requests at this moment: its true amount after the end is 0, so the slot comes back


class Window(StrEnum):
    """How long a counter counts before it begins anew. UTC's calendar."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"  # never anew


class Amounts(NamedTuple):
    """What one request costs, at most or in truth, in each unit. `concurrent` of what has ended is 0."""

    requests: int = 0
    tokens: int = 0
    nano_usd: int = 0
    concurrent: int = 0


_PLACE = {Unit.REQUESTS: 0, Unit.TOKENS: 1, Unit.NANO_USD: 2, Unit.CONCURRENT: 3}

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PAIR = re.compile(r"~?[A-Za-z0-9_.-]{1,64}/~?[A-Za-z0-9_.-]{1,64}")


class Scope(NamedTuple):
    """Whose spending. Teams, sessions and runs belong to a tenant: make their id with `inside`. Agents do not."""

    kind: ScopeKind
    id: str


def inside(tenant: str, id: str) -> str:
    """The id of something of a tenant, so that two tenants' sessions of one name are two."""
    return f"{_part(tenant)}/{_part(id)}"


@functools.lru_cache(maxsize=4096)
def scope_names(
    *,
    key: str,
    tenant: str,
    team: str | None = None,
    session: str | None = None,
    run: str | None = None,
    agent: str | None = None,
) -> tuple[str, ...]:
    """The scopes that a request falls under, as the names of their counters begin; from the key outwards. The run of an
    `agent` is one of a tree, so all runs of its path are there."""
    scopes = [Scope("key", key), Scope("tenant", tenant)]
    of_tenant: tuple[tuple[ScopeKind, str | None], ...] = (("team", team), ("session", session))
    scopes += [Scope(kind, inside(tenant, id)) for kind, id in of_tenant if id is not None]
    scopes += [Scope("run", inside(tenant, one)) for one in runs_counted(run, agent)]
    if agent is not None:
        scopes.append(Scope("agent", agent))
    return tuple(map(scope_name, scopes))


def runs_counted(run: str | None, agent: str | None) -> list[str]:
    """The runs for which a request of `run` counts, the outermost first: `a`, `a.1` and `a.1.2` for `a.1.2` of an
    agent. Who names a run by itself may have dots in its name: then it is that run alone."""
    if run is None:
        return []
    return [run] if agent is None else run_path(run)


def run_path(run: str) -> list[str]:
    """The path itself and all above it, the outermost first: `a.1.2` is below `a.1`, which is below `a`."""
    parts = run.split(".")
    return [".".join(parts[:many]) for many in range(1, len(parts) + 1)]


def names_below(run: str) -> tuple[str, str]:
    """The first name that a run below this one could have, and what comes after the last, in the order of bytes: a
    slash is next to a dot."""
    return run + ".", run + "/"


def scope_name(scope: Scope) -> str:
    """As the names of its counters begin."""
    kind, id = scope
    return f"{kind}:{id if _PLAIN.fullmatch(id) or _PAIR.fullmatch(id) else _digest(id)}"


def _part(text: str) -> str:
    """`text` where it is short and plain, else its digest: names of counters are bounded, and no two ids share one."""
    return text if _PLAIN.fullmatch(text) else _digest(text)


def _digest(text: str) -> str:
    return "~" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Limit(NamedTuple):
    """At most `amount` of `unit` for `scope` within each `window`."""

    scope: Scope
    unit: Unit
    window: Window
    amount: int


class Counter(NamedTuple):
    """One limit in one window. `name` is unique and bounded: `key:key_01:tokens:day:2026-11-23`. `renews_at` is when
    the next window begins (seconds since the epoch; None: never)."""

    name: str
    unit: Unit
    limit: int
    renews_at: float | None
    place: int  # of the unit, in `Amounts`

    @property
    def starts_at_zero(self) -> bool:
        """Nothing can have been spent in it before Redis knows it: no look into the ledger is needed."""
        return self.unit is Unit.CONCURRENT or ":minute:" in self.name


Need = tuple[Counter, int]


def returns_slots(counter_name: str) -> bool:
    """Whether the counter is one of what runs now, of which nothing is ever spent. The scripts read the name too."""
    return counter_name.split(":")[2] == Unit.CONCURRENT


def counters(limits: Iterable[Limit], now: float) -> tuple[Counter, ...]:
    """The counters that a request falls under at `now`. For more than one request, use a `Plan`."""
    return Plan(limits).at(now)


class Plan:
    """A caller's limits, with the names of their counters made once for each minute, day or month.

    Of two limits on the same scope, unit and window the lower one counts. Raises InvalidInput for an amount that no
    counter can hold. There is one for each caller in memory, so it keeps no more than the limits and the counters.
    """

    __slots__ = ("_counters", "_limits", "_until")

    def __init__(self, limits: Iterable[Limit]) -> None:
        lowest: dict[tuple[Scope, Unit, Window], Limit] = {}
        for limit in limits:
            scope, unit, window, amount = limit
            if not 0 <= amount <= MOST:
                raise InvalidInput(f"the limit {amount} of {scope.kind} {scope.id} must be from 0 to 2^52")
            known = lowest.get((scope, unit, window))
            if known is None or amount < known.amount:
                lowest[scope, unit, window] = limit
        self._limits = tuple(lowest.values())
        self._counters: tuple[Counter, ...] = ()
        self._until = float("-inf")

    def at(self, now: float) -> tuple[Counter, ...]:
        """The counters of `now`, in the order of the limits."""
        if not self._until - 60.0 <= now < self._until:
            calendar = _calendar(int(now // 60))
            self._until = calendar[Window.MINUTE][1] or 0.0
            before = self._counters or (None,) * len(self._limits)
            self._counters = tuple(
                _counter(limit, *calendar[limit.window], known)
                for limit, known in zip(self._limits, before, strict=True)
            )
        return self._counters

    def needs(self, now: float, amounts: Amounts) -> list[Need]:
        """What a request that costs at most `amounts` has to reserve. Nothing is reserved of what it does not use."""
        return [(counter, amount) for counter in self.at(now) if (amount := amounts[counter.place])]


def _counter(limit: Limit, begin: str, renews_at: float | None, known: Counter | None) -> Counter:
    """The limit's counter in a window. `known` is one of its counters: where its window is the same it stays the same
    object, which the slices and others have, too."""
    if known is not None and known.renews_at == renews_at:
        return known
    scope, unit, window, amount = limit
    return Counter(f"{scope_name(scope)}:{unit}:{window}{begin}", unit, amount, renews_at, _PLACE[unit])


@functools.lru_cache(maxsize=8)
def _calendar(minute: int) -> dict[Window, tuple[str, float | None]]:
    """For each window, how the name of its counters ends and when the next one begins. `minute`: since the epoch."""
    at = datetime.fromtimestamp(minute * 60, UTC)
    midnight = at.replace(hour=0, minute=0)
    next_month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return {
        Window.MINUTE: (f":{at:%Y-%m-%dT%H%M}", (minute + 1) * 60.0),
        Window.DAY: (f":{at:%Y-%m-%d}", (midnight + timedelta(days=1)).timestamp()),
        Window.MONTH: (f":{at:%Y-%m}", next_month.timestamp()),
        Window.TOTAL: ("", None),
    }


# --- how much to ask for --------------------------------------------------------------------------------------------

# How many rounds (renewals) of use one lease should last, so that admission rarely has to ask.
ROUNDS_AHEAD = 8
# Of what is free beyond the need, one lease takes at most one part in this: slices shrink as a budget ends.
SHARE = 4


def wanted(need: int, recent: int) -> int:
    """How much to ask for when `need` is missing and `recent` was used in one round lately."""
    return min(MOST, max(need, need + ROUNDS_AHEAD * recent) if recent else need * ROUNDS_AHEAD)


def share(free: int, need: int, want: int, *, is_wanted: bool) -> int | None:
    """How much is granted of `free`; None: not even the need. Nothing beyond the need of what others wait for.

    The same rule stands in `queue/lua/budget_lease.lua`.
    """
    if need > 0 and need > free:
        return None
    if is_wanted or want <= need or free <= need:
        return need
    return need + min(want - need, (free - need) // SHARE)


# --- asking and settling, in the words that the store takes ----------------------------------------------------------


class Ask(NamedTuple):
    """One counter in a call of `BudgetStore.lease`: grant at least `need`, at most `want`. `expires_at`: when Redis may
    forget the counter (None: never). `is_new`: if Redis does not know it, it begins at 0 without asking the ledger."""

    counter: str
    limit: int
    need: int
    want: int
    expires_at: float | None = None
    is_new: bool = False


class Part(NamedTuple):
    """An amount of one counter."""

    counter: str
    amount: int


class Spent(NamedTuple):
    """What was set aside of one counter for a request, and what it came to."""

    counter: str
    reserved: int
    actual: int


# Redis keeps a counter this long after its window, for what is settled late. Afterwards nobody asks for it any more.
KEPT_AFTER_S = 600.0


class _Slice:
    """What this process holds of one counter. `unused` + `reserved` (+ what is settled here and not yet in Redis) is
    what Redis has set aside for it."""

    __slots__ = ("counter", "free", "idle_rounds", "is_lowered", "recent", "reserved", "unused", "used")

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.unused = 0
        self.reserved = 0
        self.used = 0  # in this round
        self.recent = 0  # in a round lately
        self.idle_rounds = 0
        # The limit is lower than when this was set aside: nothing of it may be used before Redis has granted more.
        self.is_lowered = False
        self.free: int | None = None  # what nobody had of it when Redis was last asked


class Reservation:
    """Part of the slices of all counters of one request. `number` is its owner's and never used twice."""

    __slots__ = ("_taken", "is_open", "number")

    def __init__(self, number: int, taken: list[tuple[_Slice, int]]) -> None:
        self.number = number
        self.is_open = True
        self._taken = taken

    @property
    def parts(self) -> tuple[Part, ...]:
        """What it holds of each counter: for the journal, and for the hold of a task."""
        return tuple(Part(held.counter.name, amount) for held, amount in self._taken)


class Shortfall(NamedTuple):
    """Not admitted: the slices are too small. Hand `asks` to `BudgetStore.lease`, its answer to `Slices.granted`, and
    reserve again."""

    asks: tuple[Ask, ...]
    counters: tuple[Counter, ...]


# A counter that nobody used for this many rounds is given back: sessions come and go.
IDLE_ROUNDS = 20


class Slices:
    """What one process (one owner) holds of all counters. No method awaits, so each is one step."""

    def __init__(self) -> None:
        self._slices: dict[str, _Slice] = {}
        self._next = 1
        # Not confirmed by Redis yet, in order of their numbers.
        self._unconfirmed: dict[int, None] = {}

    # --- one request --------------------------------------------------------------------------------------------------

    def reserve(self, needs: Sequence[Need]) -> Reservation | Shortfall:
        """Take all that is needed, or nothing."""
        slices = self._slices
        taken: list[tuple[_Slice, int]] = []
        for counter, amount in needs:
            held = slices.get(counter.name)
            if held is None or held.unused < amount or counter.limit < held.counter.limit:
                return self._shortfall(needs)
            held.counter = counter  # with the limit of now, for what is leased ahead
            taken.append((held, amount))
        for held, amount in taken:
            held.unused -= amount
            held.reserved += amount
            held.used += amount
        number = self._next
        self._next = number + 1
        self._unconfirmed[number] = None
        return Reservation(number, taken)

    def settle(self, reservation: Reservation, actual: Amounts, *, frees_rest: bool = True) -> tuple[Spent, ...]:
        """What the request came to; the rest can be reserved again at once. Hand the answer to `BudgetStore.settle`,
        then call `confirmed`. The second time it is empty, and nothing happens.

        What can be reserved again must not be claimed by the journal any more: without `frees_rest` nobody uses it, and
        it comes back when this owner's slices are wound up."""
        if not reservation.is_open:
            return ()
        reservation.is_open = False
        spent = []
        for held, amount in reservation._taken:
            cost = min(actual[held.counter.place], MOST)
            held.reserved -= amount
            if cost < amount and frees_rest:
                held.unused += amount - cost
            spent.append(Spent(held.counter.name, amount, cost))
        return tuple(spent)

    def release(self, reservation: Reservation) -> None:
        """It was never sent to an engine: everything comes back, and Redis need not be told."""
        if reservation.is_open:
            self.settle(reservation, Amounts())
            self.confirmed([reservation.number])

    def hand_over(self, reservation: Reservation) -> None:
        """It is not this process' any more: `Queue.submit` with a hold has returned, or nobody knows whether it did."""
        if reservation.is_open:
            reservation.is_open = False
            for held, amount in reservation._taken:
                held.reserved -= amount
            self.confirmed([reservation.number])

    def confirmed(self, numbers: Iterable[int]) -> None:
        """Redis has these settlements."""
        for number in numbers:
            self._unconfirmed.pop(number, None)

    # --- between this process and Redis -----------------------------------------------------------------------------

    @property
    def watermark(self) -> int:
        """Every reservation with a lower number is settled and confirmed."""
        return next(iter(self._unconfirmed), self._next)

    def granted(self, shortfall: Shortfall, amounts: Sequence[int]) -> None:
        """Redis has set these aside, one for each ask."""
        for counter, amount in zip(shortfall.counters, amounts, strict=True):
            held = self._slices.get(counter.name)
            if held is None:
                held = self._slices[counter.name] = _Slice(counter)
            held.counter = counter  # with the limit of now
            held.is_lowered = False
            held.unused += amount
            held.idle_rounds = 0

    def know(self, counters: Iterable[Counter]) -> None:
        """Nothing was granted of these; what is free of them can be remembered all the same."""
        for counter in counters:
            if counter.name not in self._slices:
                self._slices[counter.name] = _Slice(counter)

    def surplus(self, now: float, wanted: Iterable[str] = ()) -> list[Part]:
        """What could be given back: all that is unused of counters that others wait for, whose window is over, whose
        limit was lowered, or that nobody used for `IDLE_ROUNDS`."""
        asked_for = set(wanted)
        return [
            Part(name, held.unused)
            for name, held in self._slices.items()
            if held.unused
            and (name in asked_for or held.idle_rounds >= IDLE_ROUNDS or held.is_lowered or _is_over(held.counter, now))
        ]

    def give_back(self, parts: Iterable[Part]) -> list[Part]:
        """Take them out of the slices, as far as they are still unused; hand the answer to `BudgetStore.renew`, once.
        From now on they are not this process' any more, whatever becomes of that call."""
        given = []
        for name, amount in parts:
            held = self._slices.get(name)
            amount = 0 if held is None else min(amount, held.unused)
            if held is not None and amount > 0:
                held.unused -= amount
                given.append(Part(name, amount))
        return given

    def round(self, now: float) -> None:
        """Once for each renewal: remember how much is used, and forget counters that are empty and idle or over."""
        forgotten = []
        for name, held in self._slices.items():
            held.idle_rounds = 0 if held.used else held.idle_rounds + 1
            held.recent = (held.recent + held.used + (held.used > 0)) // 2
            held.used = 0
            is_empty = not held.unused and not held.reserved
            if is_empty and (held.idle_rounds >= IDLE_ROUNDS or _is_over(held.counter, now)):
                forgotten.append(name)
        for name in forgotten:
            del self._slices[name]

    def refills(self, now: float) -> Shortfall | None:
        """What will be missing within two rounds at the pace of late, to be leased before somebody waits for it. The
        needs are 0, so that it is granted as far as it goes."""
        low = [
            held
            for held in self._slices.values()
            if held.unused < 2 * held.recent
            and not held.idle_rounds
            and not held.is_lowered
            and not _is_over(held.counter, now)
        ]
        if not low:
            return None
        asks = tuple(_ask(held.counter, 0, ROUNDS_AHEAD * held.recent - held.unused) for held in low)
        return Shortfall(asks, tuple(held.counter for held in low))

    def holding(self, pending: Iterable[Spent] = ()) -> list[Part]:
        """All that this process holds, for a Redis that has forgotten it. `pending`: settled here, not confirmed."""
        held = {name: each.unused + each.reserved for name, each in self._slices.items()}
        for name, reserved, actual in pending:
            held[name] = held.get(name, 0) + min(reserved, actual)
        return [Part(name, amount) for name, amount in held.items() if amount]

    def saw_free(self, name: str, free: int) -> None:
        """Nobody has so much of this counter now; Redis says so."""
        held = self._slices.get(name)
        if held is not None:
            held.free = max(0, free)

    def left(self, name: str) -> int | None:
        """What can still be reserved of this counter, as far as this process knows: what it holds itself, and what was
        free when Redis was last asked. None: it has not asked."""
        held = self._slices.get(name)
        return None if held is None or held.free is None else held.unused + held.free

    def in_use(self) -> list[str]:
        """Counters of which something was reserved in this round."""
        return [name for name, held in self._slices.items() if held.used]

    def unused(self, name: str) -> int:
        """Of this counter, what can be reserved without asking."""
        held = self._slices.get(name)
        return 0 if held is None else held.unused

    def is_lowered(self, name: str) -> bool:
        """Whether the next renewal gives back what is unused of this counter, since its limit was lowered."""
        held = self._slices.get(name)
        return held is not None and held.is_lowered

    def names(self) -> Iterable[str]:
        """Of all counters that this process has to do with."""
        return self._slices.keys()

    def __len__(self) -> int:
        return len(self._slices)

    def _shortfall(self, needs: Sequence[Need]) -> Shortfall:
        asks, short = [], []
        for counter, amount in needs:
            held = self._slices.get(counter.name)
            if held is not None and counter.limit < held.counter.limit:
                held.is_lowered = True
            missing = amount if held is None or held.is_lowered else amount - held.unused
            if missing > 0:
                asks.append(_ask(counter, missing, wanted(missing, 0 if held is None else held.recent)))
                short.append(counter)
        return Shortfall(tuple(asks), tuple(short))


def _ask(counter: Counter, need: int, want: int) -> Ask:
    expires_at = None if counter.renews_at is None else counter.renews_at + KEPT_AFTER_S
    return Ask(counter.name, counter.limit, need, want, expires_at, counter.starts_at_zero)


def _is_over(counter: Counter, now: float) -> bool:
    return counter.renews_at is not None and counter.renews_at <= now

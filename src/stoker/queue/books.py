"""The books of budgets in memory: what `lua/money.lua` and `lua/budget_*.lua` do, as plain synchronous steps.

`MemoryBudgets` and `MemoryQueue` share one object, as `RedisBudgets` and `RedisQueue` share one Redis. The model
checker copies it. Times are seconds, and handed in.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stoker.policy.budgets import MOST, Ask, Part, Unit, returns_slots, share
from stoker.queue.budgets import (
    LEAST_MS,
    OPENING_MS,
    REMEMBERED_MS,
    UNTOUCHED_MS,
    WANTED_MS,
    CounterState,
    Gone,
    Hold,
    InFlightPart,
    Leased,
    NotBegun,
    NotOpen,
    Opening,
    OwnerState,
    Renewed,
    Settlement,
    Short,
    Standing,
)

Fate = Literal["taken", "journal", "lost", "left"]


class Unpaid(NamedTuple):
    """Another attempt of a task does not fit: `counter` has too little left. `wanted`: the counters of which others
    would have to give back so that it does; empty: it does not, whatever they give back."""

    counter: str
    wanted: tuple[str, ...] = ()


@dataclass(slots=True)
class Sums:
    """One counter. `spent` + `leased` + `held` <= `limit`."""

    spent: int = 0
    leased: int = 0
    held: int = 0
    limit: int | None = None
    expires_at: float | None = None


@dataclass(slots=True)
class Opened:
    """A counter that is being begun. `late`: what was settled of it since."""

    at_ms: int
    late: int
    expires_at: float


@dataclass(slots=True)
class Owner:
    ends_at: float = 0.0
    watermark: int = 1
    fate: Fate | None = None
    by: str = ""
    by_until: float = 0.0
    is_closed: bool = False
    slices: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    settled: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)

    @property
    def state(self) -> OwnerState:
        return "alive" if self.fate is None else "gone"

    def has_settled(self, number: int) -> bool:
        return number < self.watermark or number in self.settled


@dataclass(slots=True)
class Books:
    """All that Redis knows of budgets. `newest`: for each scope, how its counters' names end, by what comes before (as
    `keys.SCOPE_PREFIX` says)."""

    counters: dict[str, Sums] = field(default_factory=dict)
    opened: dict[str, Opened] = field(default_factory=dict)
    newest: dict[str, dict[str, str]] = field(default_factory=dict)
    appended: dict[str, float] = field(default_factory=dict)  # ids of records, with when they are forgotten
    owners: dict[str, Owner] = field(default_factory=dict)
    wanted: dict[str, float] = field(default_factory=dict)
    opens_at: float | None = None

    # --- a life -----------------------------------------------------------------------------------------------------

    def establish(self, now: float, wait_s: float) -> None:
        if self.opens_at is None:
            self.opens_at = now + wait_s

    def enter(
        self,
        now: float,
        owner: str,
        ttl_s: float,
        watermark: int,
        holding: Sequence[Part],
        settled: Sequence[int] = (),
    ) -> NotBegun | Gone | None:
        found = self.owners.get(owner)
        if found is not None and found.state == "gone":
            return Gone("gone")
        if found is None:
            missing = tuple(part.counter for part in holding if self._sums(now, part.counter) is None)
            if missing:
                return NotBegun(missing)
            found = self.owners[owner] = Owner(watermark=watermark, settled=set(settled))
            for counter, amount in holding:
                self._set_aside(now, found, counter, amount)
        found.ends_at = now + ttl_s
        return None

    def renew(self, now: float, owner: str, ttl_s: float, watermark: int, give_back: Sequence[Part]) -> Renewed:
        found = self.owners.get(owner)
        if found is None:
            return Renewed("unknown", ())
        if found.state == "gone":
            return Renewed("gone", ())
        found.ends_at = now + ttl_s
        if watermark > found.watermark:
            found.watermark = watermark
            found.settled = {number for number in found.settled if number >= watermark}
        for counter, amount in give_back:
            self._set_aside(now, found, counter, -amount)
        self.wanted = {counter: until for counter, until in self.wanted.items() if until > now}
        ordered = sorted(self.wanted, key=lambda counter: (self.wanted[counter], counter))
        return Renewed("alive", tuple(counter for counter in ordered if counter in found.slices))

    def leave(self, owner: str, now: float) -> bool:
        found = self.owners.get(owner)
        if found is None:
            return True
        if found.fate is None:
            found.fate = "left"
            self._close(now, found)
        return found.fate == "left"

    # --- money ------------------------------------------------------------------------------------------------------

    def lease(self, now: float, owner: str, asks: Sequence[Ask]) -> Leased | Short | NotBegun | NotOpen | Gone:
        found = self.owners.get(owner)
        if found is None or found.state == "gone":
            return Gone("unknown" if found is None else "gone")
        if self.opens_at is None or now < self.opens_at:
            return NotOpen(None if self.opens_at is None else self.opens_at - now)
        missing = [ask.counter for ask in asks if not self._is_begun(now, ask)]
        if missing:
            return NotBegun(tuple(missing))
        frees, short = [], None
        for ask in asks:
            sums = self.counters[ask.counter]
            sums.limit = ask.limit
            if ask.expires_at is not None and sums.expires_at is not None:
                sums.expires_at = max(sums.expires_at, ask.expires_at)
            free = ask.limit - sums.spent - sums.leased - sums.held
            frees.append(free)
            if ask.need > 0 and ask.need > free:
                fits_later = ask.need <= ask.limit - sums.spent - sums.held - found.slices.get(ask.counter, 0)
                if fits_later:
                    self.wanted[ask.counter] = now + WANTED_MS / 1000
                if short is None or (short.fits_later and not fits_later):
                    short = Short(ask.counter, free, fits_later)
        if short is not None:
            return short
        granted = []
        for ask, free in zip(asks, frees, strict=True):
            is_wanted = self.wanted.get(ask.counter, now) > now
            amount = share(free, ask.need, ask.want, is_wanted=is_wanted) or 0
            self._set_aside(now, found, ask.counter, amount)
            granted.append(amount)
        return Leased(tuple(granted))

    def open(self, now: float, counter: str) -> Opening | None:
        if self._sums(now, counter) is not None:
            return None
        opened = self._opened(now, counter)
        if opened is None:
            opened = self.opened[counter] = Opened(int(now * 1000), 0, 0.0)
        opened.expires_at = now + OPENING_MS / 1000
        self._enlist(counter)
        return Opening(opened.at_ms, opened.late)

    def begin(
        self, now: float, counter: str, spent: int, expires_at: float | None, since: Opening | None = None
    ) -> int | None:
        sums = self._sums(now, counter)
        if sums is None:
            opened = self._opened(now, counter)
            if since is not None and (opened is None or opened.at_ms != since.opened_at_ms):
                return None
            late = (0 if opened is None else opened.late) - (0 if since is None else since.late)
            sums = self.counters[counter] = Sums(spent=spent + late)
            self.opened.pop(counter, None)
            if expires_at is None:
                _keep_while_used(now, counter, sums)
            else:
                sums.expires_at = max(expires_at, now + LEAST_MS / 1000)
            self._enlist(counter)
        return sums.spent

    def _enlist(self, counter: str) -> None:
        """Let settlements find the counter by its scope. Of several windows the newest counts."""
        kind, id, unit, window, *ending = counter.split(":")
        if unit != Unit.CONCURRENT:
            fields = self.newest.setdefault(f"{kind}:{id}", {})
            fields[f"{unit}:{window}"] = max(fields.get(f"{unit}:{window}", ""), ":".join(ending))

    def settle(
        self, now: float, owner: str, items: Sequence[Settlement], append_usage: Callable[[str], None]
    ) -> list[bool] | Gone:
        found = self.owners.get(owner)
        if found is None:
            return Gone("unknown")
        done = []
        for item in items:
            done.append(not found.has_settled(item.number))
            if done[-1]:
                self._settle_one(now, found, item)
                if item.usage is not None:
                    self.count_late(now, item.scopes, [spent.counter for spent in item.spent], item.usage)
                    append_usage(item.usage)
        if found.fate == "journal" and not found.open:
            self._close(now, found)
        return done

    def _settle_one(self, now: float, owner: Owner, item: Settlement) -> None:
        owner.settled.add(item.number)
        for counter, reserved, actual in item.spent:
            if owner.fate == "lost":  # what was reserved counts as spent already
                self._add(now, counter, spent=max(0, actual - reserved))
                continue
            taken = min(reserved, actual)
            if owner.fate == "journal":
                taken = reserved if item.number in owner.open else 0
            self._set_aside(now, owner, counter, -taken)
            self._add(now, counter, spent=actual)
        owner.open.discard(item.number)

    # --- what is spent without having been reserved -----------------------------------------------------------------

    def count_late(self, now: float, scopes: Sequence[str], entries: Sequence[str], usage: str) -> None:
        """Add what a record came to, to those counters of its scopes that it has no entry for."""
        late = self._without_entry(scopes, entries)
        if late:
            tokens = number_in(usage, "prompt_tokens") + number_in(usage, "completion_tokens")
            self._count_late(now, late, tokens, number_in(usage, "nano_usd"))

    def _without_entry(self, scopes: Sequence[str], entries: Sequence[str]) -> list[str]:
        has = {tuple(entry.split(":")[:4]) for entry in entries}
        return [
            f"{scope}:{name}" + (f":{ending}" if ending else "")
            for scope in scopes
            for name, ending in self.newest.get(scope, {}).items()
            if (*scope.split(":"), *name.split(":")) not in has
        ]

    def _count_late(self, now: float, late: Sequence[str], tokens: int, nano_usd: int) -> None:
        for counter in late:
            self._add(now, counter, spent=cost_in(counter, tokens, nano_usd))
            sums = self._sums(now, counter)
            if sums is not None and sums.leased > 0 and sums.spent + sums.leased + sums.held > (sums.limit or 0):
                self.wanted[counter] = now + WANTED_MS / 1000  # owners have set aside what is spent now
            elif sums is None and self._opened(now, counter) is None:
                scope, name = _halves(counter)
                del self.newest[scope][name]

    def is_first_time(self, now: float, record_id: str) -> bool:
        """Whether this record was not appended before, within a day."""
        if self.appended.get(record_id, now) > now:
            return False
        self.appended[record_id] = now + REMEMBERED_MS / 1000
        return True

    def state(self, now: float, counters: Sequence[str]) -> list[CounterState | None]:
        found = [self._sums(now, counter) for counter in counters]
        return [
            None if each is None else CounterState(each.spent, each.leased, each.held, each.limit) for each in found
        ]

    def standings(self, now: float, scopes: Sequence[str]) -> list[Standing]:
        found = [(counter, self._sums(now, counter)) for counter in self._without_entry(scopes, ())]
        return [
            Standing(counter, sums.spent, sums.limit)
            for counter, sums in found
            if sums is not None and sums.limit is not None
        ]

    # --- the dead ---------------------------------------------------------------------------------------------------

    def dead_owners(self, now: float) -> list[str]:
        dead = [
            (0.0 if found.fate else found.ends_at, name)
            for name, found in self.owners.items()
            if not found.is_closed and (found.fate is not None or found.ends_at <= now)
        ]
        return [name for _, name in sorted(dead)]

    def take_over(self, now: float, owner: str, by: str, ttl_s: float, *, is_proved_dead: bool) -> list[Part] | None:
        found = self.owners.get(owner)
        if found is None or found.is_closed or (found.by and found.by != by and found.by_until > now):
            return None
        if found.fate is None and found.ends_at > now and not is_proved_dead:
            return None
        found.fate = found.fate or "taken"
        found.by, found.by_until = by, now + ttl_s
        return [Part(counter, amount) for counter, amount in found.slices.items()]

    def forfeit(
        self,
        now: float,
        owner: str,
        by: str,
        open: Sequence[InFlightPart] | None,
        usage: Sequence[str],
        append_usage: Callable[[str], None],
    ) -> bool:
        found = self.owners.get(owner)
        if found is None or found.by != by or found.by_until <= now:
            return False
        if found.fate != "taken":
            return True  # done before
        if open is None:
            for counter, amount in found.slices.items():
                if not returns_slots(counter):
                    self._add(now, counter, spent=amount)
        else:
            self._keep_only(now, found, open)
        found.fate = "lost" if open is None else "journal"
        for record in usage:
            append_usage(record)
        if not found.open:
            self._close(now, found)
        return True

    def _keep_only(self, now: float, owner: Owner, open: Sequence[InFlightPart]) -> None:
        keep = dict.fromkeys(owner.slices, 0)
        for number, parts in open:
            if not owner.has_settled(number):
                owner.open.add(number)
                for counter, amount in parts:
                    keep[counter] = keep.get(counter, 0) + amount
        for counter, amount in keep.items():
            self._set_aside(now, owner, counter, amount - owner.slices.get(counter, 0))

    # --- what tasks hold --------------------------------------------------------------------------------------------

    def take_hold(self, now: float, hold: Hold) -> str | None:
        """A task takes a reservation over. None: done. Else why it cannot be, in the words of the Lua."""
        found = self.owners.get(hold.owner)
        if found is None or found.state == "gone":
            return f"its owner is {'unknown' if found is None else found.fate}"
        if found.has_settled(hold.number):
            return "it was settled before"
        for counter, amount in hold.parts:
            if found.slices.get(counter, 0) < amount:
                return f"its owner does not hold that much of {counter}"
        for counter, amount in hold.parts:
            self._set_aside(now, found, counter, -amount)
            self._add(now, counter, held=amount)
        found.settled.add(hold.number)
        return None

    def free_hold(self, now: float, hold: Hold) -> None:
        """The task was there before, so this reservation is not needed. Its owner hands it over either way."""
        found = self.owners.get(hold.owner)
        if found is None or found.state == "gone" or found.has_settled(hold.number):
            return
        for counter, amount in hold.parts:
            self._set_aside(now, found, counter, -amount)
        found.settled.add(hold.number)

    def settle_hold(
        self, now: float, held: Sequence[Part], tokens: int, nano_usd: int, scopes: Sequence[str] = ()
    ) -> None:
        """The end of a task that held this and used that, which is spent of other counters of its scopes too."""
        for counter, amount in held:
            self._add(now, counter, held=-amount, spent=cost_in(counter, tokens, nano_usd))
        self._count_late(now, self._without_entry(scopes, [part.counter for part in held]), tokens, nano_usd)

    def hold_for_another(
        self, now: float, one: Sequence[Part], held: Sequence[Part], tokens: int, nano_usd: int
    ) -> tuple[Part, ...] | Unpaid:
        """What a task holds so that another whole attempt (`one`) fits beside what was used; or why it cannot, and then
        nothing has changed."""
        more, wanted = [], []
        for (counter, attempt), (_, has) in zip(one, held, strict=True):
            used = 0 if unit_of(counter) == Unit.REQUESTS else cost_in(counter, tokens, nano_usd)
            missing, sums = used + attempt - has, self._sums(now, counter)
            if missing > 0 and sums is not None:
                room = (sums.limit or 0) - sums.spent - sums.held
                if missing > room:
                    return Unpaid(counter)
                if missing > room - sums.leased:
                    wanted.append(counter)
                more.append(missing)
            else:
                more.append(0)
        if wanted:
            return Unpaid(wanted[0], tuple(wanted))
        for (counter, _), amount in zip(held, more, strict=True):
            self._add(now, counter, held=amount)
        return tuple(Part(counter, has + amount) for (counter, has), amount in zip(held, more, strict=True))

    def want(self, now: float, counters: Sequence[str]) -> None:
        """Ask the owners of these to give back what is unused."""
        for counter in counters:
            self.wanted[counter] = now + WANTED_MS / 1000

    # --- steps ------------------------------------------------------------------------------------------------------

    def _sums(self, now: float, counter: str) -> Sums | None:
        sums = self.counters.get(counter)
        if sums is not None and sums.expires_at is not None and sums.expires_at <= now:
            del self.counters[counter]
            return None
        return sums

    def _opened(self, now: float, counter: str) -> Opened | None:
        opened = self.opened.get(counter)
        if opened is not None and opened.expires_at <= now:
            del self.opened[counter]
            return None
        return opened

    def _is_begun(self, now: float, ask: Ask) -> bool:
        if self._sums(now, ask.counter) is None and ask.is_new:
            self.begin(now, ask.counter, 0, ask.expires_at)
        return ask.counter in self.counters

    def _add(self, now: float, counter: str, *, spent: int = 0, leased: int = 0, held: int = 0) -> None:
        sums = self._sums(now, counter)
        if sums is not None and (spent or leased or held):
            sums.spent += spent
            sums.leased += leased
            sums.held += held
            _keep_while_used(now, counter, sums)
        elif sums is None and (opened := self._opened(now, counter)) is not None:
            opened.late += spent  # it may not be in the ledger's sum

    def _set_aside(self, now: float, owner: Owner, counter: str, amount: int) -> None:
        amount = max(amount, -owner.slices.get(counter, 0))
        if amount:
            owner.slices[counter] += amount
            if not owner.slices[counter]:
                del owner.slices[counter]
            self._add(now, counter, leased=amount)

    def _close(self, now: float, owner: Owner) -> None:
        for counter, amount in list(owner.slices.items()):
            self._set_aside(now, owner, counter, -amount)
        owner.open.clear()
        owner.is_closed = True


def unit_of(counter: str) -> str:
    """Names of counters are `<kind>:<id>:<unit>:<window>[:<begin>]`, and ids hold no colon."""
    return counter.split(":")[2]


def _halves(counter: str) -> tuple[str, str]:
    """Scope, and unit with window."""
    kind, id, unit, window = counter.split(":")[:4]
    return f"{kind}:{id}", f"{unit}:{window}"


def number_in(usage: str, name: str) -> int:
    """A number of a usage record in JSON. Inside a string of it every quote has a backslash before it."""
    found = re.search(rf'"{name}":(\d+)', usage)
    return 0 if found is None else min(MOST, int(found[1]))


def cost_in(counter: str, tokens: int, nano_usd: int) -> int:
    """What a task that used this much costs of a counter. A request is one, however often it is tried."""
    costs = {Unit.TOKENS: tokens, Unit.NANO_USD: nano_usd, Unit.REQUESTS: 1}
    return min(MOST, costs.get(Unit(unit_of(counter)), 0))


def _keep_while_used(now: float, counter: str, sums: Sums) -> None:
    if counter.endswith(":total") and counter.startswith(("session:", "run:")):
        sums.expires_at = now + UNTOUCHED_MS / 1000

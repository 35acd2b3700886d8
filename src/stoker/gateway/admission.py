"""Hard budgets in this process: reserve before a request runs, settle after it.

The arithmetic is `policy.budgets.Slices`, the books are `queue.budgets.BudgetStore`; here are the steps between them.
On the usual path `admit` waits for nobody: what a request needs is in the slices. How this process stays in the books
is in `owner.py`.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stoker.base import logs
from stoker.base.errors import BudgetExhausted, QueueUnavailable, Refused, StokerError, Unavailable
from stoker.gateway.bounds import Bound, Quote
from stoker.gateway.limits import Terms, over_budget
from stoker.gateway.measures import Measures
from stoker.gateway.owner import CLOSED_AFTER_S, OWNER_TTL_S, RENEW_S, Life, Owner
from stoker.gateway.rebuild import Rebuild
from stoker.gateway.receipts import money
from stoker.meter import UsageRecord
from stoker.policy.budgets import Amounts, Counter, Need, Reservation, Shortfall, Spent, Unit
from stoker.queue.budgets import BudgetStore, Gone, Hold, Leased, NotBegun, NotOpen, Settlement, Short, scopes_of

_log = logs.get(__name__)

# Each answer but a grant changes something first, so a request does not ask more often than this.
TRIES = 12
# Settlements in one call to Redis: some ten milliseconds of its time.
MOST_AT_ONCE = 500
# Settlements that nobody waits for are gathered for so long: a call to Redis for each would cost more than its request.
GATHER_S = 0.05


@dataclass(slots=True)
class Permit:
    """A request that was let in, until it is settled, released or handed over to a task. `quote` is what it was let in
    with: shorter answers than it asked for, perhaps."""

    owner: Owner
    reservation: Reservation
    terms: Terms
    quote: Quote
    bound: Bound
    shared: Mapping[str, object]
    """What the journal writes once for all requests of this caller in this minute."""
    is_sent: bool = False

    @property
    def is_open(self) -> bool:
        return self.reservation.is_open


@dataclass(slots=True)
class _Waiting:
    owner: Owner
    item: Settlement
    done: "asyncio.Future[None] | None"
    """Of one that somebody waits for."""


class Admission:
    def __init__(self, store: BudgetStore, life: Life, rebuild: Rebuild, measures: Measures) -> None:
        self._store = store
        self._life = life
        self._clock = life.clock
        self._rebuild = rebuild
        self._measures = measures
        self._unsettled: list[_Waiting] = []
        self._news = asyncio.Event()
        self.refused: Callable[[Terms, Counter], None] | None = None
        """Told of each request that is refused because a budget of its caller has too little left."""
        life.pending = self.pending

    # --- one request ------------------------------------------------------------------------------------------------

    async def admit(self, terms: Terms, quote: Quote) -> Permit:
        """Reserve the most that it could cost, of every budget that it falls under, or nothing. Answers whose length is
        not the client's own wish are shortened to what is left.

        Raises InvalidInput (more than one request may take, or than the whole of a budget), Refused and BudgetExhausted
        (a budget says no), Unavailable (Redis is away, and the tenant is closed then, or nothing is left of what was
        set aside).
        """
        quote, bound = terms.fitting(quote)
        now = self._clock.now()
        needs = terms.plan.needs(now, bound.amounts)
        if needs:
            if math.isinf(self._life.silent_s):
                await self._life.has_begun()
            self._check_alive(terms)
        owner = self._life.owner
        reserved = owner.slices.reserve(needs)
        if isinstance(reserved, Shortfall):
            permit = await self._lease_and_reserve(terms, quote)
        else:
            permit = Permit(owner, reserved, terms, quote, bound, terms.shared(now))
        self._measures.set_aside(permit.bound.amounts)
        return permit

    def sent(
        self, permit: Permit, *, request_id: str, model: str, route: str, replica_id: str, replica_url: str
    ) -> None:
        """Call it right before the request goes to an engine: from then on it may have cost something. Raises
        Unavailable, upon which it must not go out."""
        now = self._clock.now()
        try:
            permit.owner.journal.sent(
                permit.reservation.number,
                permit.shared,
                request_id=request_id,
                bound=permit.bound,
                model=model,
                route=route,
                replica_id=replica_id,
                replica_url=replica_url,
                now=now,
            )
        except OSError as exc:
            raise Unavailable(
                f"the gateway cannot write its journal ({exc.strerror}), so nothing may be spent",
                code="budgets_unavailable",
            ) from exc
        permit.is_sent = True

    async def settle(self, permit: Permit, record: UsageRecord) -> None:
        """What it came to. When it returns it is in the journal, which outlives this process, and on its way to Redis;
        or in Redis, where the journal does not have it. A second call does nothing.
        """
        waiting = self.settle_now(permit, record)
        if waiting is not None:
            await waiting

    def settle_now(self, permit: Permit, record: UsageRecord) -> "asyncio.Future[None] | None":
        """The same; what to wait for, if anything."""
        if not permit.is_open:
            return None
        actual = Amounts(1, record.prompt_tokens + record.completion_tokens, record.nano_usd, 0)
        number, usage = permit.reservation.number, record.to_json()
        # In this order: once the rest can be reserved again, the journal must not claim it for this request any more.
        is_written = permit.owner.journal.ended(number, usage)
        spent = permit.owner.slices.settle(permit.reservation, actual, frees_rest=is_written)
        item = Settlement(number, usage, spent, scopes_of(record))
        is_durable = permit.is_sent and is_written
        waiting = _Waiting(permit.owner, item, None if is_durable else asyncio.get_running_loop().create_future())
        self._unsettled.append(waiting)
        self._news.set()
        self._measures.set_free(permit.bound.amounts)
        self._measures.ended(record)
        return waiting.done

    def release(self, permit: Permit) -> None:
        """Nothing was spent: it never reached an engine, or the engine refused it before it ran."""
        if permit.is_open:
            permit.owner.slices.release(permit.reservation)
            self._measures.set_free(permit.bound.amounts)
            self._forget(permit)

    # --- a task takes it over -----------------------------------------------------------------------------------------

    def hold(self, permit: Permit) -> Hold | None:
        """For `Queue.submit` and `retry`: the task takes the reservation over. None: it falls under no budget. Call
        `handed_over` then, or `resolve` when nobody knows whether it did."""
        parts = permit.reservation.parts
        return Hold(permit.owner.name, permit.reservation.number, parts) if parts else None

    def handed_over(self, permit: Permit) -> None:
        if permit.is_open:
            permit.owner.slices.hand_over(permit.reservation)
            self._measures.set_free(permit.bound.amounts)
            self._forget(permit)

    async def resolve(self, permit: Permit) -> bool:
        """The answer to a `submit` with this permit's hold was lost. Whether the task has it; if not it never will, and
        the reservation is released. Waits until Redis answers.

        Settling the number fences a submission that is still on its way: of the two, only one happens.
        """
        owner, number = permit.owner, permit.reservation.number
        nothing = [Spent(part.counter, part.amount, 0) for part in permit.reservation.parts]
        while permit.is_open:
            try:
                answer = await self._store.settle(owner.name, [Settlement(number, None, nothing)])
                if isinstance(answer, Gone):
                    await self._life.enter_again(owner, answer)
                    continue
            except StokerError as error:
                _log.warning("budgets: a task's reservation is uncertain", error=error.in_log)
                await self._clock.sleep(RENEW_S)
                continue
            if answer == [False]:
                self.handed_over(permit)
                return True
            self.release(permit)
        return False

    async def hear_of_death(self) -> None:
        """A hold was void: this process may have been taken for dead without knowing it, and its slices are none then.
        It goes on under a new name when this returns. Raises QueueUnavailable."""
        await self._life.renew()

    def _forget(self, permit: Permit) -> None:
        if permit.is_sent:
            permit.owner.journal.settled([permit.reservation.number])

    def _check_alive(self, terms: Terms) -> None:
        is_closed = terms.account.tenant_terms.when_redis_is_away == "closed"
        if self._life.silent_s > (CLOSED_AFTER_S if is_closed else OWNER_TTL_S):
            silent_s = self._life.silent_s
            since = "yet" if math.isinf(silent_s) else f"for {silent_s:.0f} s"
            raise Unavailable(
                f"budgets cannot be checked: Redis has not answered {since}",
                retry_after_s=2 * RENEW_S,
                code="budgets_unavailable",
            )

    # --- what is left -------------------------------------------------------------------------------------------------

    def left(self, terms: Terms) -> list[tuple[Counter, int]]:
        """Of each counter that the caller falls under, what can still be reserved, as far as this process knows: what
        other processes have set aside and do not use is not in it. Counters that it never asked about are left out."""
        slices = self._life.owner.slices
        found = ((counter, slices.left(counter.name)) for counter in terms.plan.at(self._clock.now()))
        return [(counter, left) for counter, left in found if left is not None]

    # --- asking for more ----------------------------------------------------------------------------------------------

    async def _lease_and_reserve(self, terms: Terms, quote: Quote) -> Permit:
        _refuse_what_never_fits(terms, quote, self._clock.now())
        has_waited = False
        for _ in range(TRIES):
            bound, now = quote.bound(), self._clock.now()
            needs = terms.plan.needs(now, bound.amounts)
            async with self._life.leasing:
                owner = self._life.owner
                # Another request may have brought enough while this one waited for its turn.
                reserved = owner.slices.reserve(needs)
                if isinstance(reserved, Reservation):
                    return Permit(owner, reserved, terms, quote, bound, terms.shared(now))
                self._rebuild.know(terms, now)
                short = await self._lease(owner, reserved)
            if isinstance(short, NotBegun):
                await self._begin(short)
                continue
            if short is None:
                continue
            may_fit = short.fits_later or owner.slices.is_lowered(short.counter)
            if may_fit and not has_waited:
                # Others hold more than they use. They have been asked for it, and give it back when they next renew; so
                # does this process with what it holds under a higher limit.
                has_waited = True
                await self._clock.sleep(1.5 * RENEW_S)
                continue
            counter, need = _counter_in(needs, short)
            if short.free + owner.slices.unused(counter.name) >= need:
                # Something has come back here since it was asked for.
                continue
            shorter = self._shortened(quote, short, needs, owner)
            if shorter is None:
                if self.refused is not None:
                    self.refused(terms, counter)
                raise self._refusal(short, needs, owner)
            quote = shorter
        raise Unavailable("budgets cannot be checked: too much changes at once", code="budgets_unavailable")

    async def _begin(self, answer: NotBegun) -> None:
        """Without the turn of those who lease: the ledger takes its time. Raises Unavailable."""
        try:
            await self._rebuild.begin(self._store, answer.counters)
        except QueueUnavailable as error:
            raise _redis_is_away() from error

    async def _lease(self, owner: Owner, shortfall: Shortfall) -> Short | NotBegun | None:
        """Ask once. None: something is better now, so try again. Raises Unavailable."""
        try:
            answer = await self._store.lease(owner.name, shortfall.asks)
            match answer:
                case Leased():
                    owner.slices.granted(shortfall, answer.granted)
                    await self._life.look(owner, [counter.name for counter in shortfall.counters])
                case NotBegun():
                    return answer
                case Gone():
                    await self._life.enter_again(owner, answer)
                case NotOpen(opens_in_s=None):
                    await self._life.open_books()
                case NotOpen():
                    raise Unavailable(
                        "budgets are being set up again after Redis lost them",
                        retry_after_s=answer.opens_in_s,
                        code="budgets_unavailable",
                    )
                case Short():
                    # So that the refusal can say what is left also where nothing was ever held.
                    owner.slices.know(shortfall.counters)
                    owner.slices.saw_free(answer.counter, answer.free)
                    return answer
        except QueueUnavailable as error:
            raise _redis_is_away() from error
        return None

    def _shortened(self, quote: Quote, short: Short, needs: Sequence[Need], owner: Owner) -> Quote | None:
        """The quote with answers that fit what is left of the counter that was short; None: none do."""
        counter = _counter_in(needs, short)[0]
        left = max(0, short.free + owner.slices.unused(counter.name))
        if counter.unit is Unit.TOKENS:
            return quote.shortened(tokens=left)
        return quote.shortened(nano_usd=left) if counter.unit is Unit.NANO_USD else None

    def _refusal(self, short: Short, needs: Sequence[Need], owner: Owner) -> Refused:
        counter, need = _counter_in(needs, short)
        left = max(0, short.free + owner.slices.unused(counter.name))
        message = too_little_left(counter, left, need)
        if counter.unit is Unit.CONCURRENT:
            return Refused(
                message, retry_after_s=1.0, hint="one of those that run has to end first", code="too_many_requests"
            )
        if counter.renews_at is None:
            return BudgetExhausted(message, hint="it does not renew by itself")
        renews_in_s = max(0.0, counter.renews_at - self._clock.now())
        return Refused(
            message,
            retry_after_s=renews_in_s,
            hint=f"it renews in {renews_in_s:.0f} s",
            code=f"{_CODES[counter.unit]}_budget_exceeded",
        )

    # --- settlements, many in one call --------------------------------------------------------------------------------

    def pending(self, owner: Owner) -> list[Settlement]:
        """Settled here, not in Redis yet."""
        return [waiting.item for waiting in self._unsettled if waiting.owner is owner]

    async def settle_forever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if all(waiting.done is None for waiting in self._unsettled):
                await asyncio.sleep(GATHER_S)  # of the loop's time: it bounds work, not what anybody sees
            try:
                await self.settle_waiting()
            except StokerError as error:
                _log.warning("usage waits for Redis", error=error.in_log, waiting=len(self._unsettled))
                self._let_clients_go()
                self._news.set()
                await self._clock.sleep(RENEW_S)

    async def settle_waiting(self) -> None:
        """Send what waits. Raises QueueUnavailable, with nothing lost."""
        while self._unsettled:
            owner = self._unsettled[0].owner
            batch = self._first_of(owner)
            answer = await self._store.settle(owner.name, [waiting.item for waiting in batch])
            if isinstance(answer, Gone):
                await self._life.enter_again(owner, answer)
                continue
            numbers = {waiting.item.number for waiting in batch}
            if self._unsettled[: len(batch)] == batch:
                del self._unsettled[: len(batch)]
            else:  # something was settled beside this, by a report
                self._unsettled = [w for w in self._unsettled if w.owner is not owner or w.item.number not in numbers]
            owner.slices.confirmed(numbers)
            owner.journal.settled(numbers)
            _let_go(batch)

    def _first_of(self, owner: Owner) -> list[_Waiting]:
        first = self._unsettled[:MOST_AT_ONCE]
        if all(waiting.owner is owner for waiting in first):  # as nearly always: the rest need not be looked at
            return first
        return [waiting for waiting in self._unsettled if waiting.owner is owner][:MOST_AT_ONCE]

    def _let_clients_go(self) -> None:
        """Redis is away. Nobody has to wait for it: the journal keeps what is not settled, and what it came to."""
        _let_go(self._unsettled)

    @property
    def unsent(self) -> Sequence[UsageRecord]:
        """Records of what has ended and waits for Redis."""
        return [UsageRecord.from_json(waiting.item.usage) for waiting in self._unsettled if waiting.item.usage]


def _redis_is_away() -> Unavailable:
    return Unavailable("budgets cannot be checked: Redis does not answer", code="budgets_unavailable")


def _refuse_what_never_fits(terms: Terms, quote: Quote, now: float) -> None:
    """Raises InvalidInput for a request that takes more than the whole of a budget, however short its answers may be
    made: waiting would not help, and nor would it if all of the budget were left."""
    bound = quote.least
    for counter, need in terms.plan.needs(now, bound.amounts):
        if need > counter.limit:
            raise over_budget(bound, counter.unit, f"{whose_budget(counter)} is {_limit_of(counter)}")


def too_little_left(counter: Counter, left: int, need: int) -> str:
    return (
        f"{whose_budget(counter)} of {_limit_of(counter)} has {_amount(counter.unit, left)} left; this request could "
        f"take {_amount(counter.unit, need)}"
    )


def whose_budget(counter: Counter) -> str:
    """`the key's budget`; of a run or an agent its name, too, since a request falls under those of several runs."""
    kind, id = counter.name.split(":")[:2]
    name = id.rpartition("/")[2]
    is_named = kind in ("run", "agent") and not name.startswith("~")  # a digest says nothing to anybody
    return f"{kind} {name}'s budget" if is_named else f"the {kind}'s budget"


def _limit_of(counter: Counter) -> str:
    return _amount(counter.unit, counter.limit) + _PER[counter.name.split(":")[3]]


def _let_go(those: Sequence[_Waiting]) -> None:
    for waiting in those:
        if waiting.done is not None and not waiting.done.done():
            waiting.done.set_result(None)


def _counter_in(needs: Sequence[Need], short: Short) -> Need:
    return next((need for need in needs if need[0].name == short.counter), needs[0])


_CODES = {Unit.REQUESTS: "requests", Unit.TOKENS: "tokens", Unit.NANO_USD: "usd"}
_PER = {"minute": " per minute", "day": " per day", "month": " per month", "total": ""}


def _amount(unit: Unit, amount: int) -> str:
    if unit is Unit.NANO_USD:
        return money(amount)
    return f"{amount} " + {Unit.REQUESTS: "requests", Unit.TOKENS: "tokens", Unit.CONCURRENT: "requests at once"}[unit]

"""Hard budgets as a property, on the real scripts of Redis and on the books in memory: whatever three processes, their
reconcilers and engines do, whatever calls are lost, late or made twice, `spent + reserved <= limit` holds after every
step, and once all is settled the ledger says what the engines say.

Limits are taken away and set again. Each process keeps the rules of `docs/proofs.md`. Small worlds are explored to
their last state in `test_budget_model.py`; here are more counters, real amounts, windows that end, and the real Redis.
"""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pytest
from budget_builders import START
from effort import examples
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from queue_builders import all_usage
from redis import Redis

from stoker.base.errors import QueueUnavailable
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import (
    Amounts,
    Counter,
    Limit,
    Need,
    Part,
    Plan,
    Reservation,
    Scope,
    Shortfall,
    Slices,
    Spent,
    Unit,
    Window,
    inside,
    returns_slots,
)
from stoker.queue import MemoryBudgets, MemoryQueue, Queue, RedisBudgets, RedisQueue
from stoker.queue.budgets import BudgetStore, Gone, InFlightPart, Leased, NotBegun, Settlement, scopes_of
from stoker.queue.connection import Connection
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer

T = TypeVar("T")
Fate = Literal["arrives", "is lost", "arrives late", "is made twice", "is not answered"]

TTL_S = 30.0
FATES: Sequence[Fate] = ("arrives", "arrives", "arrives", "is lost", "arrives late", "is made twice", "is not answered")
PRICE = 3  # nano-dollars for a token
KEYS = ("k1", "k2")
SESSIONS = ("s1", "s2")


def limits_of(key: str, session: str) -> list[Limit]:
    tenant, of_session = Scope("tenant", "acme"), Scope("session", inside("acme", session))
    return [
        Limit(Scope("key", key), Unit.TOKENS, Window.TOTAL, 120),
        Limit(Scope("key", key), Unit.REQUESTS, Window.MINUTE, 12),
        Limit(tenant, Unit.TOKENS, Window.DAY, 200),
        Limit(tenant, Unit.NANO_USD, Window.TOTAL, 180 * PRICE),
        Limit(tenant, Unit.CONCURRENT, Window.TOTAL, 8),
        Limit(of_session, Unit.TOKENS, Window.TOTAL, 130),
    ]


LIMITS = 6


class Wire:
    """In the place of a store's connection: what becomes of the next call is `fate`."""

    def __init__(self, real: Connection) -> None:
        self._real = real
        self.fate: Fate = "arrives"
        self.late: list[tuple[Any, ...]] = []

    async def run(self, script: str, redis_keys: Sequence[str], *args: Any) -> Any:
        fate, self.fate = self.fate, "arrives"
        if fate == "arrives late":
            self.late.append((script, redis_keys, *args))
        if fate in ("is lost", "arrives late"):
            raise QueueUnavailable("lost on the way")
        answer = await self._real.run(script, redis_keys, *args)
        if fate == "is made twice":
            answer = await self._real.run(script, redis_keys, *args)
        if fate == "is not answered":
            raise QueueUnavailable("the answer was lost")
        return answer

    async def arrive(self, place: int) -> None:
        await self._real.run(*self.late.pop(place))

    async def aclose(self) -> None:
        await self._real.aclose()


@dataclass
class Request:
    """What engines and journals know of one."""

    id: str
    key: str
    session: str
    tokens: int  # at most
    needs: list[Need]
    owner: str
    number: int
    produced: int | None = None  # None: an engine runs it
    told: int | None = None  # what the process has written into its journal

    def at_most(self, counter: Counter) -> int:
        return amounts(self.tokens if self.produced is None else self.produced)[counter.place]

    def spent(self, tokens: int) -> tuple[Spent, ...]:
        actual = amounts(tokens)
        return tuple(Spent(counter.name, amount, actual[counter.place]) for counter, amount in self.needs)

    def record(self, tokens: int) -> UsageRecord:
        return UsageRecord(
            id=self.id,
            kind="request",
            status="done",
            tenant="acme",
            key_id=self.key,
            session=self.session,
            model="general",
            prompt_tokens=0,
            completion_tokens=tokens,
            nano_usd=tokens * PRICE,
            started_at=1.0,
            ended_at=2.0,
        )

    def settlement(self, tokens: int) -> Settlement:
        record = self.record(tokens)
        return Settlement(self.number, record.to_json(), self.spent(tokens), scopes_of(record))

    def is_in_scope_of(self, counter_name: str) -> bool:
        return counter_name.startswith(tuple(f"{scope}:" for scope in scopes_of(self.record(0))))


def amounts(tokens: int, *, running: int = 0) -> Amounts:
    return Amounts(1, tokens, tokens * PRICE, running)


@dataclass
class Process:
    name: str
    slices: Slices = field(default_factory=Slices)
    running: dict[int, tuple[Request, Reservation]] = field(default_factory=dict)
    pending: dict[int, Settlement] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()


class BudgetMachine(RuleBasedStateMachine):
    """`url` is set by the test: '' for the twin in memory, whose calls always arrive."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(START)
        self.wire: Wire | None = None
        self.queue: Queue
        self.store: BudgetStore
        if self.url:
            with Redis.from_url(self.url, protocol=2) as raw:
                raw.flushall()
            self.queue = RedisQueue(self.url, clock=self.clock)
            redis_store = RedisBudgets(self.url, clock=self.clock)
            self.wire = Wire(redis_store._redis)
            redis_store._redis = self.wire  # type: ignore[assignment]
            self.store = redis_store
        else:
            memory = MemoryQueue(clock=self.clock)
            self.queue, self.store = memory, MemoryBudgets(memory, clock=self.clock)
        self.names = 0
        self.processes: list[Process] = []
        self.formers: list[Process] = []  # taken for dead while they had requests in flight
        self.requests: dict[str, Request] = {}
        self.counters: dict[str, Counter] = {}
        self.unset: set[int] = set()  # limits that are taken away, by their place
        self.confirmed: set[str] = set()  # requests of which somebody has heard that they are settled
        # By owner: what a successor finds. Of an owner that lives the journal is locked, of a lost machine it is gone.
        self.journals: dict[str, dict[int, Request]] = {}
        self.guessed: set[str] = set()  # settled with the whole reservation, since nobody could tell
        self.lost: defaultdict[str, int] = defaultdict(int)  # slices that count as spent

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    def becomes(self, fate: Fate) -> None:
        if self.wire is not None:
            self.wire.fate = fate

    # --- processes --------------------------------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        self.run(self.store.establish(wait_s=0))
        self.processes = [self.new_process() for _ in range(3)]

    def new_process(self) -> Process:
        self.names += 1
        process = Process(f"gw_{self.names}")
        self.run(self.store.enter(process.name, ttl_s=TTL_S))
        self.journals[process.name] = {}
        return process

    def taken_for_dead(self, process: Process) -> None:
        if process in self.processes:
            self.formers.append(process)
            self.processes[self.processes.index(process)] = self.new_process()

    # Several at once, since nothing much can go wrong before there are some.
    @rule(
        coming=st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from(KEYS),
                st.sampled_from(SESSIONS),
                st.integers(1, 20),
                st.sampled_from(FATES),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def requests_come(self, coming: list[tuple[int, str, str, int, Fate]]) -> None:
        for place, key, session, tokens, fate in coming:
            self.becomes(fate)
            self.admit(self.processes[place], key, session, tokens)
            self.becomes("arrives")

    @rule(unset=st.sets(st.integers(0, LIMITS - 1)))
    def limits_are_taken_away_and_set(self, unset: set[int]) -> None:
        self.unset = unset

    def admit(self, process: Process, key: str, session: str, tokens: int) -> None:
        limits = [limit for place, limit in enumerate(limits_of(key, session)) if place not in self.unset]
        needs = Plan(limits).needs(self.clock.now(), amounts(tokens, running=1))
        self.counters.update({counter.name: counter for counter, _ in needs})
        for _ in range(4):
            reserved = process.slices.reserve(needs)
            if isinstance(reserved, Reservation):
                self.send(process, reserved, key, session, tokens, needs)
                return
            if not self.lease(process, reserved):
                return

    def lease(self, process: Process, shortfall: Shortfall) -> bool:
        """Whether it is worth another try."""
        try:
            answer = self.run(self.store.lease(process.name, shortfall.asks))
            match answer:
                case Leased():
                    process.slices.granted(shortfall, answer.granted)
                case NotBegun():
                    for name in answer.counters:
                        opening = self.run(self.store.open(name))
                        self.run(self.store.begin(name, self.in_ledger(name), expires_at=None, since=opening))
                case Gone():
                    assert answer.state == "gone"
                    self.taken_for_dead(process)
                    return False
                case _:
                    return False
        except QueueUnavailable:
            return False
        return True

    def in_ledger(self, counter_name: str) -> int:
        told = {record.id: record.completion_tokens for record in self.run(all_usage(self.queue))}
        place = self.counters[counter_name].place
        return sum(
            amounts(tokens)[place] for id, tokens in told.items() if self.requests[id].is_in_scope_of(counter_name)
        )

    def send(
        self, process: Process, reserved: Reservation, key: str, session: str, tokens: int, needs: list[Need]
    ) -> None:
        request = Request(f"req_{len(self.requests)}", key, session, tokens, needs, process.name, reserved.number)
        self.requests[request.id] = request
        self.journals[process.name][reserved.number] = request
        process.running[reserved.number] = (request, reserved)

    @rule(shares=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=4), first=st.integers(0, 5))
    def engines_end_requests(self, shares: list[float], first: int) -> None:
        """By themselves, or since their clients have gone."""
        running = [request for request in self.requests.values() if request.produced is None]
        for request, share in zip(running[first % len(running) :] if running else (), shares, strict=False):
            self.end(request, share)

    def end(self, request: Request, share: float) -> None:
        request.produced = int(request.tokens * share)
        for process in (*self.processes, *self.formers):
            if process.name == request.owner and request.number in process.running:
                _, reserved = process.running.pop(request.number)
                request.told = request.produced
                process.slices.settle(reserved, amounts(request.produced))
                process.pending[request.number] = request.settlement(request.produced)

    @rule(place=st.integers(0, 2), fate=st.sampled_from(FATES))
    def a_process_sends_its_settlements(self, place: int, fate: Fate) -> None:
        self.becomes(fate)
        self.settle(self.processes[place])
        self.becomes("arrives")

    @rule()
    def former_processes_send_their_settlements(self) -> None:
        for process in self.formers:
            self.settle(process)

    def settle(self, process: Process) -> None:
        try:
            answer = self.run(self.store.settle(process.name, list(process.pending.values())))
        except QueueUnavailable:
            return
        assert not isinstance(answer, Gone)
        process.slices.confirmed(process.pending)
        for number, item in process.pending.items():
            self.confirmed.add(UsageRecord.from_json(item.usage or "").id)
            self.journals.get(process.name, {}).pop(number, None)
        process.pending.clear()

    @rule(place=st.integers(0, 2), fate=st.sampled_from(FATES), is_generous=st.booleans())
    def a_process_renews(self, place: int, fate: Fate, is_generous: bool) -> None:
        """It gives back all that it does not use, or what others wait for, is over or idle."""
        self.becomes(fate)
        self.renew(self.processes[place], tuple(self.counters) if is_generous else ())
        self.becomes("arrives")

    def renew(self, process: Process, not_needed: Sequence[str] = ()) -> None:
        process.slices.round(self.clock.now())
        back = process.slices.give_back(process.slices.surplus(self.clock.now(), (*process.wanted, *not_needed)))
        try:
            renewed = self.run(
                self.store.renew(process.name, ttl_s=TTL_S, watermark=process.slices.watermark, give_back=back)
            )
        except QueueUnavailable:
            return
        assert renewed.state != "unknown"
        process.wanted = renewed.wanted
        if renewed.state == "gone":
            self.taken_for_dead(process)

    @rule(place=st.integers(0, 2))
    def a_process_asks_ahead(self, place: int) -> None:
        process = self.processes[place]
        refills = process.slices.refills(self.clock.now())
        if refills is not None:
            self.lease(process, refills)

    # --- what fails -------------------------------------------------------------------------------------------------

    @rule(place=st.integers(0, 2), journal_stays=st.sampled_from([True, True, True, False]))
    def a_process_is_killed(self, place: int, journal_stays: bool) -> None:
        dead = self.processes[place]
        if not journal_stays:
            del self.journals[dead.name]
        self.processes[place] = self.new_process()

    @rule(seconds=st.sampled_from([1.0, 12.0, 40.0]), stalled=st.sets(st.integers(0, 2), max_size=2))
    def time_passes(self, seconds: float, stalled: set[int]) -> None:
        """Those who stall do not renew, and are taken for dead if it is for long."""
        for _ in range(math.ceil(seconds / TTL_S * 2)):
            self.run(self.clock.advance(min(seconds, TTL_S / 2)))
            for place in {0, 1, 2} - stalled:
                self.renew(self.processes[place])

    @precondition(lambda self: self.wire is not None and self.wire.late)
    @rule(data=st.data())
    def a_call_arrives_late(self, data: st.DataObject) -> None:
        assert self.wire is not None
        self.run(self.wire.arrive(data.draw(st.integers(0, len(self.wire.late) - 1))))

    # --- reconcilers ------------------------------------------------------------------------------------------------

    @rule(place=st.integers(0, 2), engine_tells=st.booleans(), fates=st.lists(st.sampled_from(FATES), max_size=4))
    def a_process_reconciles(self, place: int, engine_tells: bool, fates: list[Fate]) -> None:
        self.reconcile(self.processes[place].name, engine_tells, fates)

    def reconcile(self, by: str, engine_tells: bool, fates: list[Fate]) -> None:
        for owner in self.run(self.store.dead_owners()):
            if owner == by:
                continue
            with contextlib.suppress(QueueUnavailable):  # then whoever comes next does it
                self.wind_up(owner, by, engine_tells, list(fates))
            self.becomes("arrives")

    def wind_up(self, owner: str, by: str, engine_tells: bool, fates: list[Fate]) -> None:
        journal = None if self.is_locked(owner) else self.journals.get(owner)
        self.becomes(fates.pop() if fates else "arrives")
        held = self.run(self.store.take_over(owner, by, ttl_s=TTL_S))
        if held is None:
            return
        if journal is None:
            self.becomes(fates.pop() if fates else "arrives")
            self.lose(owner, by)
            return
        self.settle_for(owner, [r.settlement(r.told) for r in journal.values() if r.told is not None], fates)
        still_open = {number: request for number, request in journal.items() if request.told is None}
        told = [InFlightPart(n, [Part(c.name, amount) for c, amount in r.needs]) for n, r in still_open.items()]
        self.becomes(fates.pop() if fates else "arrives")
        assert self.run(self.store.forfeit(owner, by, told))
        tells = {
            number: request.produced if engine_tells and request.produced is not None else request.tokens
            for number, request in still_open.items()
        }
        self.guessed.update(still_open[number].id for number in tells)
        self.settle_for(owner, [still_open[number].settlement(tokens) for number, tokens in tells.items()], fates)
        journal.clear()

    def is_locked(self, owner: str) -> bool:
        return any(process.name == owner for process in (*self.processes, *self.formers))

    def lose(self, owner: str, by: str) -> None:
        before = self.leased_by_all()
        try:
            assert self.run(self.store.forfeit(owner, by, None))
        finally:
            for name, amount in before.items():
                if not returns_slots(name):
                    self.lost[name] += amount - self.leased_by_all().get(name, 0)

    def leased_by_all(self) -> dict[str, int]:
        names = list(self.counters)
        states = self.run(self.store.state(names))
        return {name: state.leased for name, state in zip(names, states, strict=True) if state is not None}

    def settle_for(self, owner: str, items: list[Settlement], fates: list[Fate]) -> None:
        if items:
            self.becomes(fates.pop() if fates else "arrives")
            assert not isinstance(self.run(self.store.settle(owner, items)), Gone)

    @rule()
    def everything_comes_to_rest(self) -> None:
        """Then Redis has set aside exactly what the living hold: nothing is lost, and nothing held for nobody."""
        while self.wire is not None and self.wire.late:
            self.run(self.wire.arrive(0))
        self.time_passes(2 * TTL_S, set())
        self.reconcile("the last", True, [])
        for process in (*self.processes, *self.formers):
            self.settle(process)
        for process in list(self.processes):
            self.renew(process)
        assert self.run(self.store.dead_owners()) == []
        held: defaultdict[str, int] = defaultdict(int)
        for process in self.processes:
            for name, amount in process.slices.holding():
                held[name] += amount
        for name, leased in self.leased_by_all().items():
            assert leased == held[name], (name, leased, held[name])

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_overspent(self) -> None:
        names = list(self.counters)
        for name, state in zip(names, self.run(self.store.state(names)), strict=True):
            counter = self.counters[name]
            at_most = sum(request.at_most(counter) for request in self.under(name))
            if returns_slots(name):
                at_most = 0  # slots of the dead are free again at once
            assert at_most <= counter.limit, name
            if state is not None:
                have = state.spent + state.leased + state.held
                late = self.late(name)
                assert have <= counter.limit + sum(amounts(r.tokens)[counter.place] for r in late), (name, state)
                if ":minute:" not in name:  # late ones count in the newest only
                    at_most += sum(r.at_most(counter) for r in late if r.id in self.confirmed)
                assert at_most <= have, (name, state)
                assert min(state.spent, state.leased, state.held) >= 0, (name, state)

    def under(self, counter_name: str) -> list[Request]:
        return [r for r in self.requests.values() if any(counter.name == counter_name for counter, _ in r.needs)]

    def late(self, counter_name: str) -> list[Request]:
        """Those of its scope that came while its limit was taken away."""
        if returns_slots(counter_name):
            return []
        under = {request.id for request in self.under(counter_name)}
        return [r for r in self.requests.values() if r.id not in under and r.is_in_scope_of(counter_name)]

    def teardown(self) -> None:
        try:
            if self.processes:
                self.come_to_an_end()
                self.the_ledger_says_what_the_engines_say()
        finally:
            self.run(self.store.aclose())
            self.run(self.queue.aclose())
            self.loop.close()

    def come_to_an_end(self) -> None:
        for request in list(self.requests.values()):
            if request.produced is None:
                self.end(request, 1.0)
        self.everything_comes_to_rest()
        for process in self.processes:
            assert self.run(self.store.leave(process.name))

    def the_ledger_says_what_the_engines_say(self) -> None:
        records = self.run(all_usage(self.queue))
        told = {record.id: record.completion_tokens for record in records}
        assert len(told) == len(records), "a request has two records"
        for request in self.requests.values():
            if request.id in told and request.id not in self.guessed:
                assert told[request.id] == request.produced
            assert told.get(request.id, request.tokens) >= (request.produced or 0)
        names = list(self.counters)
        for name, state in zip(names, self.run(self.store.state(names)), strict=True):
            if state is None:
                continue  # its window is over
            assert (state.leased, state.held) == (0, 0), name
            place = self.counters[name].place
            late = [r for r in self.late(name) if r.id in told]
            of_ledger = sum(amounts(told[r.id])[place] for r in (*self.under(name), *late) if r.id in told)
            of_engines = sum(amounts(r.produced or 0)[place] for r in self.under(name))
            if ":minute:" not in name:
                of_engines += sum(amounts(r.produced or 0)[place] for r in late)
            assert of_engines <= state.spent <= of_ledger + self.lost[name], name
            if not self.lost[name] and (":minute:" not in name or not late):
                assert state.spent == of_ledger, name


SETTINGS = settings(
    max_examples=examples(35),
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.redis
def test_nothing_is_overspent_on_redis(redis_server: RedisServer) -> None:
    BudgetMachine.url = redis_server.url
    run_state_machine_as_test(BudgetMachine, settings=SETTINGS)


def test_nothing_is_overspent_in_memory() -> None:
    BudgetMachine.url = ""
    run_state_machine_as_test(BudgetMachine, settings=SETTINGS)

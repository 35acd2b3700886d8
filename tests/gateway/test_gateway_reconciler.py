"""What a gateway that died has left, and how it is settled: each request once, with the truth where it can be known."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from stoker.base.errors import QueueUnavailable
from stoker.engine.client import EngineClient
from stoker.gateway.admission import Admission, Permit
from stoker.gateway.bounds import Quote
from stoker.gateway.limits import Terms
from stoker.gateway.measures import Measures
from stoker.gateway.owner import OWNER_TTL_S, Life
from stoker.gateway.rebuild import Rebuild
from stoker.gateway.reconciler import ENGINE_PATIENCE_S, LOOK_EVERY_S, NEVER_CAME_S, PATIENCE_S, Reconciler
from stoker.gateway.settling import Settler
from stoker.meter.accounts import Account, TeamTerms, TenantTerms
from stoker.meter.charge import Caller, Charge
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.texts import text_of
from stoker.meter.usage import UsageRecord
from stoker.queue import MemoryBudgets, MemoryQueue, Replica
from stoker.queue.books import Books
from stoker.queue.budgets import CounterState, Settlement
from stoker.spec import Budgets, loads
from stoker.telemetry.metrics import Metrics
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine, Seen

PLATFORM = loads("""
llm:
  models:
    general:
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 0.5, outputUsdPerMillionTokens: 2}
""")
TOKENS, SLOTS = "key:k:tokens:total", "key:k:concurrent:total"
BUDGETS = Budgets(tokens_total=1000, concurrent_requests=10)
ACCOUNT = Account(
    id="k",
    name="",
    role="user",
    tenant_terms=TenantTerms("acme"),
    team_terms=TeamTerms("red"),
    budgets_text=text_of(BUDGETS),
)
TERMS = Terms(ACCOUNT, "s", "run-1")


class World:
    """A Redis, a ledger and an engine; gateways come and go."""

    def __init__(self, directory: Path, store: Store, engine: EchoEngine) -> None:
        # Later than the engine's own start, which is by the real clock: what it does not know never reached it.
        self.clock = ManualClock(4_000_000_000.0)
        self.queue = MemoryQueue(clock=self.clock)
        self.books = MemoryBudgets(self.queue, clock=self.clock)
        self.ledger = Ledger(store)
        self.settler = Settler(self.queue, self.ledger, "test", self.clock)
        self.journals = directory / "journals"
        self.engine = engine
        self.connects_to: str | None = None
        self.measures = Measures(Metrics())

    async def a_gateway(self, journals: Path | None = None) -> tuple[Life, Admission]:
        rebuild = Rebuild(self.ledger, self.settler)
        life = Life(self.books, rebuild, journals or self.journals, self.clock)
        await life.begin()
        return life, Admission(self.books, life, rebuild, Measures(Metrics()))

    def reconciler(self, name: str = "gw_next") -> Reconciler:
        def connect(replica: Replica) -> EngineClient:
            return EngineClient(self.connects_to or replica.url, model=replica.model)

        return Reconciler(name, self.books, self.queue, PLATFORM, self.journals, connect, self.measures, self.clock)

    async def state(self, counter: str = TOKENS) -> CounterState:
        [state] = await self.books.state([counter])
        assert state is not None
        return state

    async def records(self) -> list[UsageRecord]:
        await self.settler.settle_all()
        return self.ledger.records()

    async def record(self) -> UsageRecord:
        [found] = await self.records()
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    async with EchoEngine() as engine:
        yield World(tmp_path, store, engine)
    store.close()


async def sent(world: World, admission: Admission, request_id: str = "req_1", *, model: str = "general") -> Permit:
    """One request that is let in for 100 tokens and goes to the engine."""
    permit = await admission.admit(
        TERMS, Quote(60, 1, 40, is_elastic=False, prices=PLATFORM.llm.models["general"].prices)
    )
    admission.sent(
        permit, request_id=request_id, model=model, route="auto:code", replica_id="r1", replica_url=world.engine.url
    )
    return permit


async def dead(world: World, *, model: str = "general") -> Life:
    """A gateway that died with one request in flight."""
    life, admission = await world.a_gateway()
    await sent(world, admission, model=model)
    life.close()
    return life


def heard(world: World, *, state: Any = "done", tokens: int = 5, request_id: str = "req_1") -> Seen:
    """The engine has had the request."""
    seen = Seen("/v1/chat/completions", {"x-request-id": request_id}, {}, state, 0, 7, tokens)
    world.engine.requests.append(seen)
    return seen


async def settled(world: World) -> None:
    """Nothing is held any more, by nobody."""
    assert await world.books.dead_owners() == []
    for counter in (TOKENS, SLOTS):
        state = await world.state(counter)
        assert (state.leased, state.held) == (0, 0)
    assert list(world.journals.glob("*")) == []


# --- with a journal ---------------------------------------------------------------------------------------------------


async def test_what_the_engine_counted_is_settled_and_the_rest_is_free(world: World) -> None:
    await dead(world)
    heard(world)
    await world.reconciler().reconcile()

    record = await world.record()
    assert (record.id, record.kind, record.status) == ("req_1", "request", "cancelled")
    assert record.reason == "its gateway died; counted by the engine"
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (7, 5, 7 * 1000 + 5 * 2000)
    assert (record.tenant, record.team, record.key_id) == ("acme", "red", "k")
    assert (record.session, record.run, record.model, record.route) == ("s", "run-1", "general", "auto:code")
    assert (record.replica, record.started_at, record.ended_at) == ("r1", 4_000_000_000.0, 4_000_000_000.0)
    assert ((await world.state()).spent, (await world.state(SLOTS)).spent) == (12, 0)
    await settled(world)


async def test_a_limit_that_was_set_while_a_dead_gateways_request_ran_counts_it(world: World) -> None:
    await dead(world)
    heard(world)
    of_team = "team:acme/red:tokens:total"
    opening = await world.books.open(of_team)
    await world.reconciler().reconcile()
    assert await world.books.begin(of_team, 0, expires_at=None, since=opening) == 12


async def test_a_counter_that_was_begun_after_redis_lost_its_books_counts_what_a_dead_gateway_had_in_flight_once(
    world: World,
) -> None:
    life, admission = await world.a_gateway()
    for request_id in ("req_1", "req_2"):
        await sent(world, admission, request_id)
    life.close()
    heard(world)
    waiting = heard(world, request_id="req_2", state="running", tokens=3)
    world.queue.books = Books()
    world.books = MemoryBudgets(world.queue, clock=world.clock)
    await world.books.begin(TOKENS, 0, expires_at=None)
    reconciler = world.reconciler()
    for _ in range(3):  # each look hands in again what it knows of a journal that is not done
        await reconciler.reconcile()
    assert (await world.state()).spent == 12
    waiting.state = "done"
    await reconciler.reconcile()
    assert (await world.state()).spent == 12 + 10
    assert sorted(record.id for record in await world.records()) == ["req_1", "req_2"]


async def test_what_never_reached_the_engine_costs_nothing_once_it_cannot_be_on_its_way_any_more(world: World) -> None:
    await dead(world)
    reconciler = world.reconciler()
    await reconciler.reconcile()
    await world.clock.advance(NEVER_CAME_S - 0.1)
    await reconciler.reconcile()
    assert await world.records() == []
    await world.clock.advance(0.1)
    await reconciler.reconcile()
    record = await world.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens, record.nano_usd) == ("cancelled", 0, 0, 0)
    assert (await world.state()).spent == 0
    await settled(world)


async def test_an_engine_that_cannot_say_costs_all_that_was_reserved(world: World) -> None:
    world.engine.tells = False
    await dead(world)
    await world.reconciler().reconcile()
    record = await world.record()
    assert (record.status, record.reason) == ("lost", "its gateway died, and the engine cannot say what it produced")
    assert (record.prompt_tokens, record.completion_tokens) == (60, 40)
    assert record.nano_usd == 60 * 1000 + 40 * 2000
    assert (await world.state()).spent == 100
    await settled(world)


async def test_an_engine_that_started_after_the_request_cannot_say(world: World) -> None:
    world.engine._since = world.clock.now() + 1
    await dead(world)
    await world.reconciler().reconcile()
    assert (await world.record()).status == "lost"
    await settled(world)


async def test_a_model_that_is_no_longer_there_cannot_say(world: World) -> None:
    await dead(world, model="gone")
    await world.reconciler().reconcile()
    record = await world.record()
    assert (record.model, record.status, record.nano_usd) == ("gone", "lost", 60 * 1000 + 40 * 2000)
    await settled(world)


async def test_what_still_runs_is_waited_for(world: World) -> None:
    await dead(world)
    seen = heard(world, state="running", tokens=1)
    reconciler = world.reconciler()
    await reconciler.reconcile()
    assert await world.records() == []
    assert (await world.state()).leased == 100  # set aside until it has ended; the rest is free already

    seen.state, seen.completion_tokens = "cancelled", 3
    await reconciler.reconcile()
    assert (await world.record()).completion_tokens == 3
    assert (await world.state()).spent == 10
    await settled(world)


@pytest.mark.parametrize("is_gone", [False, True])
async def test_what_runs_for_ever_or_an_engine_that_is_gone_is_not_waited_for_for_ever(
    world: World, is_gone: bool
) -> None:
    await dead(world)
    if is_gone:
        world.connects_to = "http://127.0.0.1:9"
    else:
        heard(world, state="running", tokens=1)
    reconciler = world.reconciler()
    await reconciler.reconcile()
    await world.clock.advance(ENGINE_PATIENCE_S - 0.1)
    await reconciler.reconcile()
    assert await world.records() == []
    await world.clock.advance(0.1)
    await reconciler.reconcile()
    record = await world.record()
    assert (record.status, record.prompt_tokens + record.completion_tokens) == ("lost", 100)
    await settled(world)


async def test_what_had_ended_and_only_redis_did_not_know_is_settled_with_its_record(world: World) -> None:
    life, admission = await world.a_gateway()
    permit = await sent(world, admission)
    record = UsageRecord(
        id="req_1",
        kind="request",
        status="done",
        tenant="acme",
        key_id="k",
        model="general",
        prompt_tokens=3,
        completion_tokens=4,
        nano_usd=11_000,
        started_at=1.0,
        ended_at=2.0,
    )
    permit.owner.journal.ended(permit.reservation.number, record.to_json())
    life.close()
    heard(world, tokens=99)  # nobody is asked
    await world.reconciler().reconcile()
    assert await world.record() == record
    assert (await world.state()).spent == 7
    await settled(world)


async def test_what_was_settled_already_is_not_settled_again(world: World) -> None:
    """It died between the settlement in Redis and the line in its journal."""
    life, admission = await world.a_gateway()
    permit = await sent(world, admission)
    before = permit.owner.journal.path.read_bytes()
    heard(world)
    record = UsageRecord.from_json(
        '{"id":"req_1","kind":"request","status":"done","tenant":"acme","key_id":"k","model":"general",'
        '"prompt_tokens":2,"completion_tokens":1,"nano_usd":5,"started_at":1.0,"ended_at":2.0}'
    )
    settling = asyncio.create_task(admission.settle(permit, record))
    await asyncio.sleep(0)
    await admission.settle_waiting()
    await settling
    life.close()
    permit.owner.journal.path.write_bytes(before)

    await world.reconciler().reconcile()
    assert await world.record() == record
    assert (await world.state()).spent == 3
    assert 'status="cancelled"' not in world.measures.metrics.text().decode()
    await settled(world)


async def test_two_reconcilers_at_once_settle_each_request_once(world: World) -> None:
    lives = [await world.a_gateway() for _ in range(3)]
    for number, (_, admission) in enumerate(lives):
        await sent(world, admission, f"req_{number}")
        heard(world, request_id=f"req_{number}")
    for life, _ in lives:
        life.close()
    await asyncio.gather(*(world.reconciler(name).reconcile() for name in ("gw_a", "gw_b")))
    for name in ("gw_a", "gw_b"):  # whoever found a journal locked looks again
        await world.reconciler(name).reconcile()
    assert [record.id for record in await world.records()] == ["req_0", "req_1", "req_2"]
    assert (await world.state()).spent == 36
    await settled(world)


async def test_a_journal_that_is_read_twice_counts_once(world: World) -> None:
    """The reconciler died after the settlement and before it removed the journal."""
    life = await dead(world)
    before = life.owner.journal.path.read_bytes()
    heard(world)
    await world.reconciler().reconcile()
    life.owner.journal.path.write_bytes(before)
    await world.reconciler("gw_another").reconcile()
    assert (await world.record()).completion_tokens == 5
    assert (await world.state()).spent == 12
    await settled(world)


async def test_redis_that_has_lost_its_books_learns_of_it_by_the_ledger(world: World) -> None:
    await dead(world)
    heard(world)
    world.books._books.__init__()  # type: ignore[misc]
    assert world.books._books == Books()
    await world.reconciler().reconcile()
    assert (await world.record()).completion_tokens == 5
    assert await world.books.state([TOKENS]) == [None]
    # The next gateway sets the counter up with it.
    await world.books.establish(wait_s=0)
    life, admission = await world.a_gateway()
    await admission.admit(TERMS, Quote(60, 1, 40, is_elastic=False, prices=PLATFORM.llm.models["general"].prices))
    assert (await world.state()).spent == 12
    life.close()


async def test_a_redis_that_is_away_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await dead(world)
    heard(world)
    reconciler = world.reconciler()

    async def away(*_: Any, **__: Any) -> Any:
        raise QueueUnavailable("Redis said nothing")

    for method in ("take_over", "forfeit", "settle", "dead_owners"):
        with monkeypatch.context() as patch:
            patch.setattr(world.books, method, away)
            with pytest.raises(QueueUnavailable):
                await reconciler.reconcile()
    await reconciler.reconcile()
    assert (await world.record()).completion_tokens == 5
    await settled(world)


async def test_a_record_that_cannot_be_read_counts_as_in_flight(world: World) -> None:
    life, admission = await world.a_gateway()
    permit = await sent(world, admission)
    permit.owner.journal.ended(permit.reservation.number, '{"id":"req_1"}')  # of another version, say
    life.close()
    heard(world)
    await world.reconciler().reconcile()
    record = await world.record()
    assert (record.id, record.status, record.completion_tokens) == ("req_1", "cancelled", 5)
    assert (await world.state()).spent == 12
    await settled(world)


async def test_a_journal_that_cannot_be_wound_up_is_told_of_once_and_the_others_are(world: World) -> None:
    await dead(world)
    (world.journals / "a_second.journal").mkdir()  # cannot be read
    of_another_version = world.journals / "a_first.journal"
    of_another_version.write_text('= 0 {"who": "acme"}\n+ 1 0 req_0 60 40 9 general auto:code r1 http://x 1.0\n')
    heard(world)
    reconciler = world.reconciler()
    with capture_logs() as said:
        reconciling = asyncio.create_task(reconciler.reconcile_forever())
        async with asyncio.timeout(20):
            while await world.books.dead_owners() or not await world.records():  # noqa: ASYNC110 - it goes on beside us
                await asyncio.sleep(0)
        for _ in range(3):
            await world.clock.advance(LOOK_EVERY_S)
        assert not reconciling.done()
        reconciling.cancel()
    assert (await world.record()).completion_tokens == 5
    assert (await world.state()).spent == 12
    told = [line for line in said if line["log_level"] == "error"]
    assert [(line["event"], line["owner"]) for line in told] == [
        ("budgets: a dead gateway's journal cannot be wound up", "a_first"),
        ("budgets: a dead gateway's journal cannot be wound up", "a_second"),
    ]
    left = {path.stem for path in world.journals.glob("*")}
    assert left == {"a_first", "a_second"}  # for somebody to look at


async def test_redis_that_answers_for_one_alone_keeps_the_others_not_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await dead(world)
    await dead(world)
    heard(world)
    settle = world.books.settle

    async def refusing(owner: str, items: Sequence[Settlement]) -> Any:
        if owner == first.owner.name:
            raise QueueUnavailable("Redis refused: out of memory")
        return await settle(owner, items)

    with monkeypatch.context() as patch:
        patch.setattr(world.books, "settle", refusing)
        with pytest.raises(QueueUnavailable):
            await world.reconciler().reconcile()
        assert (await world.record()).completion_tokens == 5
        assert [path.stem for path in world.journals.glob("*")] == [first.owner.name]


async def test_a_gateway_that_lives_is_left_alone(world: World) -> None:
    life, admission = await world.a_gateway()
    permit = await sent(world, admission)
    await world.reconciler().reconcile()
    assert await world.records() == []
    assert permit.is_open
    assert (await world.state()).leased >= 100
    life.close()


# --- without one ------------------------------------------------------------------------------------------------------


async def test_a_machine_that_does_not_come_back_has_spent_what_it_held(world: World, tmp_path: Path) -> None:
    life, admission = await world.a_gateway(tmp_path / "elsewhere")
    await sent(world, admission)
    held = (await world.state()).leased
    slots = await world.state(SLOTS)
    assert (held, slots.leased > 0) == (325, True)
    reconciler = world.reconciler()
    await world.clock.advance(OWNER_TTL_S)
    await reconciler.reconcile()
    await world.clock.advance(PATIENCE_S - 0.1)
    await reconciler.reconcile()
    assert (await world.state()).leased == held
    await world.clock.advance(0.1)
    await reconciler.reconcile()
    assert (await world.state()).spent == held
    assert (await world.state(SLOTS)).spent == 0
    assert await world.books.dead_owners() == []
    life.close()


async def test_a_machine_that_comes_back_in_time_settles_what_it_had(world: World, tmp_path: Path) -> None:
    life, admission = await world.a_gateway(tmp_path / "elsewhere")
    await sent(world, admission)
    heard(world)
    life.close()
    reconciler = world.reconciler()
    await world.clock.advance(OWNER_TTL_S)
    await reconciler.reconcile()
    await world.clock.advance(PATIENCE_S - 1)
    world.journals = tmp_path / "elsewhere"
    await world.reconciler("gw_there").reconcile()
    await world.clock.advance(5)
    await reconciler.reconcile()
    assert (await world.record()).completion_tokens == 5
    assert (await world.state()).spent == 12
    await settled(world)


async def test_who_is_heard_of_again_is_not_forgotten_but_begins_anew(world: World, tmp_path: Path) -> None:
    """A gateway that was only slow: its patience starts again with the next silence."""
    life, admission = await world.a_gateway(tmp_path / "elsewhere")
    await sent(world, admission)
    reconciler = world.reconciler()
    await world.clock.advance(OWNER_TTL_S)
    await reconciler.reconcile()
    await life.renew()
    await world.clock.advance(PATIENCE_S / 2)
    await life.renew()
    await reconciler.reconcile()
    await world.clock.advance(OWNER_TTL_S + PATIENCE_S / 2)
    await reconciler.reconcile()
    assert (await world.state()).spent == 0
    life.close()


async def test_what_a_request_that_had_ended_left_over_is_not_claimed_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of its reservation went to the next request before Redis knew of its end: together they hold what their
    owner had set aside, and no more, also while it is wound up."""
    life, admission = await world.a_gateway()
    quote = Quote(60, 1, 40, is_elastic=False, prices=PLATFORM.llm.models["general"].prices)
    for number in range(20):
        permit = await admission.admit(TERMS, quote)
        where = {"replica_id": "r1", "replica_url": world.engine.url}
        admission.sent(permit, request_id=f"req_{number}", model="general", route="auto", **where)
        caller = Caller("acme", "k", "s", "run-1", "red")
        charge = Charge(f"req_{number}", "request", caller, "general", None, quote.prices, 1.0)
        charge.saw_usage({"prompt_tokens": 1, "completion_tokens": 1})
        ending = asyncio.create_task(admission.settle(permit, charge.record("done", 2.0)))
        await asyncio.sleep(0)  # it has ended here, and nobody tells Redis
        ending.cancel()
    life.close()

    seen = []
    forfeit = world.books.forfeit

    async def and_look(*args: Any, **options: Any) -> bool:
        done = await forfeit(*args, **options)
        seen.append(await world.state())
        return done

    monkeypatch.setattr(world.books, "forfeit", and_look)
    await world.reconciler().reconcile()
    assert [(state.spent, state.leased) for state in seen] == [(40, 0)]
    assert len(await world.records()) == 20


async def test_a_gateway_that_leaves_before_the_last_request_is_settled_frees_nothing_of_it(world: World) -> None:
    life, admission = await world.a_gateway()
    quote = Quote(60, 1, 40, is_elastic=False, prices=PLATFORM.llm.models["general"].prices)
    permit = await admission.admit(TERMS, quote)
    where = {"replica_id": "r1", "replica_url": world.engine.url}
    admission.sent(permit, request_id="req_1", model="general", route="auto", **where)
    before = (await world.state()).leased
    await life.leave()
    assert (await world.state()).leased == before >= 100

    reconciler = world.reconciler()
    await reconciler.reconcile()
    await world.clock.advance(NEVER_CAME_S)
    await reconciler.reconcile()
    assert ((await world.state()).spent, (await world.state()).leased) == (0, 0)
    assert len(await world.records()) == 1

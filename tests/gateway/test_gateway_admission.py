"""Admission alone: books in memory, a clock that stands still, no HTTP."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stoker.base.errors import BudgetExhausted, InvalidInput, QueueUnavailable, Refused, Unavailable
from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.gateway import admission as module
from stoker.gateway.admission import Admission, Permit
from stoker.gateway.bounds import Quote
from stoker.gateway.journal import abandoned
from stoker.gateway.limits import Terms
from stoker.gateway.measures import Measures
from stoker.gateway.owner import CLOSED_AFTER_S, OWNER_TTL_S, Life
from stoker.gateway.rebuild import Rebuild
from stoker.gateway.settling import Settler
from stoker.meter.accounts import Account, TeamTerms, TenantTerms
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.texts import text_of
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import IDLE_ROUNDS, Ask
from stoker.queue import MemoryBudgets, MemoryQueue, NewTask, Settlement, TokenBound
from stoker.queue.books import Books
from stoker.queue.budgets import CounterState, Gone, Leased, NotBegun, NotOpen, Renewed, Short
from stoker.spec import Budgets, Prices
from stoker.telemetry.metrics import Metrics
from stoker.testing import ManualClock

NOON = 1_700_049_600.0  # 2023-11-15T12:00:00Z, the beginning of a minute
PRICES = Prices(
    input_usd_per_million_tokens=Decimal(1),
    cached_input_usd_per_million_tokens=Decimal(1),
    output_usd_per_million_tokens=Decimal(1),
)


class Moody(MemoryBudgets):
    """Books whose Redis goes away, loses everything, or stops in the middle of a lease."""

    def __init__(self, queue: MemoryQueue, clock: ManualClock) -> None:
        super().__init__(queue, clock=clock)
        self.is_away = False
        self.leases = 0
        self.pause: asyncio.Event | None = None
        self.is_paused = asyncio.Event()

    def loses_everything(self) -> None:
        self._books.__init__()  # type: ignore[misc]  # the queue shares the object
        assert self._books == Books()

    async def lease(self, owner: str, asks: Sequence[Ask]) -> Leased | Short | NotBegun | NotOpen | Gone:
        self.leases += 1
        self._check()
        if self.pause is not None:
            self.is_paused.set()
            await self.pause.wait()
        return await super().lease(owner, asks)

    async def renew(self, *args: Any, **options: Any) -> Renewed:
        self._check()
        return await super().renew(*args, **options)

    async def settle(self, owner: str, items: Sequence[Settlement]) -> list[bool] | Gone:
        self._check()
        return await super().settle(owner, items)

    def _check(self) -> None:
        if self.is_away:
            raise QueueUnavailable("Redis said nothing")


class World:
    """One gateway's admission, and the Redis and ledger beside it."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.clock = ManualClock(NOON)
        self.queue = MemoryQueue(clock=self.clock)
        self.books = Moody(self.queue, self.clock)
        self.ledger = Ledger(store)
        self.directory = directory
        self.life, self.admission = self.another()

    def another(self) -> tuple[Life, Admission]:
        """Another gateway on the same Redis."""
        settler = Settler(self.queue, self.ledger, "test", self.clock)
        rebuild = Rebuild(self.ledger, settler)
        life = Life(self.books, rebuild, self.directory, self.clock)
        return life, Admission(self.books, life, rebuild, Measures(Metrics()))

    async def state(self, counter: str) -> CounterState:
        [state] = await self.books.state([counter])
        assert state is not None
        return state

    async def pass_(self, seconds: float) -> None:
        """Time passes, and then this gateway is heard of."""
        await self.clock.advance(seconds)
        await self.life.renew()

    async def settle(self, permit: Permit, tokens: int, *, request_id: str = "req_1") -> None:
        settling = asyncio.create_task(self.admission.settle(permit, a_record(request_id, tokens, self.clock.now())))
        await asyncio.sleep(0)
        await self.admission.settle_waiting()
        await settling


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made = World(tmp_path / "journals", store)
    await made.life.begin()
    yield made
    made.life.close()
    store.close()


def terms(when_redis_is_away: Any = "closed", session: str | None = None, **levels: Budgets) -> Terms:
    tenant = TenantTerms(
        "acme",
        levels.get("tenant", Budgets()),
        session_budgets=levels.get("session_budgets", Budgets()),
        when_redis_is_away=when_redis_is_away,
    )
    team = TeamTerms("red", levels["team"]) if "team" in levels else None
    account = Account(
        id="k",
        name="",
        role="user",
        tenant_terms=tenant,
        team_terms=team,
        budgets_text=text_of(levels.get("key", Budgets())),
    )
    return Terms(account, session, None)


def quote(prompt: int = 10, output: int = 90, *, is_elastic: bool = False) -> Quote:
    return Quote(prompt, 1, output, is_elastic=is_elastic, prices=PRICES)


def a_record(request_id: str, tokens: int, now: float) -> UsageRecord:
    return UsageRecord(
        id=request_id,
        kind="request",
        status="done",
        tenant="acme",
        key_id="k",
        model="general",
        prompt_tokens=tokens,
        completion_tokens=0,
        nano_usd=tokens * 1000,
        started_at=now,
        ended_at=now,
    )


KEY_TOKENS = "key:k:tokens:total"
BUDGET = terms(key=Budgets(tokens_total=1000))


# --- admitted and settled ---------------------------------------------------------------------------------------------


async def test_a_request_reserves_the_most_it_could_cost_and_settles_what_it_did(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    assert [(part.counter, part.amount) for part in permit.reservation.parts] == [(KEY_TOKENS, 100)]
    assert (permit.bound.tokens, permit.is_sent) == (100, False)
    await world.settle(permit, 40)
    assert (await world.state(KEY_TOKENS)).spent == 40
    [(_, record)] = await world.queue.read_usage("c")
    assert (record.id, record.prompt_tokens) == ("req_1", 40)


async def test_the_second_settlement_of_a_permit_does_nothing(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    await world.settle(permit, 40)
    await world.admission.settle(permit, a_record("again", 99, NOON))
    world.admission.release(permit)
    world.admission.handed_over(permit)
    assert (await world.state(KEY_TOKENS)).spent == 40
    assert len(await world.queue.read_usage("c")) == 1


async def test_what_costs_more_than_was_reserved_is_counted_in_full(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    await world.settle(permit, 130)
    assert (await world.state(KEY_TOKENS)).spent == 130


async def test_a_request_under_no_budget_asks_nobody_and_has_a_record(world: World) -> None:
    permit = await world.admission.admit(terms(), quote())
    assert (world.books.leases, world.admission.hold(permit)) == (0, None)
    await world.settle(permit, 40)
    assert len(await world.queue.read_usage("c")) == 1


async def test_all_levels_are_reserved_or_none(world: World) -> None:
    of_tenant = Budgets(usd_total=Decimal("0.00015"))
    await world.admission.admit(terms(tenant=of_tenant), quote())
    both = terms(key=Budgets(tokens_total=1000), tenant=of_tenant)
    with pytest.raises(BudgetExhausted):
        await world.admission.admit(both, quote())
    assert await world.books.state([KEY_TOKENS]) == [CounterState(0, 0, 0, 1000)]
    permit = await world.admission.admit(both, quote(prompt=10, output=40))
    assert [part.amount for part in permit.reservation.parts] == [50, 50_000]


async def test_most_requests_do_not_ask_redis(world: World) -> None:
    many = terms(key=Budgets(tokens_total=10_000))
    await world.admission.admit(many, quote())
    asked = world.books.leases
    for _ in range(7):
        await world.admission.admit(many, quote())
    assert world.books.leases == asked


async def test_what_was_released_can_be_reserved_again(world: World) -> None:
    for _ in range(30):
        permit = await world.admission.admit(BUDGET, quote(output=990))
        world.admission.release(permit)
        world.admission.release(permit)
    assert not permit.is_open
    assert (await world.state(KEY_TOKENS)).spent == 0


async def test_no_more_are_admitted_at_once_than_fit(world: World) -> None:
    asking = [world.admission.admit(terms(key=Budgets(concurrent_requests=5)), quote()) for _ in range(64)]
    got = await asyncio.gather(*asking, return_exceptions=True)
    permits = [each for each in got if isinstance(each, Permit)]
    assert len(permits) == 5
    assert {type(each) for each in got} == {Permit, Refused}
    await world.settle(permits[0], 1)
    assert await world.admission.admit(terms(key=Budgets(concurrent_requests=5)), quote())


async def test_a_minute_that_ends_meanwhile_is_settled_in_the_minute_of_its_admission(world: World) -> None:
    minute = terms(key=Budgets(tokens_per_minute=100))
    permit = await world.admission.admit(minute, quote())
    with pytest.raises(Refused):
        await world.admission.admit(minute, quote())
    await world.pass_(60)
    again = await world.admission.admit(minute, quote())
    await world.settle(permit, 30)
    assert (await world.state("key:k:tokens:minute:2023-11-15T1200")).spent == 30
    assert (await world.state("key:k:tokens:minute:2023-11-15T1201")).spent == 0
    await world.settle(again, 20, request_id="req_2")
    assert (await world.state("key:k:tokens:minute:2023-11-15T1201")).spent == 20


# --- near the end of a budget -----------------------------------------------------------------------------------------


async def test_an_answer_of_no_stated_length_is_shortened_to_what_is_left(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote(output=5000, is_elastic=True))
    assert (permit.quote.output_tokens, permit.bound.tokens) == (990, 1000)


async def test_money_shortens_as_tokens_do_and_the_tighter_one_decides(world: World) -> None:
    both = terms(key=Budgets(tokens_total=500), tenant=Budgets(usd_total=Decimal("0.0002")))
    permit = await world.admission.admit(both, quote(output=5000, is_elastic=True))
    assert (permit.bound.tokens, permit.bound.nano_usd) == (200, 200_000)


async def test_an_answer_is_not_shortened_to_nothing(world: World) -> None:
    small = terms(key=Budgets(tokens_total=125))
    await world.admission.admit(small, quote())
    with pytest.raises(BudgetExhausted) as caught:
        await world.admission.admit(small, quote(output=90, is_elastic=True))
    assert caught.value.message == (
        "the key's budget of 125 tokens has 25 tokens left; this request could take 100 tokens"
    )
    fits = terms(key=Budgets(tokens_total=126))
    assert (await world.admission.admit(fits, quote(output=90, is_elastic=True))).quote.output_tokens == 16


async def test_a_length_that_was_asked_for_is_refused_and_not_shortened(world: World) -> None:
    await world.admission.admit(BUDGET, quote())
    leased = (await world.state(KEY_TOKENS)).leased
    with pytest.raises(BudgetExhausted):
        await world.admission.admit(BUDGET, quote(output=950))
    assert (await world.state(KEY_TOKENS)).leased == leased


async def test_what_another_gateway_does_not_use_is_given_back_within_a_renewal(world: World) -> None:
    life, other = world.another()
    await life.begin()
    small = await other.admit(BUDGET, quote(prompt=10, output=0))
    other.release(small)
    assert life.owner.slices.unused(KEY_TOKENS) == 80
    asking = asyncio.create_task(world.admission.admit(BUDGET, quote(output=960)))
    await asyncio.sleep(0)
    await world.clock.advance(0.1)
    assert not asking.done()
    await life.renew()
    await world.clock.advance(0.75)
    assert (await asking).bound.tokens == 970
    life.close()


async def test_who_waited_for_one_renewal_in_vain_is_refused(world: World) -> None:
    life, other = world.another()
    await life.begin()
    other.release(await other.admit(BUDGET, quote(prompt=10, output=0)))
    asking = asyncio.create_task(world.admission.admit(BUDGET, quote(output=960)))
    await asyncio.sleep(0)
    await world.clock.advance(0.75)  # the other one does not renew: it is busy, or dead
    with pytest.raises(BudgetExhausted, match="has 920 tokens left; this request could take 970 tokens"):
        await asking
    life.close()


# --- what a refusal says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budgets", "error", "code", "message", "retry_after_s"),
    [
        (
            Budgets(requests_per_minute=1),
            Refused,
            "requests_budget_exceeded",
            "the key's budget of 1 requests per minute has 0 requests left; this request could take 1 requests",
            50.0,
        ),
        (
            Budgets(tokens_per_day=150),
            Refused,
            "tokens_budget_exceeded",
            "the key's budget of 150 tokens per day has 50 tokens left; this request could take 100 tokens",
            12 * 3600 - 10,
        ),
        (
            Budgets(usd_per_month=Decimal("0.00015")),
            Refused,
            "usd_budget_exceeded",
            "the key's budget of $0.00015 per month has $0.00005 left; this request could take $0.0001",
            15.5 * 86400 - 10,
        ),
        (
            Budgets(usd_total=Decimal("0.00015")),
            BudgetExhausted,
            "budget_exhausted",
            "the key's budget of $0.00015 has $0.00005 left; this request could take $0.0001",
            None,
        ),
        (
            Budgets(concurrent_requests=1),
            Refused,
            "too_many_requests",
            "the key's budget of 1 requests at once has 0 requests at once left; "
            "this request could take 1 requests at once",
            1.0,
        ),
    ],
)
async def test_a_refusal_says_which_budget_what_is_left_and_when_it_renews(
    world: World, budgets: Budgets, error: type[Refused], code: str, message: str, retry_after_s: float | None
) -> None:
    limited = terms(key=budgets)
    await world.admission.admit(limited, quote())
    await world.pass_(10)
    with pytest.raises(Refused) as caught:
        await world.admission.admit(limited, quote())
    assert type(caught.value) is error
    assert (caught.value.code, caught.value.message) == (code, message)
    assert caught.value.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("level", "word"), [("key", "key"), ("team", "team"), ("tenant", "tenant"), ("session_budgets", "session")]
)
async def test_a_refusal_names_the_level(world: World, level: str, word: str) -> None:
    limited = terms(session="s", **{level: Budgets(tokens_total=150)})
    await world.admission.admit(limited, quote())
    with pytest.raises(BudgetExhausted, match=f"^the {word}'s budget of 150 tokens has 50 tokens left"):
        await world.admission.admit(limited, quote())


TOKENS_MOST = "this request could take 100 tokens (10 of prompt and 90 of answer at most); "
USD_MOST = "this request could cost $0.0001; "


@pytest.mark.parametrize(
    ("level", "budgets", "message"),
    [
        ("key", Budgets(tokens_per_minute=99), TOKENS_MOST + "the key's budget is 99 tokens per minute"),
        ("team", Budgets(tokens_per_day=99), TOKENS_MOST + "the team's budget is 99 tokens per day"),
        ("tenant", Budgets(tokens_per_month=99), TOKENS_MOST + "the tenant's budget is 99 tokens per month"),
        ("session_budgets", Budgets(tokens_total=99), TOKENS_MOST + "the session's budget is 99 tokens"),
        (
            "key",
            Budgets(usd_per_month=Decimal("0.000099999")),
            USD_MOST + "the key's budget is $0.000099999 per month",
        ),
        ("tenant", Budgets(usd_total=Decimal("0.00005")), USD_MOST + "the tenant's budget is $0.00005"),
    ],
)
async def test_what_is_larger_than_a_whole_budget_is_the_callers_mistake_and_not_told_to_wait(
    world: World, level: str, budgets: Budgets, message: str
) -> None:
    limited = terms(session="s", **{level: budgets})
    with pytest.raises(InvalidInput) as caught:
        await world.admission.admit(limited, quote())
    assert (caught.value.code, caught.value.message) == ("request_over_budget", message)
    assert caught.value.hint == "ask for a shorter answer, or send less"
    assert world.books.leases == 0


async def test_what_is_on_its_way_to_the_ledger_counts_when_a_counter_begins(world: World) -> None:
    """Redis is asked for the counter for the first time, and the record is still in the stream."""
    await world.queue.append_usage(a_record("req_0", 950, NOON))
    with pytest.raises(BudgetExhausted, match="has 50 tokens left; this request could take 100 tokens"):
        await world.admission.admit(BUDGET, quote())
    assert (await world.state(KEY_TOKENS)).spent == 950


async def test_the_whole_of_a_budget_may_be_taken_by_one_request(world: World) -> None:
    whole = terms(key=Budgets(tokens_per_minute=100, usd_total=Decimal("0.0001")))
    assert (await world.admission.admit(whole, quote())).bound.tokens == 100


async def test_a_budget_that_another_one_hides_is_told_of_all_the_same(world: World) -> None:
    """The key's minute is used up; but waiting for it would be in vain."""
    both = terms(key=Budgets(tokens_per_minute=150), tenant=Budgets(tokens_per_month=120))
    await world.admission.admit(both, quote())
    with pytest.raises(InvalidInput, match="the tenant's budget is 120 tokens per month"):
        await world.admission.admit(both, quote(output=111))


async def test_an_answer_of_no_stated_length_is_shortened_before_a_request_is_larger_than_a_budget(
    world: World,
) -> None:
    fits = terms(key=Budgets(tokens_per_minute=26))
    assert (await world.admission.admit(fits, quote(output=5000, is_elastic=True))).quote.output_tokens == 16
    with pytest.raises(Refused, match="has 0 tokens left") as refused:
        await world.admission.admit(fits, quote(output=5000, is_elastic=True))
    assert refused.value.retry_after_s == 60.0  # in the next minute it fits, shortened
    with pytest.raises(InvalidInput) as caught:
        await world.admission.admit(terms(key=Budgets(tokens_per_minute=25)), quote(output=5000, is_elastic=True))
    assert caught.value.message == (
        "this request could take 26 tokens (10 of prompt and 16 of answer at most); "
        "the key's budget is 25 tokens per minute"
    )
    tiny = quote(output=5, is_elastic=True)  # of a model whose answers are never longer
    assert (await world.admission.admit(terms(tenant=Budgets(tokens_total=15)), tiny)).bound.tokens == 15


async def test_a_limit_that_was_lowered_below_what_a_request_needs_is_not_waited_for(world: World) -> None:
    world.admission.release(await world.admission.admit(BUDGET, quote()))
    with pytest.raises(InvalidInput, match="the key's budget is 99 tokens"):
        await world.admission.admit(terms(key=Budgets(tokens_total=99)), quote())


async def test_what_is_larger_than_one_request_may_be_is_the_callers_mistake(world: World) -> None:
    with pytest.raises(InvalidInput) as caught:
        await world.admission.admit(terms(key=Budgets(request_tokens=99)), quote())
    assert caught.value.message == (
        "this request could take 100 tokens (10 of prompt and 90 of answer at most); one request may take 99"
    )
    with pytest.raises(InvalidInput) as caught:
        await world.admission.admit(terms(key=Budgets(request_usd=Decimal("0.00005"))), quote())
    assert caught.value.message == "this request could cost $0.0001; one request may cost $0.00005"
    permit = await world.admission.admit(terms(key=Budgets(request_tokens=99)), quote(is_elastic=True))
    assert permit.bound.tokens == 99


async def test_no_request_is_larger_than_the_ledger_can_say(world: World) -> None:
    with pytest.raises(InvalidInput, match="one request may take 2147483647"):
        await world.admission.admit(terms(), quote(prompt=2**31, output=1))
    assert (await world.admission.admit(terms(), quote(output=2**31, is_elastic=True))).bound.tokens == 2**31 - 1


# --- Redis is away ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mood", "patience_s"), [("closed", CLOSED_AFTER_S), ("open", OWNER_TTL_S)])
async def test_without_redis_a_tenant_goes_on_for_as_long_as_it_said(
    world: World, mood: str, patience_s: float
) -> None:
    limited = terms(mood, key=Budgets(tokens_total=100_000))
    await world.life.renew()
    world.admission.release(await world.admission.admit(limited, quote()))
    world.books.is_away = True
    await world.clock.advance(patience_s)
    world.admission.release(await world.admission.admit(limited, quote()))
    await world.clock.advance(0.1)
    with pytest.raises(Unavailable) as caught:
        await world.admission.admit(limited, quote())
    assert (caught.value.code, caught.value.retry_after_s) == ("budgets_unavailable", 1.0)
    assert caught.value.message == f"budgets cannot be checked: Redis has not answered for {patience_s:.0f} s"
    # Who falls under no budget has nothing to do with Redis.
    assert await world.admission.admit(terms(), quote())
    world.books.is_away = False
    await world.life.renew()
    assert await world.admission.admit(limited, quote())


async def test_without_redis_no_more_than_the_slice_is_admitted(world: World) -> None:
    limited = terms("open", key=Budgets(tokens_total=1000))
    await world.admission.admit(limited, quote())
    held = (await world.state(KEY_TOKENS)).leased
    world.books.is_away = True
    assert 200 <= held < 1000
    for _ in range(held // 100 - 1):
        await world.admission.admit(limited, quote())
    with pytest.raises(Unavailable, match="Redis does not answer"):
        await world.admission.admit(limited, quote())


async def test_before_redis_has_answered_once_nothing_is_admitted(world: World) -> None:
    life, fresh = world.another()
    with pytest.raises(Unavailable, match="Redis has not answered yet"):
        await fresh.admit(BUDGET, quote())
    life.close()


async def test_what_ends_while_redis_is_away_waits_and_its_client_does_not(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    world.admission.sent(permit, request_id="req_1", model="m", route="model", replica_id="r", replica_url="http://h")
    world.books.is_away = True
    forever = asyncio.create_task(world.admission.settle_forever())
    record = a_record("req_1", 40, NOON)
    await world.admission.settle(permit, record)
    assert world.admission.unsent == [record]
    world.books.is_away = False
    await world.clock.advance(0.5)
    async with asyncio.timeout(20):
        while world.admission.unsent:  # noqa: ASYNC110 - what is gathered goes out by the loop's own time
            await asyncio.sleep(0.001)
    assert (await world.state(KEY_TOKENS)).spent == 40
    forever.cancel()
    world.life.close()
    [left] = abandoned(world.directory)
    assert left.in_flight == []
    left.done()
    world.life = world.another()[0]


# --- Redis lost its books, or took us for dead ------------------------------------------------------------------------


async def test_what_ends_while_the_ledger_is_asked_is_not_lost_to_the_counter_that_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came before there was a limit, to another gateway, and is in Redis after the ledger was read."""
    life, other = world.another()
    await life.begin()
    permit = await other.admit(terms(), quote())
    asked, loop = world.ledger.spent, asyncio.get_running_loop()

    async def ends() -> None:
        ending = asyncio.create_task(other.settle(permit, a_record("req_1", 60, NOON)))
        await asyncio.sleep(0)
        await other.settle_waiting()
        await ending

    def spent(*args: Any, **options: Any) -> Any:
        found = asked(*args, **options)
        asyncio.run_coroutine_threadsafe(ends(), loop).result(20)
        return found

    monkeypatch.setattr(world.ledger, "spent", spent)
    mine = await world.admission.admit(BUDGET, quote())
    assert (await world.state(KEY_TOKENS)).spent == 60
    world.admission.release(mine)
    life.close()


async def test_counters_that_redis_lost_are_set_up_from_the_ledger(world: World) -> None:
    world.ledger.append([a_record("old", 950, NOON - 1000)])
    await world.books.establish(wait_s=0)
    permit = await world.admission.admit(BUDGET, quote(output=40))
    assert (await world.state(KEY_TOKENS)) == CounterState(950, 50, 0, 1000)
    with pytest.raises(BudgetExhausted, match="has 0 tokens left"):
        await world.admission.admit(BUDGET, quote())
    world.admission.release(permit)


async def test_after_redis_lost_its_books_nothing_is_lent_before_all_have_said_what_they_hold(world: World) -> None:
    life, other = world.another()
    await life.begin()
    theirs = await other.admit(BUDGET, quote(output=690))
    ours = await world.admission.admit(BUDGET, quote(output=190))
    await world.settle(ours, 150)
    await world.admission._rebuild._settler.settle_all()

    world.books.loses_everything()
    with pytest.raises(Unavailable) as caught:
        await world.admission.admit(BUDGET, quote(output=190))
    assert (caught.value.code, caught.value.retry_after_s) == ("budgets_unavailable", OWNER_TTL_S)
    assert caught.value.message == "budgets are being set up again after Redis lost them"
    await life.renew()  # it states what it holds
    await world.clock.advance(OWNER_TTL_S)
    for each in (life, world.life):
        await each.renew()
    assert (await world.state(KEY_TOKENS)).spent == 150
    assert (await world.state(KEY_TOKENS)).leased >= 700
    asking = asyncio.create_task(world.admission.admit(BUDGET, quote(output=190)))
    await asyncio.sleep(0)
    await life.renew()
    await world.clock.advance(0.75)
    with pytest.raises(BudgetExhausted, match="has 150 tokens left; this request could take 200 tokens"):
        await asking
    assert (await world.admission.admit(BUDGET, quote(output=140))).bound.tokens == 150
    other.release(theirs)
    life.close()


async def test_a_process_remembers_the_counters_it_would_have_to_state_and_no_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.gateway.rebuild.SPARE", 0)
    remembered = world.admission._rebuild._known
    for number in range(5):
        one = terms(session=f"s{number}", session_budgets=Budgets(tokens_total=1000))
        world.admission.release(await world.admission.admit(one, quote()))
    assert len(remembered) == 5
    runs = await world.admission.admit(BUDGET, quote())
    ended = await world.admission.admit(terms(team=Budgets(tokens_total=100)), quote())
    settling = asyncio.create_task(world.admission.settle(ended, a_record("ended", 100, NOON)))
    for _ in range(IDLE_ROUNDS + 2):
        await world.pass_(0.5)
    assert set(world.admission._rebuild._known) == {KEY_TOKENS, "team:acme/red:tokens:total"}

    world.books.loses_everything()
    await world.books.establish(wait_s=0)
    await world.life.renew()
    assert (await world.state(KEY_TOKENS)).leased == 100
    assert (await world.state("team:acme/red:tokens:total")).leased == 100
    await world.admission.settle_waiting()
    await settling
    assert (await world.state("team:acme/red:tokens:total")).spent == 100
    world.admission.release(runs)


async def test_the_very_first_start_waits_for_nobody(world: World) -> None:
    assert (await world.admission.admit(BUDGET, quote())).is_open
    assert world.clock.now() == NOON


async def test_a_start_after_a_crash_in_the_first_second_is_not_the_very_first(world: World) -> None:
    """Nothing is in the ledger yet, but a request may run."""
    permit = await world.admission.admit(BUDGET, quote())
    world.admission.sent(permit, request_id="req_1", model="m", route="model", replica_id="r", replica_url="http://h")
    world.life.close()
    world.books.loses_everything()
    world.life, world.admission = world.another()
    await world.life.begin()
    with pytest.raises(Unavailable, match="budgets are being set up again after Redis lost them"):
        await world.admission.admit(BUDGET, quote())


async def test_who_was_taken_for_dead_goes_on_under_a_new_name(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    name = world.life.owner.name
    assert await world.books.take_over(name, "another", ttl_s=30, is_proved_dead=True) is not None
    fresh = await world.admission.admit(BUDGET, quote(output=590))
    assert fresh.owner.name != name
    assert (fresh.owner, permit.owner.name) == (world.life.owner, name)
    # What was in flight under the old name is settled there.
    await world.settle(permit, 40)
    assert (await world.state(KEY_TOKENS)).spent == 40


async def test_books_that_change_for_ever_are_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_begun(owner: str, asks: Sequence[Ask]) -> NotBegun:
        world.books.leases += 1
        return NotBegun(tuple(ask.counter for ask in asks))

    monkeypatch.setattr(world.books, "lease", never_begun)
    with pytest.raises(Unavailable, match="too much changes at once"):
        await world.admission.admit(BUDGET, quote())
    assert world.books.leases == module.TRIES


# --- tasks ------------------------------------------------------------------------------------------------------------


def a_task() -> NewTask:
    return NewTask(
        model=ModelName("general"),
        tenant=TenantName("acme"),
        key_id=KeyId("k"),
        endpoint="/v1/chat/completions",
        body={},
        bound=TokenBound(10, 90),
    )


async def test_a_task_takes_the_reservation_with_it(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    await world.queue.submit(a_task(), hold=world.admission.hold(permit))
    world.admission.handed_over(permit)
    assert not permit.is_open
    state = await world.state(KEY_TOKENS)
    assert (state.held, state.spent) == (100, 0)
    assert world.life.owner.slices.unused(KEY_TOKENS) == state.leased


async def test_a_submission_whose_answer_was_lost_is_resolved_either_way(world: World) -> None:
    arrived, lost = [await world.admission.admit(BUDGET, quote()) for _ in range(2)]
    await world.queue.submit(a_task(), hold=world.admission.hold(arrived))
    assert await world.admission.resolve(arrived) is True
    assert await world.admission.resolve(lost) is False
    assert (await world.state(KEY_TOKENS)).held == 100
    # The one that was given up can not happen any more.
    hold = world.admission.hold(lost)
    assert hold is not None
    assert world.books._books.take_hold(NOON, hold) == "it was settled before"


async def test_a_submission_is_resolved_when_redis_is_back(world: World) -> None:
    permit = await world.admission.admit(BUDGET, quote())
    world.books.is_away = True
    resolving = asyncio.create_task(world.admission.resolve(permit))
    await asyncio.sleep(0)
    await world.clock.advance(5)
    assert not resolving.done()
    world.books.is_away = False
    await world.clock.advance(0.5)
    assert await resolving is False
    assert not permit.is_open


# --- clients that leave -----------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_in_the_middle_of_a_lease_leaves_nothing_reserved(world: World) -> None:
    world.books.pause = asyncio.Event()
    leaving = asyncio.create_task(world.admission.admit(BUDGET, quote()))
    waiting = asyncio.create_task(world.admission.admit(BUDGET, quote(output=990)))
    await world.books.is_paused.wait()
    leaving.cancel()
    await asyncio.wait({leaving})
    assert leaving.cancelled()
    world.books.pause.set()
    assert (await waiting).bound.tokens == 1000
    world.admission.release(await waiting)
    assert world.life.owner.slices.holding() == [(KEY_TOKENS, 1000)]
    assert world.life.owner.slices.unused(KEY_TOKENS) == 1000


async def test_a_client_that_leaves_while_it_waits_for_a_renewal_leaves_nothing_reserved(world: World) -> None:
    life, other = world.another()
    await life.begin()
    other.release(await other.admit(BUDGET, quote(prompt=10, output=0)))
    leaving = asyncio.create_task(world.admission.admit(BUDGET, quote(output=960)))
    await asyncio.sleep(0)
    await world.clock.advance(0.1)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert world.life.owner.slices.holding() == []
    life.close()


# --- what is left -----------------------------------------------------------------------------------------------------


async def test_what_is_left_is_what_could_still_be_reserved(world: World) -> None:
    assert world.admission.left(BUDGET) == []
    permit = await world.admission.admit(BUDGET, quote())
    [(counter, left)] = world.admission.left(BUDGET)
    assert (counter.name, left) == (KEY_TOKENS, 900)
    await world.settle(permit, 40)
    [(_, left)] = world.admission.left(BUDGET)
    assert left == 960


# --- many new callers at once -----------------------------------------------------------------------------------------


async def test_callers_that_come_together_are_set_up_by_one_look_into_the_ledger(world: World) -> None:
    looks: list[int] = []
    settle_all = world.admission._rebuild._settler.settle_all

    async def counted() -> None:
        looks.append(1)
        await settle_all()

    world.admission._rebuild._settler.settle_all = counted  # type: ignore[method-assign]
    callers = [a_caller(number) for number in range(50)]
    permits = await asyncio.gather(*(world.admission.admit(caller, quote()) for caller in callers))
    assert all(permit.is_open for permit in permits)
    assert len(looks) == 1


async def test_one_that_is_given_up_does_not_take_the_look_of_the_others_along(world: World) -> None:
    first = asyncio.create_task(world.admission.admit(a_caller(1), quote()))
    second = asyncio.create_task(world.admission.admit(a_caller(2), quote()))
    spent, is_asked, may_answer = world.ledger.spent, threading.Event(), threading.Event()

    def noted(*args: Any, **options: Any) -> Any:
        is_asked.set()
        may_answer.wait()
        return spent(*args, **options)

    world.ledger.spent = noted  # type: ignore[method-assign]
    await asyncio.to_thread(is_asked.wait)
    first.cancel()
    may_answer.set()
    assert (await second).is_open
    assert first.cancelled()


async def test_a_ledger_that_does_not_answer_refuses_those_who_wait_and_no_one_else(world: World) -> None:
    world.ledger.spent = refuses  # type: ignore[method-assign]
    asked = [world.admission.admit(a_caller(number), quote()) for number in range(3)]
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(end) for end in ends] == [Unavailable] * 3
    del world.ledger.spent
    assert (await world.admission.admit(a_caller(0), quote())).is_open


def refuses(*_: object, **__: object) -> None:
    raise Unavailable("the ledger's database refused", code="ledger_unavailable")


def a_caller(number: int) -> Terms:
    budgets = text_of(Budgets(tokens_total=1000))
    tenant = TenantTerms("acme", Budgets())
    return Terms(Account(id=f"k{number}", name="", role="user", tenant_terms=tenant, budgets_text=budgets), None, None)

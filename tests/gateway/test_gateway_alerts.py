"""Budgets that are being used up: who is told, of what, how often, and after which faults."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import boto3
import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, SPEC, Stack, a_stack, until

from stoker.base.errors import InvalidInput, StokerError
from stoker.gateway import alerts
from stoker.gateway.alerts import Alerts, scopes_in
from stoker.gateway.callbacks import TIMEOUT_S, Outcome
from stoker.gateway.limits import TermsOfCallers
from stoker.gateway.settling import Settler
from stoker.meter import UsageRecord
from stoker.meter.accounts import Account, TenantTerms
from stoker.meter.alerts import Alert, AlertStore
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.policy.budgets import Amounts, Counter, Plan, Spent, Unit
from stoker.queue import MemoryBudgets, MemoryQueue, MemoryRegistry
from stoker.queue.budgets import Settlement, Standing, scopes_of
from stoker.spec import loads
from stoker.testing import ManualClock
from stoker.testing.aws import CREDENTIALS
from stoker.testing.receiver import Got, Receiver

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
NOON = 1_799_971_200.0  # 2027-01-15 00:00 UTC, a month's middle
NOON += 43_200.0


def a_spec(url: str, *, budgets: str = "{tokensPerDay: 400}", more: str = "") -> str:
    base = SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", f"acme: {{budgets: {budgets}}}")
    webhook = f"{{url: '{url}', secretEnv: ALERTS_SECRET, networks: [127.0.0.1]}}"
    return f"{base}\ncosts: {{alerts: {{webhook: {webhook}{more}}}}}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_SECRET", SECRET)
    monkeypatch.setattr(alerts, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("stoker.gateway.settling.PAUSE_S", 0.01)
    monkeypatch.setattr(alerts, "retry_in_s", lambda tries, random: 0.01)


def is_signed(got: Got) -> bool:
    """As a receiver checks it, by the specification alone."""
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    digest = base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
    return got.headers["webhook-signature"] == f"v1,{digest}"


def thresholds(those: list[Got]) -> list[float | None]:
    return [got.json["data"]["threshold"] for got in those]


# --- whole gateways ---------------------------------------------------------------------------------------------------


async def test_a_tenant_that_spends_all_is_told_of_once_and_in_order_whoever_is_restarted_or_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two gateways, of which one is replaced; a receiver that is down at first."""
    queue, registry = MemoryQueue(), MemoryRegistry()
    async with AsyncExitStack() as parts:
        receiver = await parts.enter_async_context(Receiver(503, 503, 503))
        platform = loads(a_spec(f"{receiver.url}/budgets"))

        async def start() -> Stack:
            made = a_stack(tmp_path, platform=platform, queue=queue, registry=registry, budgets=MemoryBudgets(queue))
            return await parts.enter_async_context(made)

        gateways = [await start(), await start()]
        await gateways[0].engine()
        await gateways[1].gateway.fleet.refresh()

        async def spend_until(is_enough: Callable[[], bool]) -> None:
            for number in range(200):
                if is_enough():
                    return
                client = await gateways[number % 2].http()
                body = {"model": "general", "messages": HELLO, "max_tokens": 4}
                answer = await client.request("POST", "/v1/chat/completions", body=body)
                assert answer.status in (200, 429)
                refused.append(answer.status == 429)
                await gateways[1 - number % 2].records()

        refused: list[bool] = []
        await spend_until(lambda: sum(refused) == 0 and len(receiver.got) >= 1)
        await gateways[0].shut()
        gateways[0] = await start()
        await gateways[0].gateway.fleet.refresh()
        await spend_until(lambda: sum(refused) >= 2)
        store = AlertStore(gateways[0].store)
        await until(lambda: [each.state for each in store.all()] == ["told"] * 3)
        await asyncio.sleep(0.05)  # nobody tells anything twice
        rows = (await (await gateways[1].http(ADMIN_KEY)).get_json("/admin/v1/budgets"))["budgets"]
    taken = receiver.got[3:]
    assert {got.path for got in receiver.got} == {"/budgets"}
    assert all(is_signed(got) for got in receiver.got)
    assert thresholds(receiver.got) == [0.5, 0.5, 0.5, 0.5, 0.8, None]
    assert len({got.headers["webhook-id"] for got in receiver.got}) == len(taken) == 3
    last = taken[-1].json
    assert last["type"] == "budget.refused"
    assert (last["data"]["scope"], last["data"]["id"], last["data"]["budget"]) == ("tenant", "acme", "tokensPerDay")
    [shown] = [row["alert"] for row in rows if row["alert"] is not None]
    assert (shown["threshold"], shown["told"]) == (None, {"webhook": "told"})
    said = capsys.readouterr()
    assert SECRET.removeprefix("whsec_") not in said.out + said.err


async def test_sns_is_told_what_the_webhook_would_be(
    tmp_path: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    sns, sqs = boto3.client("sns", region_name="us-west-2"), boto3.client("sqs", region_name="us-west-2")
    topic = sns.create_topic(Name="told-of-budgets")["TopicArn"]
    queue = sqs.create_queue(QueueName="told-of-budgets")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-west-2:123456789012:told-of-budgets")
    base = SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", "acme: {budgets: {tokensTotal: 60}}")
    platform = loads(f"{base}\ncosts: {{alerts: {{thresholds: [0.1], sns: told-of-budgets}}}}")
    async with a_stack(tmp_path, platform=platform) as stack:
        await stack.engine()
        client = await stack.http()
        await client.post_json("/v1/chat/completions", {"model": "general", "messages": HELLO, "max_tokens": 4})
        store = AlertStore(stack.store)
        await until(lambda: [each.state for each in store.all()] == ["told"])
    [message] = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    notice = json.loads(message["Body"])
    assert notice["Subject"] == "tenant acme: 10% is spent of tokensTotal"
    assert json.loads(notice["Message"])["data"]["limit"] == 60
    assert notice["MessageAttributes"]["scope"]["Value"] == "tenant"
    for each in (sns, sqs):
        each.close()


async def test_a_secret_that_is_none_stops_the_start_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERTS_SECRET", "hunter2hunter2")
    with pytest.raises(InvalidInput, match=r"costs\.alerts\.webhook\.secretEnv names ALERTS_SECRET") as error:
        async with a_stack(tmp_path, platform=loads(a_spec("https://hooks.example.com"))):
            pass
    assert "hunter2" not in str(error.value)


# --- exactly ----------------------------------------------------------------------------------------------------------


class World:
    """Budgets, a ledger and alerts on a clock that stands, with a receiver."""

    def __init__(self, folder: Path, text: str) -> None:
        self.clock = ManualClock(start=NOON)
        self.platform = loads(text)
        self.store = Store(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.budgets = MemoryBudgets(MemoryQueue(), clock=self.clock)
        self.keys, self.tenants = KeyStore(self.store, self.clock), TenantStore(self.store, self.clock)
        self.tenants.ensure(self.platform.tenants)
        self.ledger = Ledger(self.store)
        self.key = self.keys.ensure(KEY, tenant="acme", name="one", role="user")
        self.alerts = self.begin()
        self.numbers = iter(range(1, 10**6))

    def begin(self) -> Alerts:
        """As a gateway that starts."""
        return Alerts(
            self.platform,
            store=AlertStore(self.store),
            budgets=self.budgets,
            keys=self.keys,
            tenants=self.tenants,
            ledger=self.ledger,
            clock=self.clock,
            random=Random(1),
        )

    async def open(self) -> None:
        await self.budgets.establish(wait_s=0)
        await self.budgets.enter("gw", ttl_s=1e9)

    async def spend(self, tokens: int, *, tenant: str = "acme", limits: Any = None) -> UsageRecord:
        """One request of so many tokens by the tenant, settled and in the ledger, as gateways do it."""
        now, number = self.clock.now(), next(self.numbers)
        terms = self.tenants.get(tenant).terms
        from stoker.meter.limits import limits_of
        from stoker.policy.budgets import Ask, Scope

        spent = []
        for counter in Plan(each.limit for each in limits_of(Scope("tenant", tenant), terms.budgets)).at(now):
            await self.budgets.begin(counter.name, 0, expires_at=None)
            await self.budgets.lease("gw", [Ask(counter.name, counter.limit, tokens, tokens, None, True)])
            spent.append(Spent(counter.name, tokens, Amounts(1, tokens, 0, 0)[counter.place]))
        record = UsageRecord(
            id=f"r{number}",
            kind="request",
            status="done",
            tenant=tenant,
            key_id="key_1",
            model="general",
            prompt_tokens=tokens,
            completion_tokens=0,
            nano_usd=0,
            started_at=now,
            ended_at=now,
        )
        await self.budgets.settle("gw", [Settlement(number, record.to_json(), spent, scopes_of(record))])
        self.ledger.append([record])
        return record


@pytest.fixture
async def told() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def world(tmp_path: Path, told: Receiver) -> Iterator[World]:
    made = World(tmp_path, a_spec(told.url, budgets="{tokensPerDay: 1000}"))
    yield made
    made.store.close()


async def test_what_is_told_is_exact(world: World, told: Receiver) -> None:
    await world.open()
    await world.alerts.notice([await world.spend(499)])
    assert await world.alerts.tell_due() == 0
    await world.clock.advance(1800)
    await world.alerts.notice([await world.spend(1)])
    assert await world.alerts.tell_due() == 1
    assert told.got[0].json == {
        "type": "budget.threshold",
        "timestamp": "2027-01-15T12:30:00.000+00:00",
        "data": {
            "scope": "tenant",
            "tenant": "acme",
            "id": "acme",
            "budget": "tokensPerDay",
            "window": "day",
            "unit": "tokens",
            "limit": 1000,
            "used": 500,
            "fraction": 0.5,
            "threshold": 0.5,
            "ends_at": NOON + 43_200,
            # 500 were spent in the last hour.
            "forecast": {"per_hour": 500.0, "used_up_at": NOON + 1800 + 3600},
        },
    }


async def test_one_request_that_crosses_all_tells_all_in_order_and_a_restart_tells_nothing_again(
    world: World, told: Receiver
) -> None:
    await world.open()
    records = [await world.spend(1000)]
    await world.alerts.notice(records)
    restarted = world.begin()
    await restarted.notice(records)  # they were not acknowledged
    assert await restarted.tell_due() == 3
    await world.alerts.notice(records)
    assert await world.alerts.tell_due() == 0
    assert thresholds(told.got) == [0.5, 0.8, 1.0]
    assert told.got[2].json["data"]["forecast"] == {"per_hour": 1000.0, "used_up_at": NOON}


async def test_who_was_refused_early_is_still_told_of_when_thresholds_are_reached(world: World, told: Receiver) -> None:
    """A large request finds too little left at 60%; small ones go on to spend all."""
    await world.open()
    await world.alerts.notice([await world.spend(600)])
    [standing] = await world.budgets.standings(["tenant:acme"])
    account = Account("key_1", "one", "user", TenantTerms("acme", world.tenants.get("acme").terms.budgets))
    terms = TermsOfCallers().of(account, None, None)
    world.alerts.refused(terms, Counter(standing.counter, Unit.TOKENS, standing.limit, NOON + 43_200, 1))
    await world.alerts.notice_refused()
    await world.alerts.notice([await world.spend(400)])
    await world.alerts.tell_due()
    assert sorted(thresholds(told.got), key=str) == [0.5, 0.8, 1.0, None]


async def test_what_is_remembered_has_a_bound_and_what_is_forgotten_is_told_once_all_the_same(
    world: World, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be as many limits as there are keys; the ledger's database knows what was written down."""
    monkeypatch.setattr(alerts, "REMEMBERED", 1)
    monkeypatch.setattr(alerts, "MOST_REFUSED", 1)
    await world.open()
    await world.alerts.notice([await world.spend(600)])
    await world.clock.advance(86_400)
    await world.alerts.notice([await world.spend(600)])
    assert len(world.alerts._written) == 1
    terms = TermsOfCallers().of(
        Account("key_1", "one", "user", TenantTerms("acme", world.tenants.get("acme").terms.budgets)), None, None
    )
    standings = await world.budgets.standings(["tenant:acme"])
    for number, standing in enumerate([standings[0], *standings]):
        name = standing.counter if number == 0 else f"{standing.counter}:{number}"
        world.alerts.refused(terms, Counter(name, Unit.TOKENS, standing.limit, NOON + 43_200, 1))
    assert list(world.alerts._refused) == [standings[0].counter]
    for _ in range(2):
        await world.alerts.notice([await world.spend(1)])
        await world.alerts.tell_due()
    assert thresholds(told.got) == [0.5, 0.5]


async def test_the_next_day_and_a_raised_limit_are_budgets_of_their_own(world: World, told: Receiver) -> None:
    await world.open()
    await world.alerts.notice([await world.spend(600)])
    await world.clock.advance(86_400)
    await world.alerts.notice([await world.spend(700)])
    world.tenants.ensure(loads(a_spec(told.url, budgets="{tokensPerDay: 1200}")).tenants)
    await world.alerts.notice([await world.spend(10)])
    await world.alerts.tell_due()
    assert sorted((got.json["data"]["limit"], got.json["data"]["used"]) for got in told.got) == [
        (1000, 600),
        (1000, 700),
        (1200, 710),
    ]


async def test_who_takes_what_is_owed_and_dies_leaves_it_to_the_next(world: World, told: Receiver) -> None:
    await world.open()
    await world.alerts.notice([await world.spend(850)])
    store = AlertStore(world.store)
    assert len(store.take(NOON, lease_s=60, most=10)) == 1
    assert await world.alerts.tell_due() == 0
    await world.clock.advance(60)
    assert await world.alerts.tell_due() == 2
    assert thresholds(told.got) == [0.5, 0.8]


async def test_two_who_take_what_is_due_at_once_do_not_both_have_it(world: World) -> None:
    await world.open()
    await world.alerts.notice([await world.spend(500)])
    store = AlertStore(world.store)
    one, two = (store.take(NOON, lease_s=60, most=10) for _ in range(2))
    assert (len(one), len(two)) == (1, 0)


async def test_who_tells_slowly_has_a_whole_lease_for_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[int] = []

    async def slowly(*_: object, **__: object) -> Outcome:
        await world.clock.advance(45)
        others.append(len(AlertStore(world.store).take(world.clock.now(), lease_s=60, most=10)))
        return Outcome(200)

    monkeypatch.setattr(alerts, "called", slowly)
    await world.open()
    await world.alerts.notice([await world.spend(1000)])
    assert await world.alerts.tell_due() == 3
    assert others == [0, 0, 0]


async def test_a_refusal_is_written_down_while_a_receiver_takes_its_time(tmp_path: Path) -> None:
    async with AsyncExitStack() as parts:
        receiver = await parts.enter_async_context(Receiver(None, None))
        platform = loads(a_spec(receiver.url))
        stack = await parts.enter_async_context(a_stack(tmp_path, platform=platform))
        await stack.engine()
        client, body = await stack.http(), {"model": "general", "messages": HELLO, "max_tokens": 4}
        while not receiver.got:
            await client.post_json("/v1/chat/completions", body)
            await stack.records()
        while (await client.request("POST", "/v1/chat/completions", body=body)).status == 200:
            pass
        store = AlertStore(stack.store)
        async with asyncio.timeout(TIMEOUT_S / 2):
            await until(lambda: alerts.REFUSED in [each.threshold for each in store.all()])
        assert len(receiver.got) == 1


async def test_a_receiver_that_takes_its_time_holds_up_no_other_channel(tmp_path: Path) -> None:
    class Sns:
        def __init__(self) -> None:
            self.thresholds: list[int] = []

        async def tell(self, alert: Alert) -> Outcome:
            self.thresholds.append(alert.threshold)
            return Outcome(200)

    async with Receiver(None) as receiver:
        world = World(tmp_path, a_spec(receiver.url, budgets="{tokensPerDay: 1000}"))
        world.alerts._channels[alerts.SNS] = sns = Sns()  # type: ignore[assignment]
        await world.open()
        await world.alerts.notice([await world.spend(500)])
        telling = asyncio.create_task(world.alerts.tell_forever())
        await until(lambda: len(receiver.got) == 1 and len(sns.thresholds) == 1)
        await world.alerts.notice([await world.spend(500)])
        await world.clock.advance(1)
        await until(lambda: len(sns.thresholds) == 3)
        assert len(receiver.got) == 1
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        world.store.close()


async def test_what_is_owed_to_a_channel_that_is_in_the_file_no_more_is_given_up(world: World, told: Receiver) -> None:
    await world.open()
    await world.alerts.notice([await world.spend(850)])
    del world.alerts._channels[alerts.WEBHOOK]
    assert await world.alerts.tell_due() == 2
    assert [each.state for each in AlertStore(world.store).all()] == ["failed", "failed"]
    assert (await world.begin().tell_due(), told.got) == (0, [])


async def test_a_receiver_that_is_gone_is_told_no_more_and_one_that_is_down_is_told_later(
    world: World, told: Receiver
) -> None:
    told.answers = [500, 204, 410]
    await world.open()
    await world.alerts.notice([await world.spend(850)])
    assert await world.alerts.tell_due() == 1
    await world.clock.advance(1)
    assert await world.alerts.tell_due() == 2
    store = AlertStore(world.store)
    assert [(each.threshold, each.state, each.tries) for each in store.all()] == [
        (500_000, "told", 2),
        (800_000, "failed", 1),
    ]


async def test_after_so_many_tries_an_alert_is_given_up_and_the_next_one_is_told(
    world: World, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MOST_TRIES", 3)
    told.answers = [500, 500, 500]
    await world.open()
    await world.alerts.notice([await world.spend(850)])
    for _ in range(3):
        await world.alerts.tell_due()
        await world.clock.advance(1)
    store = AlertStore(world.store)
    assert [(each.threshold, each.state, each.tries) for each in store.all()] == [
        (500_000, "failed", 3),
        (800_000, "told", 1),
    ]


async def test_what_was_told_is_forgotten_a_week_after_its_window(world: World) -> None:
    await world.open()
    await world.alerts.notice([await world.spend(500)])
    store = AlertStore(world.store)
    assert store.forget(NOON + 43_200) == 0
    assert store.forget(NOON + 43_201) == 1
    assert list(store.all()) == []


async def test_only_who_has_spent_is_looked_at_and_steps_minutes_and_sessions_are_not(world: World) -> None:
    asked: list[str] = []

    async def standings(scopes: list[str]) -> list[Standing]:
        asked.extend(scopes)
        return [
            Standing("tenant:acme:tokens:minute:2027-01-15T1200", 9, 9),
            Standing("tenant:acme:requests:day:2027-01-15", 9, 9),
            Standing("tenant:acme:tokens:day:2027-01-14", 1000, 1000),
        ]

    world.budgets.standings = standings  # type: ignore[method-assign, assignment]
    await world.open()
    await world.alerts.notice([await world.spend(1)])
    assert sorted(asked) == ["key:key_1", "tenant:acme"]
    assert list(AlertStore(world.store).all()) == []


async def test_a_limit_that_was_taken_away_and_that_redis_still_has_is_told_to_nobody(world: World) -> None:
    await world.open()
    record = await world.spend(999)
    world.tenants.ensure(loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2")).tenants)
    await world.alerts.notice([record])
    assert list(AlertStore(world.store).all()) == []


async def test_ten_thousand_tenants_are_looked_up_in_one_call(tmp_path: Path) -> None:
    records = [
        UsageRecord(
            id=str(number),
            kind="request",
            status="done",
            tenant=f"t{number}",
            team="ops",
            key_id=f"k{number}",
            agent="helper" if number % 2 else None,
            model="general",
            prompt_tokens=1,
            completion_tokens=1,
            nano_usd=1,
            started_at=0.0,
            ended_at=0.0,
        )
        for number in range(10_000)
    ]
    assert len(scopes_in(records)) == 3 * 10_000 + 1


async def test_when_redis_is_away_the_records_come_again(tmp_path: Path, told: Receiver) -> None:
    """What could not be noticed is not acknowledged, though it is in the ledger."""
    async with a_stack(tmp_path, platform=loads(a_spec(told.url, budgets="{tokensPerDay: 100}"))) as stack:
        await stack.engine()
        real = stack.budgets.standings
        failures = [StokerError("away"), StokerError("away")]

        async def standings(scopes: list[str]) -> list[Standing]:
            if failures:
                raise failures.pop()
            return await real(scopes)

        stack.budgets.standings = standings  # type: ignore[method-assign, assignment]
        for _ in range(8):
            client = await stack.http()
            await client.request(
                "POST", "/v1/chat/completions", body={"model": "general", "messages": HELLO, "max_tokens": 4}
            )
        await until(lambda: bool(told.got) and not failures)
    assert thresholds(told.got)[0] == 0.5


async def test_a_record_is_acknowledged_only_after_it_was_noticed(world: World) -> None:
    queue = MemoryQueue()
    queue.add_usage(await world.spend(1))
    settler = Settler(queue, world.ledger, "one", world.clock)
    noticed: list[str] = []

    async def fails_once(records: Sequence[UsageRecord]) -> None:
        noticed.extend(each.id for each in records)
        if len(noticed) == 1:
            raise StokerError("Redis is away")

    settler.noticed = fails_once
    with pytest.raises(StokerError):
        await settler.settle()
    await settler.settle_all()
    await settler.settle_all()
    assert noticed == ["r1", "r1"]

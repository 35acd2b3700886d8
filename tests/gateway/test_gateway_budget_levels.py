"""How far budgets are used up, in a metric that names nobody."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway_parts import Stack

from stoker.base.errors import QueueUnavailable
from stoker.gateway import budget_levels
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.policy.alerts import PARTS
from stoker.policy.budgets import Scope
from stoker.queue import MemoryBudgets, MemoryQueue
from stoker.queue.budgets import CounterState
from stoker.spec import Budgets, Team, Tenant
from stoker.telemetry.metrics import Metrics
from stoker.testing import ManualClock

NOON = 1_799_971_200.0 + 43_200.0  # 2027-01-15


class Books(MemoryBudgets):
    """Which say how many counters each call was about, and may be away."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(MemoryQueue(), clock=clock)
        self.asked: list[int] = []
        self.is_away = False

    async def state(self, counters: Sequence[str]) -> list[CounterState | None]:
        if self.is_away:
            raise QueueUnavailable("Redis is away")
        self.asked.append(len(counters))
        return await super().state(counters)


async def look(
    books: Books, clock: ManualClock, keys: KeyStore, tenants: TenantStore, agents: Mapping[str, Budgets]
) -> dict[str, dict[str, float]]:
    """Two looks of the loop: what the metric says after the second."""
    metrics, told = Metrics(), asyncio.Queue[None]()
    gauges = budget_levels.Gauges(metrics)

    def tell(found: budget_levels.Levels | None) -> None:
        gauges.show(found)
        told.put_nowait(None)

    looking = asyncio.create_task(budget_levels.look_forever(keys, tenants, agents, books, tell, clock))
    await told.get()
    await asyncio.sleep(0)
    await clock.advance(budget_levels.LOOK_EVERY_S)
    await told.get()
    looking.cancel()
    [family] = [each for each in metrics.registry.collect() if each.name == "stoker_budgets"]
    found: dict[str, dict[str, float]] = {}
    for each in family.samples:
        found.setdefault(each.labels["scope"], {})[each.labels["used"]] = each.value
    return found


def parts(**some: int) -> dict[str, float]:
    return {part: float(some.get(part, 0)) for part in PARTS}


async def test_budgets_are_counted_by_kind_and_by_how_much_of_them_is_spent(tmp_path: Path) -> None:
    store, clock = Store(f"sqlite:///{tmp_path / 'ledger.db'}"), ManualClock(NOON)
    keys, tenants, books = KeyStore(store, clock), TenantStore(store, clock), Books(clock)
    search = Team(budgets=Budgets(usd_per_month=1))
    tenants.ensure(
        {
            "acme": Tenant(budgets=Budgets(tokens_per_day=100, tokens_total=1000), teams={"search": search}),
            "half": Tenant(budgets=Budgets(tokens_per_day=100)),
            "over": Tenant(budgets=Budgets(tokens_per_day=100, tokens_per_minute=1, concurrent_requests=1)),
            "free": Tenant(run_budgets=Budgets(tokens_total=1)),
        }
    )
    used = keys.create("free", budgets=Budgets(tokens_total=10)).key
    keys.create("free")
    keys.revoke(keys.create("free", budgets=Budgets(tokens_total=10)).key.id)
    for counter, spent in (
        ("tenant:acme:tokens:day:2027-01-15", 96),
        ("tenant:acme:tokens:total", 949),
        ("tenant:half:tokens:day:2027-01-14", 100),  # yesterday's
        ("tenant:half:tokens:day:2027-01-15", 50),
        ("tenant:over:tokens:day:2027-01-15", 101),
        ("team:acme/search:nano_usd:month:2027-01", 10**9 - 1),
        (f"key:{used.id}:tokens:total", 10),
    ):
        assert await books.begin(counter, spent, expires_at=None) == spent
    agents = {"writer": Budgets(usd_per_day=5), "reader": Budgets()}
    assert await look(books, clock, keys, tenants, agents) == {
        "tenant": parts(**{"0.5-0.8": 1, "0.8-0.95": 1, "0.95-1": 1, "all": 1}),
        "team": parts(**{"0.95-1": 1}),
        "key": parts(all=1),
        "agent": parts(**{"0-0.5": 1}),
    }
    books.is_away = True
    assert await look(books, clock, keys, tenants, agents) == {}, "nobody knows: no sample, and not the old one"
    store.close()


async def test_ten_thousand_tenants_are_twenty_series_and_are_asked_for_in_small_parts() -> None:
    clock = ManualClock(NOON)
    books, metrics = Books(clock), Metrics()
    daily = Budgets(tokens_per_day=100)
    scopes = {Scope("tenant", f"tenant-{number}"): daily for number in range(10_000)}
    counters = budget_levels.counters_of(scopes, NOON)
    for counter in counters[:300]:
        await books.begin(counter.name, 100, expires_at=None)
    gauges = budget_levels.Gauges(metrics)
    gauges.show(await budget_levels.levels(counters, books))
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith("stoker_budgets{")]
    assert len(lines) == 20
    assert 'stoker_budgets{scope="tenant",used="all"} 300.0' in lines
    assert 'stoker_budgets{scope="tenant",used="0-0.5"} 9700.0' in lines
    assert books.asked == [budget_levels.AT_ONCE] * 50


async def test_a_gateway_tells_it_soon_after_its_start(stack: Stack) -> None:
    http = await stack.http(key=None)
    async with asyncio.timeout(20):
        text = b""
        while b'stoker_budgets{scope="tenant",used="all"} 0.0' not in text:
            text = (await http.request("GET", "/metrics")).body
    assert text.count(b"\nstoker_budgets{") == 20

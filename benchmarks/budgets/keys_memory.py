"""What 100,000 keys in use take in one gateway process: their accounts, their terms, their slices.

    .venv/bin/python benchmarks/budgets/keys_memory.py [--keys 100000] [--lines]

The keys are in a SQLite store. A process of its own lets one request of each in, and releases it, as the gateway does:
looks the key up by its secret, makes the terms, leases slices of its counters and reserves. Measured is how much its
resident memory grows, and the CPU time of one renewal of the leases at the end, when all keys were used since the last
one and when none was. Redis is replaced by a store that grants what is asked for, since what Redis keeps is in Redis.

The rows differ in the limits of a key: one (dollars in total), or three (requests a minute, tokens a day, dollars in
total); with an amount of its own for each key, or with one of twenty plans. `all at once`: no terms are forgotten and
no slices given back, as if all keys were used within ten seconds. `in turn`: as the gateway runs, a renewal each 500
keys and the terms of as many callers as it remembers. `--lines` says which lines of the source the memory comes from,
for 20,000 keys, by tracemalloc.
"""

import argparse
import asyncio
import functools
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from stoker.base.clock import SystemClock
from stoker.gateway import limits
from stoker.gateway.admission import Admission
from stoker.gateway.auth import Authenticator
from stoker.gateway.bounds import quote_of
from stoker.gateway.limits import TermsOfCallers
from stoker.gateway.measures import Measures
from stoker.gateway.owner import Life
from stoker.gateway.rebuild import Rebuild
from stoker.gateway.settling import Settler
from stoker.meter.keys import KeyStore, hash_of
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.tables import keys, secrets
from stoker.meter.tenants import add_team, add_tenant
from stoker.meter.texts import text_of
from stoker.policy.budgets import Ask
from stoker.queue.budgets import CounterState, Leased, Renewed
from stoker.queue.memory_queue import MemoryQueue
from stoker.spec import Budgets, Model
from stoker.telemetry.metrics import Metrics

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

TARGET_MB = 200.0
TENANTS, TEAMS = 100, 10
STAGES = ("accounts", "terms", "slices")
BODY = {"model": "general", "messages": [{"role": "user", "content": "Hello."}]}


def secret(number: int) -> str:
    """Nobody has to remember it."""
    return f"sk-stoker-{number:043}"


@dataclass(frozen=True)
class Kind:
    """What limits the keys have."""

    name: str
    are_own: bool
    are_three: bool

    def budgets(self, number: int) -> Budgets:
        plan = number if self.are_own else number % 20
        usd = Decimal(1000 + plan).scaleb(-2)
        if not self.are_three:
            return Budgets(usd_total=usd)
        return Budgets(requests_per_minute=600, tokens_per_day=1_000_000 + plan, usd_total=usd)


KINDS = (
    Kind("1 limit, its own", are_own=True, are_three=False),
    Kind("3 limits, twenty plans", are_own=False, are_three=True),
    Kind("3 limits, its own", are_own=True, are_three=True),
)


def fill(path: Path, count: int, kind: Kind) -> None:
    store = Store(f"sqlite:///{path}")
    places = [(f"tenant-{t:03}", f"team-{n}") for t in range(TENANTS) for n in range(TEAMS)]
    with store.transaction() as connection:
        for tenant, team in places:
            add_tenant(connection, tenant, 0.0)
            add_team(connection, tenant, team, 0.0)
        for begin in range(0, count, 10_000):
            some = range(begin, min(begin + 10_000, count))
            connection.execute(insert(keys), [_key_row(each, places, kind) for each in some])
            connection.execute(
                insert(secrets),
                [{"hash": hash_of(secret(each)), "key_id": _key_id(each), "valid_until": None} for each in some],
            )
    store.close()


def _key_id(number: int) -> str:
    return f"key_{number:026}"  # as long as a real one


def _key_row(number: int, places: Sequence[tuple[str, str]], kind: Kind) -> dict[str, object]:
    tenant, team = places[number % len(places)]
    return {
        "id": _key_id(number),
        "tenant": tenant,
        "team": team,
        "name": f"service {number}",
        "role": "user",
        "prefix": "sk-stoker-0000",
        "budgets": text_of(kind.budgets(number)),
        "models": None,
        "routes": None,
        "created_at": 0.0,
    }


class Granting:
    """The part of a store of budgets that this needs: every lease is granted in full."""

    async def establish(self, *, wait_s: float) -> None:
        return None

    async def enter(self, owner: str, **_: Any) -> None:
        return None

    async def renew(self, owner: str, **_: Any) -> Renewed:
        return Renewed("alive", ())

    async def lease(self, owner: str, asks: Sequence[Ask]) -> Leased:
        return Leased(tuple(ask.want for ask in asks))

    async def state(self, counters: Sequence[str]) -> list[CounterState | None]:
        return [CounterState(0, 0, 0, None) for _ in counters]


class Gateway:
    """The parts of a gateway that remember something of a key."""

    def __init__(self, path: Path, journals: Path) -> None:
        clock = SystemClock()
        store = Store(f"sqlite:///{path}")
        ledger = Ledger(store)
        granting: Any = Granting()
        rebuild = Rebuild(ledger, Settler(MemoryQueue(), ledger, "bench", clock))
        self.life = Life(granting, rebuild, journals, clock)
        self.auth = Authenticator(KeyStore(store, clock), clock)
        self.terms = TermsOfCallers()
        self.admission = Admission(granting, self.life, rebuild, Measures(Metrics()))

    async def accounts(self, numbers: range) -> None:
        for number in numbers:
            await self.auth.account(secret(number))

    async def make_terms(self, numbers: range) -> None:
        for number in numbers:
            self.terms.of(await self.auth.account(secret(number)), None, None)

    async def slices(self, numbers: range, *, in_turn: bool) -> None:
        quote = quote_of(BODY, Model(), output_tokens=100, is_elastic=False)
        for number in numbers:
            if number % 500 == 0:
                # Both say that the owner lives; a renewal also gives back what is idle.
                await (self.life.renew() if in_turn else self.life.begin())
            terms = self.terms.of(await self.auth.account(secret(number)), None, None)
            self.admission.release(await self.admission.admit(terms, quote))

    async def renewal_ms(self) -> float:
        began = time.thread_time_ns()
        await self.life.renew()
        return (time.thread_time_ns() - began) / 1e6


async def measure(path: Path, count: int, *, in_turn: bool, lines: bool) -> None:
    """In a process of its own: resident bytes after each stage as a line of JSON, or the lines with the most memory."""
    if not in_turn:
        limits.REMEMBERED = count
    with tempfile.TemporaryDirectory() as journals:
        gateway = Gateway(path, Path(journals))
        await gateway.life.begin()
        await gateway.slices(range(1), in_turn=in_turn)
        if lines:
            tracemalloc.start(1)
        said = {"base": resident_bytes()}
        slices = functools.partial(gateway.slices, in_turn=in_turn)
        for stage, step in zip(STAGES, (gateway.accounts, gateway.make_terms, slices), strict=True):
            await step(range(count))
            said[stage] = resident_bytes()
        if lines:
            for each in tracemalloc.take_snapshot().statistics("lineno")[:16]:
                frame = each.traceback[0]
                where = "/".join(Path(frame.filename).parts[-3:])
                size, objects = each.size / count, each.count / count
                print(f"{size:7.0f} bytes and {objects:5.2f} objects a key  {where}:{frame.lineno}")
        else:
            held = len(gateway.life.owner.slices)
            renewals = [await gateway.renewal_ms(), await gateway.renewal_ms()]
            print(json.dumps({**said, "slices held": held, "renewals": renewals}))
        gateway.life.close()


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def child(path: Path, count: int, *options: str) -> str:
    argv = [sys.executable, __file__, "--measure", str(path), "--keys", str(count), *options]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(path: Path, count: int, what: str, *options: str) -> None:
    said = json.loads(child(path, count, *options))
    grown = [
        said[stage] - before for stage, before in zip(STAGES, [said["base"], *map(said.get, STAGES)], strict=False)
    ]
    total = said[STAGES[-1]] - said["base"]
    cells = [what, *(f"{each / 1e6:.0f}" for each in grown), f"{total / 1e6:.0f}", f"{total / count:.0f}"]
    cells += [f"{said['slices held']:,}", *(f"{each:.0f}" for each in said["renewals"])]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--in-turn", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        asyncio.run(measure(options.measure, options.keys, in_turn=options.in_turn, lines=options.lines))
        return
    print(describe("stoker", "sqlalchemy"))
    print(f"{options.keys:,} keys; megabytes of resident memory that each stage adds")
    columns = ("limits of a key", "accounts", "terms", "slices", "together, MB", "bytes a key", "slices held")
    print(f"| {' | '.join(columns)} | renewal, all used, ms | none used, ms |\n|{'---|' * (len(columns) + 2)}")
    with tempfile.TemporaryDirectory() as directory:
        for kind in KINDS:
            path = Path(directory) / f"{kind.name}.sqlite"
            fill(path, options.keys, kind)
            report(path, options.keys, f"{kind.name}; all at once")
            report(path, options.keys, f"{kind.name}; in turn", "--in-turn")
        print(f"target: {TARGET_MB:g} MB")
        if options.lines:
            print(child(path, min(20_000, options.keys), "--lines"))


if __name__ == "__main__":
    main()

"""What 100,000 keys in use take in one gateway process: their accounts, their terms, their slices.

    .venv/bin/python benchmarks/budgets/keys_memory.py [--keys 100000] [--lines]

The keys are in a SQLite store, each with a limit on requests a minute, on tokens a day and on dollars in total. A
process of its own lets one request of each in, and releases it, as the gateway does: looks the key up by its secret,
makes the terms, leases slices of its three counters and reserves. Measured is how much its resident memory grows. Redis
is replaced by a store that grants what is asked for, since what Redis keeps is in Redis.

Twice: with budgets that keys have in common (twenty plans), and with an amount of its own for every key. And with the
terms of as many callers remembered as the gateway does, and of all of them. `--lines` says which lines of the source
the memory comes from, for 20,000 keys, by tracemalloc.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
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
from stoker.meter.tenants import add_team, add_tenant, text
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


def budgets(number: int, *, are_own: bool) -> Budgets:
    if are_own:
        usd, tokens = Decimal(number + 1).scaleb(-2), 1_000_000 + number
    else:
        usd, tokens = Decimal(10 * (number % 20 + 1)), 1_000_000 * (number % 20 + 1)
    return Budgets(requests_per_minute=600, tokens_per_day=tokens, usd_total=usd)


def fill(path: Path, count: int, *, are_own: bool) -> None:
    store = Store(f"sqlite:///{path}")
    places = [(f"tenant-{t:03}", f"team-{n}") for t in range(TENANTS) for n in range(TEAMS)]
    with store.transaction() as connection:
        for tenant, team in places:
            add_tenant(connection, tenant, 0.0)
            add_team(connection, tenant, team, 0.0)
        for begin in range(0, count, 10_000):
            some = range(begin, min(begin + 10_000, count))
            connection.execute(insert(keys), [_key_row(each, places, are_own=are_own) for each in some])
            connection.execute(
                insert(secrets),
                [{"hash": hash_of(secret(each)), "key_id": _key_id(each), "valid_until": None} for each in some],
            )
    store.close()


def _key_id(number: int) -> str:
    return f"key_{number:026}"  # as long as a real one


def _key_row(number: int, places: Sequence[tuple[str, str]], *, are_own: bool) -> dict[str, object]:
    tenant, team = places[number % len(places)]
    return {
        "id": _key_id(number),
        "tenant": tenant,
        "team": team,
        "name": f"service {number}",
        "role": "user",
        "prefix": "sk-stoker-0000",
        "budgets": text(budgets(number, are_own=are_own)),
        "models": None,
        "routes": None,
        "created_at": 0.0,
    }


class Granting:
    """The part of a store of budgets that this needs: every lease is granted in full."""

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

    async def slices(self, numbers: range) -> None:
        quote = quote_of(BODY, Model(), output_tokens=100, is_elastic=False)
        for number in numbers:
            if number % 500 == 0:
                await self.life.begin()  # the owner lives; a renewal would also give back what is idle
            terms = self.terms.of(await self.auth.account(secret(number)), None, None)
            self.admission.release(await self.admission.admit(terms, quote))


async def measure(path: Path, count: int, *, all_terms: bool, lines: bool) -> None:
    """In a process of its own: resident bytes after each stage as a line of JSON, or the lines with the most memory."""
    if all_terms:
        limits.REMEMBERED = count
    with tempfile.TemporaryDirectory() as journals:
        gateway = Gateway(path, Path(journals))
        await gateway.life.begin()
        await gateway.slices(range(1))
        if lines:
            tracemalloc.start(1)
        said = {"base": resident_bytes()}
        for stage, step in zip(STAGES, (gateway.accounts, gateway.make_terms, gateway.slices), strict=True):
            await step(range(count))
            said[stage] = resident_bytes()
        if lines:
            for each in tracemalloc.take_snapshot().statistics("lineno")[:16]:
                frame = each.traceback[0]
                where = "/".join(Path(frame.filename).parts[-3:])
                size, objects = each.size / count, each.count / count
                print(f"{size:7.0f} bytes and {objects:5.2f} objects a key  {where}:{frame.lineno}")
        else:
            print(json.dumps({**said, "slices held": len(gateway.life.owner.slices)}))
        gateway.life.close()


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def child(path: Path, count: int, *options: str) -> str:
    argv = [sys.executable, __file__, "--measure", str(path), "--keys", str(count), *options]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(path: Path, count: int, what: str, *options: str) -> float:
    said = json.loads(child(path, count, *options))
    grown = [
        said[stage] - before for stage, before in zip(STAGES, [said["base"], *map(said.get, STAGES)], strict=False)
    ]
    total = said[STAGES[-1]] - said["base"]
    cells = [what, *(f"{each / 1e6:.0f}" for each in grown), f"{total / 1e6:.0f}", f"{total / count:.0f}"]
    print(f"| {' | '.join(cells)} | {said['slices held']:,} |", flush=True)
    return total / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--all-terms", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        asyncio.run(measure(options.measure, options.keys, all_terms=options.all_terms, lines=options.lines))
        return
    print(describe("stoker", "sqlalchemy"))
    print(f"{options.keys:,} keys; megabytes of resident memory that each stage adds")
    print("| budgets | accounts | terms | slices | together, MB | bytes a key | slices held |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for what, are_own in (("twenty plans", False), ("each its own", True)):
            path = Path(directory) / f"{what}.sqlite"
            fill(path, options.keys, are_own=are_own)
            report(path, options.keys, f"{what}; terms of {limits.REMEMBERED:,} callers")
            report(path, options.keys, f"{what}; terms of all", "--all-terms")
        print(f"target: {TARGET_MB:g} MB")
        if options.lines:
            print(child(path, 20_000, "--all-terms", "--lines"))


if __name__ == "__main__":
    main()

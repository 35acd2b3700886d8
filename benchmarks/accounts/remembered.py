"""What 100,000 keys in use cost a gateway: memory, the first look at each, and every look after it.

    .venv/bin/python benchmarks/accounts/remembered.py [--keys 100000] [--different]

`--different`: no two keys have the same limits, so nothing but the tenant is shared. Prints one line of JSON.
"""

import argparse
import asyncio
import gc
import json
import resource
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert

from stoker.base.clock import SystemClock
from stoker.gateway.auth import Authenticator
from stoker.meter.keys import KeyStore, hash_of
from stoker.meter.store import Store
from stoker.meter.tables import keys, secrets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--different", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store = Store(f"sqlite:///{directory}/ledger.sqlite")
        known = [f"sk-stoker-{number:043d}" for number in range(options.keys)]
        fill(store, known, different=options.different)
        print(json.dumps({"different": options.different, **asyncio.run(measure(store, known))}))
        store.close()


def fill(store: Store, known: list[str], *, different: bool) -> None:
    """As `KeyStore.create` does it, but many to a transaction."""
    KeyStore(store).create("acme", team="search")
    same = {"tenant": "acme", "team": "search", "role": "user", "prefix": "", "created_at": 1.0}
    for begin in range(0, len(known), 10_000):
        numbers = range(begin, min(begin + 10_000, len(known)))
        rows = [
            {**same, "id": f"key_{number:026d}", "name": f"app {number}", "budgets": limits(number, different)}
            for number in numbers
        ]
        hashes = [{"hash": hash_of(known[number]), "key_id": f"key_{number:026d}"} for number in numbers]
        with store.transaction() as connection:
            connection.execute(insert(keys), rows)
            connection.execute(insert(secrets), hashes)


def limits(number: int, different: bool) -> str:
    return json.dumps({"tokensTotal": number + 1, "usdTotal": 5} if different else {"usdTotal": 5})


async def measure(store: Store, known: list[str]) -> dict[str, float]:
    auth = Authenticator(KeyStore(store), SystemClock())
    gc.collect()
    before, began = resident_mb(), time.perf_counter()
    for secret in known:
        await auth.account(secret)
    first_s = time.perf_counter() - began
    gc.collect()
    grown_mb = resident_mb() - before
    began = time.process_time()
    for secret in known:
        await auth.account(secret)
    again_s = time.process_time() - began
    return {
        "keys": len(known),
        "mb": round(grown_mb, 1),
        "first_look_us": round(first_s / len(known) * 1e6, 1),
        "each_look_us": round(again_s / len(known) * 1e6, 2),
    }


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()

"""How long a report of a month takes, and how much memory: `meter.costs.report` over a ledger of made-up requests.

    .venv/bin/python benchmarks/cost/report_speed.py [--requests 1000000] [--days 30] [--replicas 20] [--by tenant]

Requests come evenly over the days, on machines of one replica each, 8 at once; 50 tenants, 10,000 sessions. The
ledger is SQLite in a folder of its own, and is written before the clock runs. What is printed: seconds of the whole
report and of its two halves (reading rows, and the timelines with their attribution), and the process's peak memory.
"""

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stoker import spec
from stoker.meter import costs
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord

FIRST = 1_793_491_200.0
DAY = 86400.0
BATCH = 5000
AT_ONCE = 8
"""Requests on a replica, on the mean."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--by", default="tenant")
    options = parser.parse_args()
    until = FIRST + options.days * DAY
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'ledger.sqlite'}")
        ledger, lives = Ledger(store), Lives(store)
        write_fleet(lives, options.replicas, until)
        batch: list[UsageRecord] = []
        for record in requests(options.requests, options.days, options.replicas):
            batch.append(record)
            if len(batch) == BATCH:
                ledger.append(batch)
                batch = []
        ledger.append(batch)
        asked = costs.asked_of(spec.Platform(), by=options.by, since=FIRST, until=until)
        began = time.perf_counter(), time.process_time()
        found = costs.report(asked, ledger, lives)
        whole, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        began_reading = time.perf_counter()
        longest_s = ledger.longest(since=FIRST, until=until)
        n = sum(1 for _ in ledger.spans(since=FIRST, until=until, longest_s=longest_s))
        reading = time.perf_counter() - began_reading
        store.close()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n:,} requests, {options.days} days, {options.replicas} replicas, by {options.by}: {len(found['rows'])} rows"
    )
    print(f"{whole:.1f} s ({cpu:.1f} s of a core), of which rows alone {reading:.1f} s; peak memory {peak_mb:.0f} MB")


def write_fleet(lives: Lives, replicas: int, until: float) -> None:
    times: dict[str, Any] = {"began_at": FIRST, "seen_at": until}
    lives.write(
        machines_seen=[
            MachineLife(
                id=f"i-{n}",
                pool="gpu",
                capacity="on-demand",
                type="g5.xlarge",
                zone="us-east-1a",
                nano_usd_per_hour=10**9,
                usable_at=FIRST,
                **times,
            )
            for n in range(replicas)
        ],
        stays_seen=[
            StayLife(
                id=f"pod-{n}",
                machine=f"i-{n}",
                workload="w",
                model="general",
                replica=f"general-{n}",
                share=1.0,
                ready_at=FIRST,
                **times,
            )
            for n in range(replicas)
        ],
    )


def requests(n: int, days: int, replicas: int) -> Iterator[UsageRecord]:
    chance = random.Random(7)
    apart_s = days * DAY / n
    longest_s = 2.0 * AT_ONCE * apart_s * replicas
    for i in range(n):
        began = FIRST + i * apart_s
        yield UsageRecord(
            id=f"req_{i}",
            kind="request",
            status="done",
            tenant=f"tenant-{chance.randrange(50)}",
            key_id="key_1",
            model="general",
            prompt_tokens=chance.randrange(50, 4000),
            cached_tokens=0,
            completion_tokens=chance.randrange(1, 800),
            nano_usd=1,
            session=f"session-{chance.randrange(10_000)}",
            started_at=began,
            first_token_at=None,
            ended_at=began + chance.random() * longest_s,
            replica=f"general-{i % replicas}",
        )


if __name__ == "__main__":
    main()

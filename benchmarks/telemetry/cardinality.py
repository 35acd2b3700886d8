"""How many series a gateway has, and what a scrape costs, with few tenants and with many.

    .venv/bin/python benchmarks/telemetry/cardinality.py

Each tenant has a key, a session, a run and a budget of its own; there are three models. Prints a line of JSON a row.
"""

import asyncio
import json
import time

from stoker.gateway import budget_levels, spending
from stoker.gateway.measures import Measures
from stoker.meter import UsageRecord
from stoker.policy.budgets import Scope
from stoker.queue import MemoryBudgets, MemoryQueue
from stoker.spec import Budgets
from stoker.telemetry.metrics import Metrics

SCRAPES = 50


def main() -> None:
    for tenants in (10, 10_000):
        measures = Measures(Metrics())
        for number in range(tenants):
            measures.ended(_record(number))
        spending.Gauges(measures.metrics)
        began = time.perf_counter()
        scopes = {Scope("tenant", f"tenant-{number}"): Budgets(tokens_per_day=100) for number in range(tenants)}
        counters = budget_levels.counters_of(scopes, time.time())
        levels = asyncio.run(budget_levels.levels(counters, MemoryBudgets(MemoryQueue())))
        budget_levels.Gauges(measures.metrics).show(levels)
        look_ms = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        for _ in range(SCRAPES):
            text = measures.metrics.text()
        scrape_ms = (time.perf_counter() - began) * 1000 / SCRAPES
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        row = {"tenants": tenants, "series": series, "bytes": len(text), "scrape_ms": round(scrape_ms, 2)}
        row["look_at_budgets_ms"] = round(look_ms, 1)
        print(json.dumps(row))


def _record(number: int) -> UsageRecord:
    return UsageRecord(
        id=f"r{number}",
        kind="request",
        status="done",
        tenant=f"tenant-{number}",
        key_id=f"key-{number}",
        session=f"session-{number}",
        run=f"run-{number}",
        model=("general", "code", "embed")[number % 3],
        prompt_tokens=30,
        completion_tokens=40,
        nano_usd=5,
        started_at=0.0,
        first_token_at=1.0,
        ended_at=2.0,
    )


if __name__ == "__main__":
    main()

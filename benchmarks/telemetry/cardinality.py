"""How many series a gateway has, and what a scrape costs, with few tenants and with many.

    .venv/bin/python benchmarks/telemetry/cardinality.py

Each tenant has a key, a session and a run of its own; there are three models. Prints a line of JSON a row.
"""

import json
import time

from stoker.gateway.measures import Measures
from stoker.meter import UsageRecord
from stoker.telemetry.metrics import Metrics

SCRAPES = 50


def main() -> None:
    for tenants in (10, 10_000):
        measures = Measures(Metrics())
        for number in range(tenants):
            measures.ended(_record(number))
        began = time.perf_counter()
        for _ in range(SCRAPES):
            text = measures.metrics.text()
        scrape_ms = (time.perf_counter() - began) * 1000 / SCRAPES
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        row = {"tenants": tenants, "series": series, "bytes": len(text), "scrape_ms": round(scrape_ms, 2)}
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

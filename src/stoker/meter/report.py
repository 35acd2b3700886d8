"""`stoker usage --json`: the same report from a running gateway and from the ledger of one that is not running."""

from collections.abc import Iterable
from typing import Any

from stoker.meter.cost import usd
from stoker.meter.ledger import UsageRow

_SUMS = ("requests", "steps", "prompt_tokens", "cached_tokens", "completion_tokens")


def usage_report(rows: Iterable[UsageRow]) -> dict[str, Any]:
    """`{"rows": [...], "total": {...}}`. `usd` is a number; the ledger's exact nano-dollars stand beside it."""
    rows = list(rows)
    total = {name: sum(getattr(row, name) for row in rows) for name in _SUMS}
    nano = sum(row.nano_usd for row in rows)
    return {
        "rows": [
            {
                "tenant": row.tenant,
                "model": row.model,
                "session": row.session,
                "agent": row.agent,
                **{name: getattr(row, name) for name in _SUMS},
                "usd": float(usd(row.nano_usd)),
                "nano_usd": row.nano_usd,
            }
            for row in rows
        ],
        "total": {**total, "usd": float(usd(nano)), "nano_usd": nano},
    }

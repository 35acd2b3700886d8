"""What moto's server answers as Cost Explorer, put there through its own API."""

import json
import urllib.request
from typing import Any

FIRST = 1793491200.0  # 2026-11-01
DAY = 86400.0


def seed(moto_url: str, *pages: dict[str, Any]) -> None:
    """Its next answers, in place of all that it had."""
    with urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", b"", method="POST"), timeout=10):
        pass
    data = json.dumps({"results": pages}).encode()
    asked = urllib.request.Request(f"{moto_url}/moto-api/static/ce/cost-and-usage-results", data, method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 201


def page(day: int, groups: dict[tuple[str, str], str], next_page: str | None = None) -> dict[str, Any]:
    return {
        "GroupDefinitions": [{"Type": "DIMENSION", "Key": key} for key in ("USAGE_TYPE", "PURCHASE_TYPE")],
        "ResultsByTime": [
            {
                "TimePeriod": {"Start": f"2026-11-0{day}", "End": f"2026-11-0{day + 1}"},
                "Groups": [
                    {
                        "Keys": list(keys),
                        "Metrics": {
                            "UnblendedCost": {"Amount": usd, "Unit": "USD"},
                            "UsageQuantity": {"Amount": "24", "Unit": "Hrs"},
                        },
                    }
                    for keys, usd in groups.items()
                ],
            }
        ],
        **({} if next_page is None else {"NextPageToken": next_page}),
    }

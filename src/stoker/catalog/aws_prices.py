"""List prices of what a platform uses of AWS beside EC2 instances: USD on demand, without free tiers and discounts.

As of the days in `data/aws/SOURCES.md`; each price has its own. Read once, when first asked for.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stoker.catalog.ec2 import REGION

_DATA = Path(__file__).with_name("data") / "aws" / "prices.json"
_ANY = "any"


@dataclass(frozen=True)
class Price:
    """Of one thing, `eks.cluster` or `elasticache.valkey.cache.r7g.large`, for each unit of it."""

    what: str
    usd: Decimal
    unit: str
    """`hour` and `month`: of one of them. `GB-month`, `GB`, `million` and the like: as AWS counts."""
    region: str
    """Whose price it is: the region that was asked for, or else the one that stands in for it."""
    as_of: str
    """Day, month or year of the source."""


def price(what: str, region: str) -> Price | None:
    """The price in the region; where that is not known, that of us-east-1, or of the one region that is known. None for
    what has no price here, such as a node type that the list has not."""
    row = _read()["prices"].get(what)
    if row is None:
        return None
    usd: Mapping[str, str] = row["usd"]
    if _ANY in usd:
        return Price(what, Decimal(usd[_ANY]), row["unit"], region, row["asOf"])
    whose = next((each for each in (region, REGION) if each in usd), min(usd))
    return Price(what, Decimal(usd[whose]), row["unit"], whose, row["asOf"])


def known() -> tuple[str, ...]:
    """All that has a price, in the order of the list."""
    return tuple(_read()["prices"])


def auto_mode_share(instance_type: str) -> Decimal:
    """What EKS Auto Mode takes for each USD of the price on demand of a type, whatever is paid for the node itself."""
    said = _read()["autoMode"]
    letters = re.match("[a-z]*", instance_type)
    less = said["less"].get(letters[0], "0") if letters else "0"
    return Decimal(said["share"]) * (1 - Decimal(less))


@cache
def _read() -> Mapping[str, Any]:
    return MappingProxyType(json.loads(_DATA.read_bytes()))

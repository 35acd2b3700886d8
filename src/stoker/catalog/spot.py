"""What spot capacity of a type costs in a place, and how often it is taken away, as far as public lists say.

As of the days in `data/ec2/SOURCES.md`. Read once, when first asked for. Estimates: AWS publishes means over a month.
"""

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stoker.catalog.ec2 import REGION, find

_DATA = Path(__file__).with_name("data") / "ec2" / "spot.json.gz"

HOURS_OF_MONTH = 730.0
MONTHLY_SHARE = (0.025, 0.075, 0.125, 0.175, 0.25)
"""By bucket of AWS's Spot Instance Advisor, the part of instances taken away in a month: the middle of `under 5 %`,
`5-10 %`, `10-15 %` and `15-20 %`; for `over 20 %`, which has no upper end, a quarter."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Of one type in one region: what spot saves over on demand in per cent, and how often it is interrupted, as a
    bucket from 0 (seldom) to 4 (often)."""

    savings_percent: int
    bucket: int


@dataclass(frozen=True, slots=True)
class _Read:
    advice: Mapping[str, Mapping[str, tuple[int, int]]]
    prices: Mapping[str, Mapping[str, float]]
    regions_of_zones: Mapping[str, str]


def advice(type: str, region: str) -> Advice | None:
    """None where the list has no spot market for the type in the region."""
    found = _read().advice.get(region, {}).get(type)
    return None if found is None else Advice(*found)


def regions() -> tuple[str, ...]:
    """The regions of the list."""
    return tuple(_read().advice)


def spot_usd_per_hour(type: str, region: str, zone_id: str | None = None) -> float | None:
    """What was observed in the zone (`use1-az4`; names like `us-east-1a` differ from account to account), without a
    zone the mean of those observed in the region. Else the on-demand price less the savings; the on-demand price is
    that of us-east-1 where the region's is not known. None where nothing says that there is a spot market."""
    seen = _seen(type, region, zone_id)
    if seen:
        return sum(seen) / len(seen)
    advised, instance = advice(type, region), find(type)
    if advised is None or instance is None:
        return None
    on_demand = instance.usd_per_hour(region)
    on_demand = instance.usd_per_hour(REGION) if on_demand is None else on_demand
    return None if on_demand is None else on_demand * (100 - advised.savings_percent) / 100


def interruptions_per_hour(type: str, region: str) -> float | None:
    """The rate at which one running instance is taken away. If that is as likely in every hour and a part p of the
    instances is taken away in a month of 730 hours, the rate is -ln(1 - p) / 730. None where it is not known."""
    advised = advice(type, region)
    return None if advised is None else -math.log(1 - MONTHLY_SHARE[advised.bucket]) / HOURS_OF_MONTH


def _seen(type: str, region: str, zone_id: str | None) -> list[float]:
    read = _read()
    observed = read.prices.get(type, {})
    if zone_id is not None:
        is_there = zone_id in observed and read.regions_of_zones[zone_id] == region
        return [observed[zone_id]] if is_there else []
    return [usd for zone, usd in observed.items() if read.regions_of_zones[zone] == region]


@cache
def _read() -> _Read:
    read = json.loads(gzip.decompress(_DATA.read_bytes()))
    return _Read(read["regions"], read["prices"], read["zones"])

"""What a cluster can buy: each instance type on demand and as spot in each of its zones, at the catalogue's prices.

Who simulates makes a market once, and marks offerings as not available while they have just been refused.
"""

from collections.abc import Iterable, Mapping, Sequence

from stoker.catalog.ec2 import REGION, InstanceType, instance_types
from stoker.catalog.labels import CAPACITY_TYPE, ZONE
from stoker.catalog.spot import advice, spot_usd_per_hour
from stoker.policy.cluster import CapacityType, Market, Offering
from stoker.policy.requirements import Requirements

DEPTH = (1.0, 0.8, 0.6, 0.4, 0.2)
"""By bucket of interruptions, how much spot capacity is thought to be there: AWS publishes no depth, and takes back
what it is short of. A model, not a measurement."""
UNKNOWN_DEPTH = 0.5


def market(
    region: str,
    zones: Sequence[str],
    types: Iterable[InstanceType] | None = None,
    zone_ids: Mapping[str, str] | None = None,
) -> Market:
    """All offerings, by name of the type; of all types where none are named. `zone_ids` gives the id of a zone's name
    (`us-east-1a` -> `use1-az4`), which differs from account to account; without it a zone costs what the region does.

    Every type is taken to be sold in every zone. A type without any price (capacity blocks) is not in it."""
    ids = zone_ids or {}
    found: dict[str, tuple[Offering, ...]] = {}
    for each in instance_types().values() if types is None else types:
        offerings = [*_on_demand(each, region, zones), *_spot(each, region, zones, ids)]
        if offerings:
            found[each.name] = tuple(offerings)
    return found


def on_demand_usd_per_hour(instance: InstanceType, region: str) -> float | None:
    """The price of the region, that of us-east-1 where it is not known (`has_own_price`)."""
    own = instance.usd_per_hour(region)
    return instance.usd_per_hour(REGION) if own is None else own


def has_own_price(instance: InstanceType, region: str) -> bool:
    """Whether the on-demand price is the region's own, and not that of us-east-1 in its place."""
    return instance.usd_per_hour(region) is not None


def without(market: Market, type: str, zone: str, capacity: CapacityType) -> Market:
    """The market while this offering counts as unavailable. What it does not touch stays the same object."""
    held = market.get(type, ())
    left = tuple(
        Offering(each.type, each.zone, each.capacity, each.usd_per_hour, False, each.depth)
        if (each.zone, each.capacity) == (zone, capacity)
        else each
        for each in held
    )
    return {**market, type: left} if held else market


def suits(offering: Offering, requirements: Requirements) -> bool:
    """Whether the zone and the capacity type are among those asked for. Other labels are the type's or the node's."""
    zone, capacity = requirements.get(ZONE), requirements.get(CAPACITY_TYPE)
    return (zone is None or zone.allows(offering.zone)) and (capacity is None or capacity.allows(offering.capacity))


def _on_demand(instance: InstanceType, region: str, zones: Sequence[str]) -> list[Offering]:
    usd = on_demand_usd_per_hour(instance, region)
    return [] if usd is None else [Offering(instance, zone, "on-demand", usd) for zone in zones]


def _spot(instance: InstanceType, region: str, zones: Sequence[str], ids: Mapping[str, str]) -> list[Offering]:
    advised = advice(instance.name, region)
    depth = UNKNOWN_DEPTH if advised is None else DEPTH[advised.bucket]
    found = []
    for zone in zones:
        usd = spot_usd_per_hour(instance.name, region, ids.get(zone))
        if usd is not None:
            found.append(Offering(instance, zone, "spot", usd, depth=depth))
    return found

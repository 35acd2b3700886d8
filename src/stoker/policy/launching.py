"""What AWS is asked for a NodeClaim, and what it gives: Karpenter's filters of offerings, and CreateFleet's choice.

Source: aws/karpenter-provider-aws, pkg/providers/instance/instance.go and filter/filter.go. How EC2 itself chooses spot
capacity is not published: `fleet` is a model of it.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stoker.catalog.ec2 import InstanceType
from stoker.policy.cluster import CapacityType, Market, Offering
from stoker.policy.market import suits
from stoker.policy.placement import too_few_values
from stoker.policy.pod_resources import ACCELERATORS
from stoker.policy.provisioning import Claim

UNAVAILABLE_S = 180.0
"""How long an offering that was refused is not asked for again."""
MOST_TYPES = 60
DEEP_ENOUGH = 0.5
"""Of a spot offering's depth: those that have as much are compared by price alone."""
PRECEDENCE: tuple[CapacityType, ...] = ("reserved", "spot", "on-demand")
_EXOTIC = (*ACCELERATORS, "habana.ai/gaudi")

_Offers = dict[InstanceType, tuple[Offering, ...]]
"""Types that are still in question, with those of their offerings that are."""


@dataclass(frozen=True, eq=False)
class Request:
    """One CreateFleet: of one capacity type, any of these, the most wanted first."""

    capacity: CapacityType
    offerings: tuple[Offering, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    """Type and why it was not asked for, of types that the claim allowed."""


def request(claim: Claim, market: Market) -> Request | None:
    """What Karpenter asks for; None where nothing that the claim allows is available."""
    offers: _Offers = {each: market.get(each.name, ()) for each in claim.types}
    dropped: list[tuple[str, str]] = []
    for keep, reason in _FILTERS:
        kept = keep(offers, claim)
        dropped += ((each.name, reason) for each in offers if each not in kept)
        offers = kept
    if not offers or (claim.pool.min_values and too_few_values(claim.pool, offers)):
        return None
    capacity = next(each for each in PRECEDENCE if _has(offers, each))
    asked = [one for each in offers.values() for one in each if one.capacity == capacity]
    types = {each.type for each in asked}
    dropped += ((each.name, f"it is not to be had as {capacity}") for each in offers if each not in types)
    return Request(capacity, tuple(sorted(asked, key=_by_price)), tuple(dropped))


def fleet(
    request: Request,
    has_capacity: Mapping[tuple[str, str, str], bool],
    chance: random.Random,
    deep_enough: float = DEEP_ENOUGH,
) -> Offering | None:
    """What EC2 gives: on demand the cheapest that is there, spot by price and depth. `has_capacity` is by (type, zone,
    capacity type), True where it is not said. None: insufficient capacity everywhere.

    Spot (`price-capacity-optimized`, modelled): the cheapest of those at least `deep_enough`; with none of them, one
    drawn by depth per dollar. Offerings at the same price are as likely as one another."""
    there = [each for each in request.offerings if has_capacity.get((each.type.name, each.zone, each.capacity), True)]
    if not there:
        return None
    if request.capacity == "spot":
        deep = [each for each in there if each.depth >= deep_enough]
        if not deep:
            return _by_depth(there, chance)
        there = deep
    least = min(each.usd_per_hour for each in there)
    return chance.choice([each for each in there if each.usd_per_hour == least])


def _by_depth(offerings: list[Offering], chance: random.Random) -> Offering:
    weights = [each.depth / max(each.usd_per_hour, 1e-6) for each in offerings]
    return chance.choices(offerings, weights if any(weights) else None)[0]


# -- the filters, in their order; each keeps some of the types --


def _available(offers: _Offers, claim: Claim) -> _Offers:
    found = {
        each: tuple(one for one in held if one.is_available and suits(one, claim.requirements))
        for each, held in offers.items()
    }
    return {each: held for each, held in found.items() if held}


def _reserved(offers: _Offers, _: Claim) -> _Offers:
    """With a reservation to use, nothing else is asked for."""
    found = {each: tuple(one for one in held if one.capacity == "reserved") for each, held in offers.items()}
    return {each: held for each, held in found.items() if held} or offers


def _plain(offers: _Offers, claim: Claim) -> _Offers:
    """Bare metal and types with GPUs or accelerators only where nothing else would do; with minValues they count."""
    if claim.pool.min_values:
        return offers
    return {each: held for each, held in offers.items() if not _is_exotic(each)} or offers


def _saving(offers: _Offers, claim: Claim) -> _Offers:
    """Where spot and on demand are both to be had: no type whose spot offerings are all dearer than the
    cheapest on demand. Types without a spot offering stay."""
    if claim.pool.min_values or not _has(offers, "spot") or not _has(offers, "on-demand"):
        return offers
    least = min(one.usd_per_hour for held in offers.values() for one in held if one.capacity == "on-demand")
    kept: _Offers = {}
    for each, held in offers.items():
        spot = [one.usd_per_hour for one in held if one.capacity == "spot"]
        if not spot or min(spot) <= least:
            kept[each] = held
    return kept


def _cheapest(offers: _Offers, _: Claim) -> _Offers:
    ordered = sorted(offers.items(), key=lambda each: (min(one.usd_per_hour for one in each[1]), each[0].name))
    return dict(ordered[:MOST_TYPES])


_FILTERS: tuple[tuple[Callable[[_Offers, Claim], _Offers], str], ...] = (
    (_available, "it is not available where the claim allows it"),
    (_reserved, "there is a reservation of another type"),
    (_plain, "it has devices or is bare metal, and plain types would do"),
    (_saving, "its spot price is above the cheapest on demand"),
    (_cheapest, f"{MOST_TYPES} types are cheaper"),
)


def _has(offers: _Offers, capacity: CapacityType) -> bool:
    return any(one.capacity == capacity for held in offers.values() for one in held)


def _is_exotic(instance: InstanceType) -> bool:
    return "metal" in instance.size or any(instance.allocatable.get(key, 0) for key in _EXOTIC)


def _by_price(offering: Offering) -> tuple[float, str, str]:
    return offering.usd_per_hour, offering.type.name, offering.zone

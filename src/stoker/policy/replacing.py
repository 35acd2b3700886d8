"""What Karpenter lets a replacement of nodes be, so that it is cheaper than they are: the price rules of consolidation.

`disruption` asks; what the pods themselves need is settled before (`provisioning`). Prices are those of now. An option
is judged by the dearest that its launch can come to, since nobody knows in which zone there will be room.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import CAPACITY_TYPE, OF_TYPES, labels_of
from stoker.policy.cluster import CapacityType, Market, Node, Offering
from stoker.policy.launching import PRECEDENCE
from stoker.policy.market import suits
from stoker.policy.placement import NodePoolView
from stoker.policy.provisioning import Claim
from stoker.policy.requirements import Requirement, Requirements, both

FEWEST_SPOT_TYPES = 15
"""A spot node is replaced by a spot node only where this many cheaper types are asked for, so that what is launched is
not replaced again at once by a cheaper one. (karpenter consolidation.go, MinInstanceTypesForSpotToSpotConsolidation)"""

SPOT_STAYS = "a spot node is not replaced by a spot node: SpotToSpotConsolidation is off"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is none."""

    why: str


def price_of(node: Node, market: Market) -> float | None:
    """What a node costs now, whether or not more of its kind are to be had; None where that is not sold (any more).
    (karpenter pkg/utils/disruption, ResolveOfferingPrice)"""
    prices = [
        each.usd_per_hour
        for each in market.get(node.type.name, ())
        if each.zone == node.zone and each.capacity == node.capacity
    ]
    return min(prices, default=None)


def worst_launch_price(instance: InstanceType, requirements: Requirements, market: Market) -> float:
    """The dearest offering that is available of the first capacity type of which one is; infinite without any.
    (karpenter pkg/cloudprovider/types.go, WorstLaunchPrice)"""
    found = launchable(instance, requirements, market)
    for capacity in PRECEDENCE:
        prices = [each.usd_per_hour for each in found if each.capacity == capacity]
        if prices:
            return max(prices)
    return math.inf


def cheapest_launch_price(instance: InstanceType, requirements: Requirements, market: Market) -> float:
    return min((each.usd_per_hour for each in launchable(instance, requirements, market)), default=math.inf)


def launchable(instance: InstanceType, requirements: Requirements, market: Market) -> list[Offering]:
    """What is available of a type in the zones and capacity types that the requirements leave."""
    return [each for each in market.get(instance.name, ()) if each.is_available and suits(each, requirements)]


def allows(claim: Claim, capacity: CapacityType) -> bool:
    """A claim that says nothing of capacity types takes any."""
    asked = claim.requirements.get(CAPACITY_TYPE)
    return asked is None or asked.allows(capacity)


def cheaper(claim: Claim, nodes: Sequence[Node], below: float, market: Market, spot_to_spot: bool) -> Claim | Refusal:
    """The claim with only the types that cost less than `below`, what the nodes cost together.
    (karpenter consolidation.go, computeConsolidation and computeSpotToSpotConsolidation)"""
    if allows(claim, "spot") and all(each.capacity == "spot" for each in nodes):
        return _spot_for_spot(claim, nodes, below, market, spot_to_spot)
    found = _below(claim, below, market)
    if isinstance(found, Claim) and allows(found, "spot") and allows(found, "on-demand"):
        # The prices were those of spot: were there none at launch, on demand might cost more than what it replaces.
        return _only_spot(found)
    return found


def without_same_types(claim: Claim, nodes: Sequence[Node], market: Market) -> Claim | Refusal:
    """Where the replacement may be of a type that is being taken away, it has to cost less than the cheapest of those:
    else that one would better stay. (karpenter multinodeconsolidation.go, filterOutSameType)"""
    offered = {each.name for each in claim.types}
    prices = [price_of(each, market) for each in nodes if each.type.name in offered]
    limit = min((each for each in prices if each is not None), default=math.inf)
    found = _below(claim, limit, market)
    if isinstance(found, Refusal):
        return Refusal("nothing cheaper than the cheapest of them holds their pods: that one had better stay")
    return found


def fewest_types(types: Iterable[InstanceType], pool: NodePoolView) -> int | None:
    """How many of the types, from the first on, it takes to meet the pool's minValues; None where all do not.
    (karpenter pkg/cloudprovider/types.go, SatisfiesMinValues)"""
    asked = {key: least for key, least in pool.min_values.items() if key in OF_TYPES[pool.domain]}
    seen: dict[str, set[str]] = {key: set() for key in asked}
    if not asked:
        return 0
    for count, each in enumerate(types, 1):
        labels = labels_of(each, pool.domain)
        for key, values in seen.items():
            if key in labels:
                values.add(labels[key])
        if all(len(seen[key]) >= least for key, least in asked.items()):
            return count
    return None


def _spot_for_spot(
    claim: Claim, nodes: Sequence[Node], below: float, market: Market, spot_to_spot: bool
) -> Claim | Refusal:
    if not spot_to_spot:
        return Refusal(SPOT_STAYS)
    found = _below(_only_spot(claim), below, market)
    if isinstance(found, Refusal) or len(nodes) > 1:
        return found
    if len(found.types) < FEWEST_SPOT_TYPES:
        return Refusal(f"spot for spot takes {FEWEST_SPOT_TYPES} cheaper types, and there are {len(found.types)}")
    most = max(FEWEST_SPOT_TYPES, fewest_types(found.types, found.pool) or 0)
    return replace(found, types=found.types[:most])


def _below(claim: Claim, limit: float, market: Market) -> Claim | Refusal:
    """(karpenter scheduling/nodeclaim.go, RemoveInstanceTypeOptionsByPriceAndMinValues)"""
    requirements = claim.requirements
    kept = [each for each in claim.types if worst_launch_price(each, requirements, market) < limit]
    if not kept:
        return Refusal(f"no type that its pods fit on costs less than ${limit:.4g}/h")
    kept.sort(key=lambda each: (cheapest_launch_price(each, requirements, market), each.name))
    if fewest_types(kept, claim.pool) is None:
        return Refusal(f"too few types cost less than ${limit:.4g}/h for minValues of NodePool {claim.pool.name}")
    return replace(claim, types=tuple(kept))


def _only_spot(claim: Claim) -> Claim:
    spot = {CAPACITY_TYPE: Requirement(CAPACITY_TYPE, frozenset({"spot"}))}
    return replace(claim, requirements=both(claim.requirements, spot))

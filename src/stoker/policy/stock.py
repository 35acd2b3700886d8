"""What the pools can launch out of a market: for a pod's wish and a pool, the types that hold it and are for sale.

Used by `provisioning`, which asks for the same few shapes and pools thousands of times: all of it is remembered, by the
identity of shapes and pools, and by what the market's offerings are.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import CAPACITY_TYPE, OF_TYPES, ZONE, labels_of
from stoker.policy.cluster import Market, Offering
from stoker.policy.market import suits
from stoker.policy.placement import (
    NodePoolView,
    PodView,
    allocatable_of,
    capacity_of,
    daemon_overhead,
    judged,
    label_blockers,
    mislabelled,
    pool_types,
)
from stoker.policy.pod_resources import Amounts
from stoker.policy.preferences import Wish
from stoker.policy.requirements import Requirement, Requirements, both
from stoker.policy.taints import Taint, Toleration, tolerates

Types = tuple[InstanceType, ...]
_SNAPSHOTS = 16
"""Markets that are remembered: what has been refused changes them."""


@dataclass(frozen=True, eq=False)
class Opening:
    """A new node of a pool for a pod: what its labels can be, and the types that hold the pod and are for sale."""

    requirements: Requirements
    types: Types


class Stock:
    """One market as it is at a moment. `market` is not looked at again."""

    def __init__(self, offers: tuple[tuple[Offering, ...], ...]) -> None:
        self.offers = offers
        self.types: Types = tuple(each[0].type for each in offers if each)
        self._of_type = {each[0].type: each for each in offers if each}
        self._openings: dict[tuple[Wish, NodePoolView, tuple[PodView, ...]], Opening | None] = {}
        self._on_sale: dict[tuple[Types, Requirement | None, Requirement | None], Types] = {}
        self._cheapest_first: dict[tuple[Types, Requirement | None, Requirement | None], Types] = {}
        self._zones: dict[tuple[Types, Requirement | None, Requirement | None], frozenset[str]] = {}
        self._domains: dict[tuple[NodePoolView, str], frozenset[str]] = {}

    def opening(self, wish: Wish, pool: NodePoolView, daemons: tuple[PodView, ...]) -> Opening | None:
        """None where taints, labels or sizes keep the pod off, or nothing that fits is for sale. Limits and minValues
        are not looked at."""
        key = wish, pool, daemons
        if key not in self._openings:
            self._openings[key] = self._find(wish, pool, daemons)
        return self._openings[key]

    def on_sale(self, types: Types, requirements: Requirements) -> Types:
        """Those of the types with an offering that is available and that the requirements allow."""
        key = types, requirements.get(ZONE), requirements.get(CAPACITY_TYPE)
        if key not in self._on_sale:
            self._on_sale[key] = tuple(each for each in types if self.suiting(each, requirements))
        return self._on_sale[key]

    def cheapest_first(self, types: Types, requirements: Requirements) -> Types:
        """By the cheapest offering that is available and allowed, then by name (`OrderByPrice`)."""
        key = types, requirements.get(ZONE), requirements.get(CAPACITY_TYPE)
        if key not in self._cheapest_first:
            prices = {each: min(one.usd_per_hour for one in self.suiting(each, requirements)) for each in types}
            self._cheapest_first[key] = tuple(sorted(types, key=lambda each: (prices[each], each.name)))
        return self._cheapest_first[key]

    def zones(self, types: Types, requirements: Requirements) -> frozenset[str]:
        """Where any of the types is for sale."""
        key = types, requirements.get(ZONE), requirements.get(CAPACITY_TYPE)
        if key not in self._zones:
            self._zones[key] = frozenset(one.zone for each in types for one in self.suiting(each, requirements))
        return self._zones[key]

    def domains(self, pool: NodePoolView, label: str) -> frozenset[str]:
        """The values that nodes of the pool can have of a label. A zone counts also while it has nothing for sale."""
        key = pool, label
        if key not in self._domains:
            self._domains[key] = frozenset(self._values(pool, label))
        return self._domains[key]

    def _find(self, wish: Wish, pool: NodePoolView, daemons: tuple[PodView, ...]) -> Opening | None:
        fitting = _fitting(wish, pool, self.types, daemons)
        if not fitting:
            return None
        requirements = both(pool.offered, wish.requirements)
        types = self.on_sale(fitting, requirements)
        return Opening(requirements, types) if types else None

    def suiting(self, instance: InstanceType, requirements: Requirements) -> list[Offering]:
        return [each for each in self._of_type[instance] if each.is_available and suits(each, requirements)]

    def _values(self, pool: NodePoolView, label: str) -> Iterable[str]:
        asked = pool.offered.get(label)
        own = types_of(pool, self.types)
        if label in OF_TYPES[pool.domain]:
            found = {labels_of(each, pool.domain).get(label, "") for each in own} - {""}
        elif label in (ZONE, CAPACITY_TYPE):
            of_types = (one for each in own for one in self._of_type[each])
            found = {one.zone if label == ZONE else one.capacity for one in of_types}
        else:
            return () if asked is None or asked.complement else asked.values
        return (each for each in found if asked is None or asked.allows(each))


_snapshots: list[Stock] = []


def stock(market: Market) -> Stock:
    """Of the market as it is now: the same object for the same offerings."""
    offers = tuple(market.values())
    for each in _snapshots:
        if each.offers == offers:
            return each
    if len(_snapshots) >= _SNAPSHOTS:
        del _snapshots[0]
    _snapshots.append(Stock(offers))
    return _snapshots[-1]


@lru_cache(maxsize=512)
def types_of(pool: NodePoolView, types: Types) -> Types:
    return pool_types(pool, types)


@lru_cache(maxsize=512)
def overhead(pool: NodePoolView, daemons: tuple[PodView, ...]) -> Amounts:
    return daemon_overhead(pool, daemons)


@lru_cache(maxsize=512)
def rooms(pool: NodePoolView, types: Types, daemons: tuple[PodView, ...]) -> Mapping[InstanceType, Amounts]:
    """By type, what pods can have of a new node beside its DaemonSets."""
    taken = overhead(pool, daemons)
    return {
        each: {key: amount - taken.get(key, 0) for key, amount in allocatable_of(each, pool).items()}
        for each in types_of(pool, types)
    }


@lru_cache(maxsize=4096)
def needs(pod: PodView, pool: NodePoolView | None) -> Amounts:
    """What has to be there, as far as it can be judged; without what is asked for as 0."""
    return {key: amount for key, amount in judged(pod, pool).items() if amount > 0}


@lru_cache(maxsize=4096)
def whole(instance: InstanceType) -> Amounts:
    """What a node of the type counts for against limits."""
    return capacity_of(instance)


def roomy(types: Iterable[InstanceType], room: Mapping[InstanceType, Amounts], wanted: Amounts) -> Types:
    """Those of the types that have all that is wanted."""
    asked = list(wanted.items())
    found = []
    for each in types:
        there = room[each]
        for key, amount in asked:
            if amount > there.get(key, 0):
                break
        else:
            found.append(each)
    return tuple(found)


def stands(tolerations: Collection[Toleration], taints: Iterable[Taint]) -> bool:
    """Whether every taint is tolerated, PreferNoSchedule too: Karpenter takes it for a requirement at first."""
    return all(tolerates(tolerations, each) for each in taints)


@lru_cache(maxsize=4096)
def _fitting(wish: Wish, pool: NodePoolView, types: Types, daemons: tuple[PodView, ...]) -> Types:
    """By taints, labels and size, whatever is for sale."""
    if wish.is_impossible or not stands(wish.tolerations, pool.taints):
        return ()
    if label_blockers(wish.requirements, pool.offered, pool.domain):
        return ()
    room = rooms(pool, types, daemons)
    large = roomy(room, room, needs(wish.shape.view, pool))
    return tuple(each for each in large if not mislabelled(wish.requirements, each, pool))

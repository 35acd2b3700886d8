"""Whether it is worth planning where pods could go instead: a bound that costs little, for `disruption`.

It only ever says no where a plan would come to nothing. Planning is dear, and most nodes whose pods fill them, as those
of GPU nodes do, cannot be replaced by anything cheaper.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from stoker.catalog.labels import CAPACITY_TYPE
from stoker.policy.cluster import Market, Node, Pod, PodShape
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.pod_resources import added
from stoker.policy.preferences import Wish, wishes
from stoker.policy.provisioning import by_weight, has_preferred_taints, suits
from stoker.policy.replacing import SPOT_STAYS
from stoker.policy.stock import Stock, Types, needs, rooms, roomy, stock

_Homeless = frozenset[tuple[PodShape, int]]


class Prospects:
    """For one moment. `targets` are the nodes that the pods may go to; `others` are pods that may come onto a new
    node beside those that are asked about, and `everybody` are all that there are."""

    def __init__(
        self,
        targets: Sequence[Node],
        pools: Iterable[NodePoolView],
        market: Market,
        daemons: Iterable[PodView],
        others: Iterable[Pod],
        everybody: Iterable[Pod],
    ) -> None:
        self._targets = targets
        self._pools = by_weight(tuple(pools))
        self._stock = stock(market)
        self._daemons = tuple(daemons)
        self._gives_up_taints = has_preferred_taints(self._pools)
        self._is_capacity_open = not any(_spreads_over_capacity(shape) for shape in {pod.shape for pod in everybody})
        self._is_capacity_open &= not any(_asks_for_capacity(shape) for shape in {pod.shape for pod in others})
        self._free: dict[str, dict[str, int]] = {}
        self._places: dict[PodShape, dict[str, int]] = {}
        self._cheapest: dict[tuple[_Homeless, bool], dict[NodePoolView, float]] = {}

    def against(self, limit: float, pods: Iterable[Pod], gone: Collection[str], but_spot: bool) -> str:
        """Why nothing can come of it: there are more of the pods than places for them on the targets but `gone`, and no
        machine that holds those that are too many is for sale below the limit. Empty where something may. With
        `but_spot`, as anything but spot."""
        homeless = self._homeless(Counter(each.shape for each in pods), gone)
        if not homeless:
            return ""
        key = homeless, but_spot
        if key not in self._cheapest:
            self._cheapest[key] = {pool: self._cheapest_of(pool, *key) for pool in self._pools}
        fit = [pool for pool, usd in self._cheapest[key].items() if usd < limit]
        if min(self._cheapest[key].values(), default=0.0) == math.inf and self._would_fit_alone(homeless):
            return "it would take more than one new node"
        if not fit:
            return f"nothing that holds its pods costs less than ${limit:.4g}/h"
        return SPOT_STAYS if but_spot and all(self._will_be_spot(pool, homeless) for pool in fit) else ""

    def _homeless(self, pods: Counter[PodShape], gone: Collection[str]) -> _Homeless:
        """Of each shape, how many there is no place for even if it had all the room to itself."""
        left = {}
        for shape, many in pods.items():
            places = self._places_for(shape)
            left[shape] = many - sum(places.values()) + sum(places.get(name, 0) for name in gone)
        return frozenset((shape, many) for shape, many in left.items() if many > 0)

    def _places_for(self, shape: PodShape) -> dict[str, int]:
        """By target, how many of these it takes at most, by labels, taints and size."""
        if shape not in self._places:
            if not self._free:
                self._free = {each.name: each.free for each in self._targets}
            asked = list(needs(shape.view, None).items())
            found = {}
            for each in self._targets:
                free = self._free[each.name]
                many = min(free.get(key, 0) // amount for key, amount in asked)  # of `pods` at least one is asked for
                if many > 0 and any(suits(each, wish) for wish in self._wishes(shape)):
                    found[each.name] = many
            self._places[shape] = found
        return self._places[shape]

    def _would_fit_alone(self, homeless: _Homeless) -> bool:
        each_alone = [frozenset({(shape, 1)}) for shape, _ in homeless]
        return all(any(self._cheapest_of(pool, each, False) < math.inf for pool in self._pools) for each in each_alone)

    def _will_be_spot(self, pool: NodePoolView, homeless: _Homeless) -> bool:
        """Whether a new node of the pool for these can be spot, as no pod sees to it that it is not."""
        offered = pool.offered.get(CAPACITY_TYPE)
        if offered is not None and not offered.allows("spot"):
            return False
        return self._is_capacity_open and not any(_asks_for_capacity(shape) for shape, _ in homeless)

    def _cheapest_of(self, pool: NodePoolView, homeless: _Homeless, but_spot: bool) -> float:
        return _cheapest(self._stock, pool, self._daemons, homeless, self._gives_up_taints, but_spot)

    def _wishes(self, shape: PodShape) -> tuple[Wish, ...]:
        return wishes(shape, self._gives_up_taints)


@lru_cache(maxsize=4096)
def _cheapest(
    sold: Stock,
    pool: NodePoolView,
    daemons: tuple[PodView, ...],
    homeless: _Homeless,
    gives_up_taints: bool,
    but_spot: bool,
) -> float:
    """What a machine of the pool costs at least that holds them all; infinite where none does."""
    left: Types | None = None
    for shape, _ in homeless:
        openings = [sold.opening(wish, pool, daemons) for wish in wishes(shape, gives_up_taints)]
        fitting = {each for opening in openings if opening is not None for each in opening.types}
        left = tuple(each for each in (fitting if left is None else left) if each in fitting)
    wanted = added(*(needs(shape.view, pool) for shape, many in homeless for _ in range(many)))
    prices = [
        offering.usd_per_hour
        for each in roomy(left or (), rooms(pool, sold.types, daemons), wanted)
        for offering in sold.suiting(each, pool.offered)
        if not (but_spot and offering.capacity == "spot")
    ]
    return min(prices, default=math.inf)


def _spreads_over_capacity(shape: PodShape) -> bool:
    keys = [each.key for each in shape.spread] + [each.key for each in (*shape.affinity, *shape.anti_affinity)]
    return CAPACITY_TYPE in keys


def _asks_for_capacity(shape: PodShape) -> bool:
    return any(CAPACITY_TYPE in wish.requirements for wish in wishes(shape))

"""Whether it is worth planning where pods could go instead: a bound that costs little, for `disruption`.

It only ever says no where a plan would come to nothing. Planning is dear, and most nodes whose pods fill them, as those
of GPU nodes do, cannot be replaced by anything cheaper.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from stoker.policy.cluster import Market, Node, Pod
from stoker.policy.placement import NodePoolView
from stoker.policy.pod_resources import ACCELERATORS, CPU, EFA, MEMORY, Amounts, added
from stoker.policy.replacing import launchable
from stoker.policy.stock import Types, stock, types_of, whole

_COUNTED = (CPU, MEMORY, EFA, *ACCELERATORS)
"""What a node surely has no more of than its machine."""
_Wanted = tuple[int, ...]
"""An amount of each of these."""


class Prospects:
    """For one moment. `targets` are the nodes that may stay."""

    def __init__(self, targets: Sequence[Node], pools: Iterable[NodePoolView], market: Market) -> None:
        self._targets = targets
        self._pools = tuple(pools)
        self._market = market
        self._free: dict[str, dict[str, int]] = {}
        self._roomy: dict[_Wanted, list[str]] = {}
        self._cheapest: dict[tuple[_Wanted, bool], float] = {}

    def may_be_below(self, limit: float, pods: Iterable[Pod], gone: Collection[str], but_spot: bool) -> bool:
        """False where some of the pods fit on none of the targets but `gone`, and no machine that is large enough for
        those together is for sale below the limit. With `but_spot`, as anything but spot."""
        homeless = [each for each in pods if not self._has_room(each, gone)]
        if not homeless:
            return True
        wanted = added(*(each.shape.requests for each in homeless))
        return self._cheapest_holding(_counted(wanted), but_spot) < limit

    def _has_room(self, pod: Pod, gone: Collection[str]) -> bool:
        key = _counted(pod.shape.requests)
        if key not in self._roomy:
            if not self._free:
                self._free = {each.name: each.free for each in self._targets}
            wanted = [(each, n) for each, n in zip(_COUNTED, key, strict=True) if n]
            self._roomy[key] = [
                name for name, free in self._free.items() if all(free.get(each, 0) >= n for each, n in wanted)
            ]
        return any(name not in gone for name in self._roomy[key])

    def _cheapest_holding(self, wanted: _Wanted, but_spot: bool) -> float:
        if (wanted, but_spot) not in self._cheapest:
            sold = stock(self._market).types
            self._cheapest[wanted, but_spot] = min(
                (
                    offering.usd_per_hour
                    for pool in self._pools
                    for each in _large_enough(pool, sold, wanted)
                    for offering in launchable(each, pool.offered, self._market)
                    if not (but_spot and offering.capacity == "spot")
                ),
                default=math.inf,
            )
        return self._cheapest[wanted, but_spot]


def _counted(amounts: Amounts) -> _Wanted:
    return tuple(amounts.get(each, 0) for each in _COUNTED)


@lru_cache(maxsize=1024)
def _large_enough(pool: NodePoolView, sold: Types, wanted: _Wanted) -> Types:
    found = []
    for each in types_of(pool, sold):
        there = whole(each)
        if all(there.get(key, 0) >= n for key, n in zip(_COUNTED, wanted, strict=True)):
            found.append(each)
    return tuple(found)

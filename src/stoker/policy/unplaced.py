"""Why Karpenter launches no node for a pod, in a line for each pool."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from stoker.catalog.ec2 import InstanceType
from stoker.policy.placement import (
    Blocker,
    NodePoolView,
    Placement,
    PodView,
    by_price,
    capacity_of,
    place,
    too_few_values,
)
from stoker.policy.pod_resources import CPU, MEMORY, STORAGE, Amounts

_GIB = 1024**3


@dataclass(frozen=True, eq=False)
class Obstacle:
    """One pool as a pod found it. `on_sale`: the types that hold the pod and are to be had; `within_limits`: of those,
    the ones that the pool's limits still allow; `left`: what is left of them."""

    pool: NodePoolView
    all_types: tuple[InstanceType, ...]
    overhead: Amounts
    on_sale: tuple[InstanceType, ...]
    within_limits: tuple[InstanceType, ...]
    left: Amounts


def why(pod: PodView, obstacles: Iterable[Obstacle]) -> str:
    lines = [f"{each.pool.name}: {_reason(pod, each)}" for each in obstacles]
    return "\n".join(lines) or "there is no NodePool that launches nodes for pods"


def _reason(pod: PodView, found: Obstacle) -> str:
    placed = _placed(pod, found.pool, found.all_types, tuple(sorted(found.overhead.items())))
    if placed.against_pool:
        return "; ".join(said(each) for each in placed.against_pool)
    if not placed.is_possible:
        missed = placed.closest
        if missed is None:
            return "no instance type fits"
        name, blockers = missed
        return f"none of its {len(placed.against_type)} types fits; {name} comes closest: " + "; ".join(
            said(each) for each in blockers
        )
    if not found.on_sale:
        return f"nothing that fits is to be had where the pod may go: {_few(placed.types)}"
    if not found.within_limits:
        return _over_limits(found)
    if short := too_few_values(found.pool, found.within_limits):
        return "; ".join(said(each) for each in short)
    return "its spread, affinity or anti-affinity leaves no zone or node for it"


def said(blocker: Blocker) -> str:
    """One thing in the way, in words."""
    wanted, offered = _amount(blocker.key, blocker.wanted), _amount(blocker.key, blocker.offered)
    match blocker.kind:
        case "taint":
            return f"the taint {offered} is not tolerated"
        case "label" | "zone" | "arch" | "capacity-type":
            return f"{blocker.key} is {offered or 'not given'}, the pod wants {wanted}"
        case "affinity":
            return "the pod's affinity matches no node whatever"
        case "pool":
            return f"its own requirements leave nothing of {blocker.key or 'the instance types'}"
        case "min-values":
            return f"only {offered} values of {blocker.key} are left, minValues wants {wanted}"
        case "limit":
            return f"one node counts for {wanted} {blocker.key}, the limit is {offered}"
        case _:
            return f"{wanted} {blocker.key} wanted, {offered} there"


def _over_limits(found: Obstacle) -> str:
    smallest = min(found.on_sale, key=by_price)
    counts = capacity_of(smallest)
    spent = [key for key, left in found.left.items() if counts.get(key, 0) > left]
    said_of = (
        f"{key}: {_amount(key, max(found.left[key], 0))} of {_amount(key, found.pool.limits[key])} left, "
        f"a {smallest.name} counts for {_amount(key, counts.get(key, 0))}"
        for key in spent
    )
    return "its limits are reached; " + "; ".join(said_of)


def _amount(key: str, amount: int | str) -> str:
    if isinstance(amount, str):
        return amount
    if key == CPU:
        return f"{amount / 1000:g}"
    if key in (MEMORY, STORAGE):
        return f"{amount / _GIB:.1f} GiB"
    return str(amount)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@lru_cache(maxsize=512)
def _placed(
    pod: PodView, pool: NodePoolView, types: tuple[InstanceType, ...], overhead: tuple[tuple[str, int], ...]
) -> Placement:
    return place(pod, pool, types, dict(overhead))

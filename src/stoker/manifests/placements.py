"""What `policy.placement` found, in words."""

from stoker.manifests.quantities import format_amount
from stoker.policy.placement import Blocker, Placement

_LISTED = 3


def blocker_text(blocker: Blocker) -> str:
    """`cpu: 8 wanted, 7910m there`."""
    if blocker.kind == "taint":
        return f"taint {blocker.offered} is not tolerated"
    if blocker.kind == "affinity":
        return "the required node affinity matches no node"
    if blocker.kind == "pool" and not blocker.key:
        return "no instance type meets the pool's own requirements"
    if blocker.kind == "pool":
        return f"the pool contradicts itself: {blocker.key} is to be {blocker.wanted}, and is {blocker.offered}"
    if blocker.kind == "min-values":
        return f"{blocker.key}: minValues {blocker.wanted}, and the types that fit have {blocker.offered}"
    if isinstance(blocker.wanted, int) and isinstance(blocker.offered, int):
        wanted, offered = _apart(blocker.key, blocker.wanted, blocker.offered)
        if blocker.kind == "limit":
            return f"limit of {blocker.key}: one node counts {wanted}, the pool allows {offered}"
        return f"{blocker.key}: {wanted} wanted, {offered} there"
    if blocker.offered == "":
        return f"{blocker.key}: {blocker.wanted} wanted, and no node here has that label"
    return f"{blocker.key}: {blocker.wanted} wanted, {blocker.offered} there"


def placement_text(placement: Placement) -> str:
    """Why the pod fits no node of the pool, and which type would do; empty where it fits one."""
    if placement.is_possible:
        return ""
    if placement.against_pool:
        return "; ".join(blocker_text(each) for each in placement.against_pool)
    parts = []
    if placement.closest is not None:
        name, blockers = placement.closest
        said = ", ".join(blocker_text(each) for each in blockers[:_LISTED])
        others = len(placement.against_type) - 1
        parts.append(f"{name} {'comes closest: ' if others else 'does not do: '}{said}")
    parts.append(nearest_text(placement))
    return "; ".join(parts)


def nearest_text(placement: Placement) -> str:
    """Which type would do: one of the pool's families, or the cheapest of all."""
    found = [each.name for each in (placement.nearest_in_families, placement.nearest) if each is not None]
    if not found:
        return "no instance type would do"
    return f"{' or '.join(dict.fromkeys(found))} would do"


def _apart(resource: str, a: int, b: int) -> tuple[str, str]:
    """Both amounts as text that shows that they differ."""
    texts = format_amount(resource, a), format_amount(resource, b)
    return texts if texts[0] != texts[1] else (str(a), str(b))

"""What NodePools and PodDisruptionBudgets say about taking nodes and pods away, as `policy.cluster` holds it.

Broken objects are read, too: what the API server would refuse is left out, and then the default counts. It is for
others to say so.
"""

import re
from typing import Any, Literal

from stoker.base.durations import seconds_of
from stoker.manifests.node_pools import is_auto_mode
from stoker.manifests.objects import Manifest, sections, texts, whole
from stoker.policy.cluster import Budget, Disruption, DisruptionBudget
from stoker.policy.requirements import Requirement, Requirements, all_of, of_labels, requirement

Policy = Literal["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"]

EXPIRES_AFTER_S = 720 * 3600.0
"""Of a Karpenter of one's own. (karpenter pkg/apis/v1/nodeclaim.go)"""
AUTO_EXPIRES_AFTER_S = 336 * 3600.0
AUTO_GRACE_S = 24 * 3600.0
"""EKS Auto Mode's defaults (AWS documentation, EKS Auto Mode)."""
_NEVER = "Never"
_OF_NODES = ("spec", "template", "spec")
_NODES = re.compile(r"(100|[0-9]{1,2})%|[0-9]{1,9}", re.ASCII)
_PERCENT = re.compile(r"[0-9]{1,9}%", re.ASCII)
_NOTHING: Requirements = {"": Requirement("")}
"""What no pod has."""


def disruption_of(pool: Manifest) -> Disruption:
    """Of a NodePool of `karpenter.sh/v1` or `v1beta1`, with the defaults of Karpenter, or of EKS Auto Mode where that
    runs the pool."""
    is_auto = is_auto_mode(pool)
    expires = AUTO_EXPIRES_AFTER_S if is_auto else EXPIRES_AFTER_S
    # v1 made it a property of the nodes; the old place is unknown to it.
    place = ("spec", "disruption") if pool.version == "v1beta1" else _OF_NODES
    return Disruption(
        policy=policy_of(pool),
        consolidate_after_s=_seconds(pool.get("spec", "disruption", "consolidateAfter"), 0.0),
        budgets=_budgets(pool.get("spec", "disruption", "budgets")),
        expire_after_s=_seconds(pool.get(*place, "expireAfter"), expires),
        termination_grace_s=_seconds(
            pool.get(*_OF_NODES, "terminationGracePeriod"), AUTO_GRACE_S if is_auto else None, may_be_never=False
        ),
    )


def policy_of(pool: Manifest) -> Policy:
    """The consolidation policy by its present name."""
    match pool.get("spec", "disruption", "consolidationPolicy"):
        case "WhenEmpty":
            return "WhenEmpty"
        case "Balanced":
            return "Balanced"
    return "WhenEmptyOrUnderutilized"


def budgets_of(budget: Manifest) -> DisruptionBudget:
    """A PodDisruptionBudget. One that says how many may be away and how many must stay is refused by the API server;
    here the first counts, as in the controller."""
    most, least = budget.get("spec", "maxUnavailable"), budget.get("spec", "minAvailable")
    away = _number(most)
    stay = _number(least) if away is None else None
    return DisruptionBudget(
        name=budget.name,
        namespace=budget.namespace or "default",
        selector=_selector(budget.get("spec", "selector")),
        min_available=stay,
        max_unavailable=away,
        is_percent=isinstance(least if away is None else most, str),
    )


def _budgets(tree: Any) -> tuple[Budget, ...]:
    """Without any, a tenth of the nodes; an empty list is no limit at all."""
    if not isinstance(tree, list):
        return Disruption().budgets
    return tuple(found for _, each in sections(tree) if (found := _budget(each)) is not None)


def is_budget(tree: dict[str, Any]) -> bool:
    """Whether one of a NodePool's `budgets` is read, and not left out."""
    return _budget(tree) is not None


def _budget(tree: dict[str, Any]) -> Budget | None:
    nodes, schedule = tree.get("nodes", "10%"), tree.get("schedule")
    written = str(nodes) if whole(nodes) is not None else nodes
    if not isinstance(written, str) or _NODES.fullmatch(written) is None:
        return None
    if schedule is not None and not isinstance(schedule, str):
        return None
    duration_s = _seconds(tree.get("duration"), None, may_be_never=False)
    if (schedule is None) is not (duration_s is None):
        return None  # they only go together
    reasons = tree.get("reasons")
    return Budget(
        nodes=int(written.removesuffix("%")),
        is_percent=written.endswith("%"),
        reasons=tuple(each for each in reasons if isinstance(each, str)) if isinstance(reasons, list) else (),
        schedule=schedule or "",
        duration_s=duration_s or 0.0,
    )


def _seconds(value: Any, default: float | None, *, may_be_never: bool = True) -> float | None:
    """None for `Never`."""
    if value == _NEVER and may_be_never:
        return None
    try:
        found = float(seconds_of(value)) if isinstance(value, str) else -1.0
    except ValueError:
        return default
    return found if found >= 0 else default


def _number(value: Any) -> int | None:
    """Of `2` and of `25%`."""
    if isinstance(value, str):
        return int(value[:-1]) if _PERCENT.fullmatch(value) else None
    found = whole(value)
    return found if found is not None and found >= 0 else None


def _selector(tree: Any) -> Requirements:
    """One that is empty selects every pod of the namespace, one that is missing none. A line that cannot be read
    selects none either: the API server would have refused it."""
    if not isinstance(tree, dict):
        return _NOTHING
    lines = []
    for _, each in sections(tree.get("matchExpressions")):
        key, operator, values = each.get("key"), each.get("operator"), each.get("values") or []
        try:
            lines.append(requirement(str(key), str(operator), [str(value) for value in values]))
        except (TypeError, ValueError):
            return _NOTHING
    return all_of([*of_labels(texts(tree.get("matchLabels"))).values(), *lines])

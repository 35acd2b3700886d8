"""Nodes that Karpenter might take away: what taking one would disturb, since when it may, and what its pods have
against it. `disruption` decides which of them go.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stoker.policy import scheduling
from stoker.policy.cluster import Disruption, DisruptionBudget, Node, Pod, PodShape
from stoker.policy.taints import Taint, tolerates

DISRUPTED = Taint("karpenter.sh/disrupted")
"""What a node has while it is being taken away."""
NODE_COST = 1.0
"""Of disturbing a node without pods. (karpenter pkg/utils/disruption, PerNodeBaseDisruptionCost)"""
_MOST_COST = 10.0
_PER_DELETION_COST, _PER_PRIORITY = 2.0**27, 2.0**25


@dataclass(frozen=True, slots=True)
class Candidate:
    """`pods` are those that would have to go elsewhere. `price` is None where it is not known."""

    node: Node
    settings: Disruption
    pods: tuple[Pod, ...]
    cost: float
    price: float | None

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def is_empty(self) -> bool:
        """No pod costs anything to disturb; those that are worth nothing do not count.
        (karpenter pkg/controllers/disruption/types.go, IsEmpty)"""
        return self.cost <= NODE_COST

    @property
    def savings_ratio(self) -> float:
        return (self.price or 0.0) / self.cost


def eviction_cost(shape: PodShape) -> float:
    """1 for a pod without a priority and a deletion cost, from -10 to 10 with them.
    (karpenter pkg/utils/disruption, EvictionCost)"""
    cost = 1.0 + shape.deletion_cost / _PER_DELETION_COST + shape.priority / _PER_PRIORITY
    return min(max(cost, -_MOST_COST), _MOST_COST)


def disruption_cost(pods: Iterable[Pod]) -> float:
    """(karpenter pkg/utils/disruption, ComputeRescheduleDisruptionCost)"""
    return NODE_COST + sum(max(0.0, eviction_cost(each.shape)) for each in pods)


def aged_cost(pods: Iterable[Pod], node: Node, settings: Disruption, now: float) -> float:
    """What releases up to 1.13 went by: without a cost of the node, and less the nearer the node is to its end.
    (karpenter pkg/utils/disruption, ReschedulingCost and LifetimeRemaining)"""
    cost = sum(eviction_cost(each.shape) for each in pods)
    if not settings.expire_after_s:
        return cost
    left = 1 - (now - node.created_at) / settings.expire_after_s
    return cost * min(max(left, 0.0), 1.0)


def reschedulable(node: Node) -> tuple[Pod, ...]:
    """The pods that come up elsewhere: all that are not leaving, and of a StatefulSet those as well.
    (karpenter pkg/utils/pod, IsReschedulable)"""
    return tuple(
        each
        for each in node.pods.values()
        if each.leaving_since is None or each.shape.owner.startswith("StatefulSet ")
        if not each.shape.owner.startswith("DaemonSet ")
    )


def is_kept(shape: PodShape, budgets: Iterable[DisruptionBudget]) -> bool:
    """Whether nothing evicts pods of this shape, as far as can be foreseen: no room is made for them elsewhere.
    (karpenter pkg/utils/pdb, IsCurrentlyReschedulable and isFullyBlocking)"""
    if shape.do_not_disrupt:
        return True
    return any(_lets_nobody_go(each) and scheduling.selects(each, shape) for each in budgets)


def _lets_nobody_go(budget: DisruptionBudget) -> bool:
    if budget.max_unavailable is not None:
        return budget.max_unavailable == 0
    return budget.is_percent and budget.min_available == 100


def consolidatable_at(node: Node, settings: Disruption) -> float | None:
    """When `consolidateAfter` is over, counted from the last time that a pod came or went; None: never.
    (karpenter pkg/controllers/nodeclaim/disruption/consolidation.go)"""
    if settings.consolidate_after_s is None or node.ready_at is None:
        return None
    since = node.ready_at if node.last_pod_event_at is None else node.last_pod_event_at
    return since + settings.consolidate_after_s


class Evictions:
    """What keeps pods where they are. For one moment: what it has looked up, it remembers by the pods' shape."""

    def __init__(self, budgets: Sequence[DisruptionBudget], all_pods: Callable[[], Sequence[Pod]]) -> None:
        self._budgets = budgets
        self._all_pods = all_pods
        self._pods: Sequence[Pod] | None = None
        self._of_shape: dict[PodShape, tuple[DisruptionBudget, ...]] = {}
        self._may: dict[tuple[PodShape, bool], bool] = {}

    def against(self, pods: Iterable[Pod]) -> str:
        """What stands against evicting these; empty where nothing does. Pods that are leaving have no say.
        (karpenter pkg/controllers/state/statenode.go, ValidatePodsDisruptable; pkg/utils/pdb, CanEvictPods)"""
        for pod in pods:
            if pod.leaving_since is not None:
                continue
            if pod.shape.do_not_disrupt:
                return f"pod {pod.name} has karpenter.sh/do-not-disrupt"
            if not self._budgets:
                continue
            found = self._budgets_of(pod.shape)
            if len(found) > 1:
                return f"pod {pod.name} is under {len(found)} PodDisruptionBudgets, and may be under one"
            if found and not self._may_go(pod):
                return f"PodDisruptionBudget {found[0].namespace}/{found[0].name} keeps pod {pod.name}"
        return ""

    def _budgets_of(self, shape: PodShape) -> tuple[DisruptionBudget, ...]:
        if shape not in self._of_shape:
            # A pod that tolerates the taint of a node that goes is left alone by the drain.
            is_left = tolerates(shape.view.tolerations, DISRUPTED)
            found = () if is_left else tuple(each for each in self._budgets if scheduling.selects(each, shape))
            self._of_shape[shape] = found
        return self._of_shape[shape]

    def _may_go(self, pod: Pod) -> bool:
        key = pod.shape, pod.ready_at is not None
        if key not in self._may:
            if self._pods is None:
                self._pods = self._all_pods()
            self._may[key] = scheduling.may_evict(pod, self._pods, self._budgets_of(pod.shape))
        return self._may[key]

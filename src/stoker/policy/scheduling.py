"""Which node kube-scheduler binds a pod to, and whom it would evict for it: filters, scores, preemption.

The filters are in `fitting`, the scores in `scoring`, disruption budgets in `evictions`, the order in which a
ReplicaSet stops pods in `downscale`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoker.policy.cluster import DisruptionBudget, Node, Pod
from stoker.policy.downscale import Candidate, in_order
from stoker.policy.evictions import may_evict, room, selects
from stoker.policy.fitting import Fit
from stoker.policy.scoring import best

__all__ = ["Binding", "Preemption", "bind", "first_to_leave", "may_evict", "preempt", "selects"]

NOT_READY = "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
LEAVING = "node(s) were unschedulable"


@dataclass(frozen=True, slots=True)
class Binding:
    """`node` is the name of the chosen one; None: no node does, and `against` says how many nodes each reason rules out
    (`Insufficient nvidia.com/gpu` -> 3), in kube-scheduler's words."""

    node: str | None
    against: Mapping[str, int]


def bind(pod: Pod, nodes: Sequence[Node]) -> Binding:
    """`nodes` are all there are; those that are not ready or are leaving are no choice. Spread and affinity count their
    `pods`."""
    fit = Fit(pod.shape, present(nodes))
    against: dict[str, int] = {}
    fitting = []
    for node in nodes:
        reasons = _not_now(node) or fit.against(node)
        if not reasons:
            fitting.append(node)
        for reason in reasons:
            against[reason] = against.get(reason, 0) + 1
    if fitting:
        return Binding(best(pod.shape, fitting, present(nodes)).name, against)
    return Binding(None, against)


def _not_now(node: Node) -> tuple[str, ...]:
    if node.leaving_since is not None:
        return (LEAVING,)
    return (NOT_READY,) if node.ready_at is None else ()


def present(nodes: Sequence[Node]) -> Sequence[Node]:
    """The nodes that count for spread and affinity: one that is not ready yet, and has no pods, is no domain."""
    if all(node.ready_at is not None for node in nodes):
        return nodes
    return [node for node in nodes if node.ready_at is not None or node.pods]


# -- preemption: pkg/scheduler/framework/preemption, plugins/defaultpreemption --


@dataclass(frozen=True, slots=True)
class Preemption:
    node: str
    victims: tuple[str, ...]
    """Names of pods."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one node would cost. `victims`: the most important first."""

    node: Node
    victims: tuple[Pod, ...]
    violations: int


def preempt(
    pod: Pod, nodes: Sequence[Node], budgets: Sequence[DisruptionBudget] = (), waiting: Sequence[Pod] = ()
) -> Preemption | None:
    """For a pod that `bind` found no node for: which pods of lower priority have to go from which node. None where that
    does not help, or the pod may not preempt. Where it is enough that pods of lower priority go that are leaving
    already, they are the victims, and there is nothing to do but wait. `waiting` are pods without a node, for what the
    budgets expect."""
    priority = pod.shape.priority
    those = present(nodes)
    if not pod.shape.may_preempt or not any(
        each.shape.priority < priority for node in those for each in node.pods.values()
    ):
        return None
    plain = Fit(pod.shape, those)
    able = [each for each in those if not _not_now(each) and plain.may_change(each)]
    leaving = {each.name: _lower(pod, each, leaving=True) for each in able}
    for each in sorted(able, key=lambda node: node.name):
        names = leaving[each.name]
        if names and not plain.without(names).against(each):
            return Preemption(each.name, tuple(sorted(names)))
    pods = [*waiting, *(each for node in nodes for each in node.pods.values())]
    left = [room(each, pods).allowed for each in budgets]
    offers = [_offer(pod, each, plain, leaving[each.name], budgets, left) for each in able]
    found = [each for each in offers if each is not None]
    if not found:
        return None
    chosen = min(found, key=_cost)
    return Preemption(chosen.node.name, tuple(each.name for each in chosen.victims))


def _lower(pod: Pod, node: Node, *, leaving: bool) -> frozenset[str]:
    """Names of the pods of a node that this one may push away, of those that are leaving or of those that are not."""
    priority = pod.shape.priority
    there = node.pods.values()
    return frozenset(
        each.name for each in there if each.shape.priority < priority and (each.leaving_since is not None) is leaving
    )


def _offer(
    pod: Pod,
    node: Node,
    fit: Fit,
    leaving: frozenset[str],
    budgets: Sequence[DisruptionBudget],
    left: Sequence[int],
) -> _Offer | None:
    """With all pods of lower priority gone, does it fit? Then as many as can be are let stay: first those whose going
    would violate a budget, and the more important ones first. (SelectVictimsOnNode.)"""
    lower = _lower(pod, node, leaving=False)
    gone = set(leaving | lower)
    if not lower or fit.without(gone).against(node):
        return None
    candidates = sorted((node.pods[name] for name in sorted(lower)), key=_importance)
    violating, rest = _by_budgets(candidates, budgets, left)
    victims, violations = [], 0
    for each in (*violating, *rest):
        if not fit.without(gone - {each.name}).against(node):
            gone.discard(each.name)
        else:
            victims.append(each)
            violations += any(each is one for one in violating)
    return _Offer(node, tuple(sorted(victims, key=_importance)), violations)


def _importance(pod: Pod) -> tuple[int, float, str]:
    """Higher priority first, then who started earlier. (MoreImportantPod.)"""
    return -pod.shape.priority, _started(pod), pod.name


def _started(pod: Pod) -> float:
    return pod.created_at if pod.bound_at is None else pod.bound_at


def _by_budgets(
    pods: Sequence[Pod], budgets: Sequence[DisruptionBudget], left: Sequence[int]
) -> tuple[list[Pod], list[Pod]]:
    """Those whose going, after the ones before them, would violate a budget; and the others. Here, unlike for an
    eviction, a budget with an empty selector is about nobody, and so is every budget for a pod without labels.
    (filterPodsWithPDBViolation.)"""
    remaining = list(left)
    violating: list[Pod] = []
    rest: list[Pod] = []
    for pod in pods:
        is_violated = False
        for i, each in enumerate(budgets):
            if pod.shape.labels and each.selector and selects(each, pod.shape):
                remaining[i] -= 1
                is_violated = is_violated or remaining[i] < 0
        (violating if is_violated else rest).append(pod)
    return violating, rest


def _cost(offer: _Offer) -> tuple[int, int, int, int, float, str]:
    """The least of these is chosen: violations of budgets, the highest priority among victims, the sum of priorities,
    how many; then the latest start of the first to have started of those with the highest priority.
    (pickOneNodeForPreemption. Priorities are summed from the lowest there is, so that more victims weigh more.)"""
    highest = max(each.shape.priority for each in offer.victims)
    total = sum(each.shape.priority + 2**31 for each in offer.victims)
    first = min(_started(each) for each in offer.victims if each.shape.priority == highest)
    return offer.violations, highest, total, len(offer.victims), -first, offer.node.name


# -- who leaves --


def first_to_leave(pods: Sequence[Pod], nodes: Mapping[str, Node], now: float, count: int) -> list[Pod]:
    """Which `count` pods a ReplicaSet stops when it has too many: the whole order of `ActivePodsWithRanks`.

    A pod that is bound counts as running from when it was first ready, or restarted. `beside` counts the pods of the
    same owner, whatever its ReplicaSet, that are not leaving.
    """
    by_name = {pod.name: pod for pod in pods}
    found = in_order((_candidate(pod, nodes) for pod in pods), now)
    return [by_name[each.name] for each in found[: max(count, 0)]]


def _candidate(pod: Pod, nodes: Mapping[str, Node]) -> Candidate:
    node = nodes.get(pod.node) if pod.node is not None else None
    beside = 0
    if node is not None:
        shape = pod.shape
        beside = sum(
            each.leaving_since is None and each.shape.owner == shape.owner and each.shape.namespace == shape.namespace
            for each in node.pods.values()
        )
    return Candidate(
        name=pod.name,
        created_at=pod.created_at,
        ready_at=pod.ready_at,
        restarts=pod.restarts,
        is_bound=pod.node is not None,
        is_running=pod.ready_at is not None or pod.restarts > 0,
        deletion_cost=pod.shape.deletion_cost,
        beside=beside,
    )

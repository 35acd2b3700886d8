"""Whether a node takes one more pod: the filters of kube-scheduler, in its order.

`scheduling` binds by them and preempts by them, `cluster_autoscaler` asks them of nodes that do not exist yet. Whether
a node is ready, or leaving, is the caller's to know. Volumes, host ports and images play no part.

`Fit` counts once, for one shape of pod, where the pods of all nodes are; then it is asked node by node.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from stoker.catalog.labels import HOSTNAME
from stoker.policy.cluster import Node, Pod, PodShape, PodTerm, Spread
from stoker.policy.placement import is_unjudged
from stoker.policy.pod_resources import CPU, MEMORY, PODS, STORAGE
from stoker.policy.requirements import Requirements
from stoker.policy.taints import BLOCKING, Taint, tolerates

NO_MATCH = "node(s) didn't match Pod's node affinity/selector"
NO_SPREAD = "node(s) didn't match pod topology spread constraints"
NO_DOMAIN = "node(s) didn't match pod topology spread constraints (missing required label)"
NO_AFFINITY = "node(s) didn't match pod affinity rules"
NO_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
NOT_WANTED = "node(s) didn't satisfy existing pods anti-affinity rules"

_PAIRS = 1 << 15
"""Pairs of shapes whose relation is remembered; a cluster has some tens of shapes."""


class Fit:
    """`nodes` are those that count as there for spread and affinity. `gone` are names of pods that are not counted,
    neither there nor in what a node has left: who asks "and without these?" """

    def __init__(self, shape: PodShape, nodes: Sequence[Node], gone: Collection[str] = frozenset()) -> None:
        self._shape = shape
        self._nodes = nodes
        self._gone = gone
        self._asked = asked(shape)
        self._takes_any = any(not each for each in shape.view.requirements)
        self._spreads = _spreads(shape, nodes, gone)
        self._affinity = _Affinity(shape, nodes, gone)
        self.counts_pods = bool(self._spreads) or not self._affinity.is_free

    def without(self, gone: Collection[str]) -> "Fit":
        """The same, as if these pods were not there. Where no pods are counted, none have to be counted again."""
        if self.counts_pods:
            return Fit(self._shape, self._nodes, gone)
        made = copy(self)
        made._gone = gone
        return made

    def against(self, node: Node) -> tuple[str, ...]:
        """Why not, in kube-scheduler's words: the reasons of the first filter that refuses; nothing if all agree."""
        if node.taints:
            taint = first_untolerated(self._shape, node.taints)
            if taint is not None:
                return (f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}",)
        if not self._takes_any and not allows(self._shape, node):
            return (NO_MATCH,)
        lacking = self._lacking(node)
        if lacking or not self.counts_pods:
            return lacking
        for spread in self._spreads:
            reason = spread.against(node)
            if reason:
                return (reason,)
        reason = self._affinity.against(node)
        return (reason,) if reason else ()

    def may_change(self, node: Node) -> bool:
        """Whether it could ever be otherwise by taking pods away: not with taints or labels in the way, nor with more
        requested than the node has."""
        if node.taints and first_untolerated(self._shape, node.taints) is not None:
            return False
        if not allows(self._shape, node):
            return False
        return all(amount <= node.allocatable.get(key, 0) or _unknown(key, node) for key, amount in self._asked)

    def _lacking(self, node: Node) -> tuple[str, ...]:
        """What the node has too little left of. (NodeResourcesFit: plugins/noderesources/fit.go.)"""
        allocatable, daemons, used = node.allocatable, node.daemons, node.used
        lacking: list[str] | None = None
        for key, amount in self._asked:
            left = allocatable.get(key, 0) - used.get(key, 0) - daemons.get(key, 0)
            if amount > left and not self._has_after_all(key, amount, left, node):
                lacking = [] if lacking is None else lacking
                lacking.append("Too many pods" if key == PODS else f"Insufficient {key}")
        return () if lacking is None else tuple(lacking)

    def _has_after_all(self, key: str, amount: int, left: int, node: Node) -> bool:
        if self._gone:
            freed = [pod.shape for pod in node.pods.values() if pod.name in self._gone]
            left += len(freed) if key == PODS else sum(each.requests.get(key, 0) for each in freed)
            if amount <= left:
                return True
        return _unknown(key, node)


def _unknown(resource: str, node: Node) -> bool:
    """One that nobody here can judge (`placement.is_unjudged`), of which the node says nothing: taken to be there."""
    return resource not in node.allocatable and is_unjudged(resource, None)


@lru_cache(_PAIRS)
def asked(shape: PodShape) -> tuple[tuple[str, int], ...]:
    """What one pod takes of a node, itself among it, in the order in which kube-scheduler looks; without zeros."""
    first = (PODS, CPU, MEMORY, STORAGE)
    amounts = {**shape.requests, PODS: 1}
    keys = [*(key for key in first if key in amounts), *sorted(key for key in amounts if key not in first)]
    return tuple((key, amounts[key]) for key in keys if amounts[key] > 0)


# -- labels and taints --


def domain(node: Node, key: str) -> str | None:
    """The value of the node's label; its own name is a label, too."""
    found = node.labels.get(key)
    return node.name if found is None and key == HOSTNAME else found


def meets(requirements: Requirements, node: Node) -> bool:
    return all(wanted.allows(domain(node, key)) for key, wanted in requirements.items())


def allows(shape: PodShape, node: Node) -> bool:
    """Node selector and required affinity: one of the alternatives. (plugins/nodeaffinity.)"""
    return any(meets(each, node) for each in shape.view.requirements)


@lru_cache(_PAIRS)
def first_untolerated(shape: PodShape, taints: tuple[Taint, ...]) -> Taint | None:
    """The first taint that keeps the pod off. (plugins/tainttoleration, Filter.)"""
    return next((each for each in taints if each.effect in BLOCKING and not _tolerates(shape, each)), None)


def _tolerates(shape: PodShape, taint: Taint) -> bool:
    return tolerates(shape.view.tolerations, taint)


# -- pods that are about other pods --


def matches(selector: Requirements, labels: Mapping[str, str]) -> bool:
    return all(wanted.allows(labels.get(key)) for key, wanted in selector.items())


def concerns(term: PodTerm, of: PodShape, other: PodShape) -> bool:
    """Whether a term of a pod is about another one. A term without namespaces is about the pod's own."""
    return other.namespace in (term.namespaces or (of.namespace,)) and matches(term.selector, other.labels)


@lru_cache(_PAIRS)
def _avoids(of: PodShape, other: PodShape) -> tuple[str, ...]:
    """Topology keys within which `of` may not be beside `other`."""
    return tuple(term.key for term in of.anti_affinity if term.is_required and concerns(term, of, other))


@lru_cache(_PAIRS)
def _seeks(of: PodShape, other: PodShape) -> bool:
    """Whether `other` is one that the required affinity of `of` is looking for: all its terms are about it."""
    return all(concerns(term, of, other) for term in of.affinity if term.is_required)


@lru_cache(_PAIRS)
def counted(of: PodShape, other: PodShape) -> tuple[bool, ...]:
    """By spread constraint of `of`: whether it counts `other`."""
    return tuple(of.namespace == other.namespace and matches(each.selector, other.labels) for each in of.spread)


def there(nodes: Iterable[Node], gone: Collection[str]) -> Iterable[tuple[Node, Iterable[Pod]]]:
    if not gone:
        return ((node, node.pods.values()) for node in nodes if node.pods)
    return ((node, [pod for pod in node.pods.values() if pod.name not in gone]) for node in nodes)


# -- topology spread: plugins/podtopologyspread/filtering.go --


@dataclass(frozen=True, slots=True, eq=False)
class _SpreadCount:
    """One required constraint: pods that it counts, by domain; the domains are those of eligible nodes."""

    key: str
    most: int
    """Pods that a domain may hold beside the new one."""
    counts: Mapping[str, int]

    def against(self, node: Node) -> str:
        value = domain(node, self.key)
        if value is None:
            return NO_DOMAIN
        return NO_SPREAD if self.counts.get(value, 0) > self.most else ""


def is_eligible(constraint: Spread, shape: PodShape, node: Node) -> bool:
    """Whether a node makes a domain: nodeAffinityPolicy and nodeTaintsPolicy. (common.go, node inclusion policies.)"""
    if constraint.honor_affinity and not allows(shape, node):
        return False
    return not constraint.honor_taints or not node.taints or first_untolerated(shape, node.taints) is None


def _spreads(shape: PodShape, nodes: Sequence[Node], gone: Collection[str]) -> tuple[_SpreadCount, ...]:
    required = [(i, each) for i, each in enumerate(shape.spread) if each.is_required]
    if not required:
        return ()
    # A node without the label of one of the constraints is a domain of none of them.
    labelled = [node for node in nodes if all(domain(node, each.key) is not None for _, each in required)]
    return tuple(_spread(shape, i, each, labelled, gone) for i, each in required)


def _spread(
    shape: PodShape, index: int, constraint: Spread, nodes: Sequence[Node], gone: Collection[str]
) -> _SpreadCount:
    """skew = pods in the domain + the new one, if it is counted itself, - the fewest in any domain <= maxSkew; with
    fewer domains than minDomains the fewest are 0."""
    counts: dict[str, int] = {}
    for node in nodes:
        if is_eligible(constraint, shape, node):
            value = domain(node, constraint.key) or ""
            counts[value] = counts.get(value, 0) + count(shape, index, node, gone)
    fewest = min(counts.values()) if counts and len(counts) >= constraint.min_domains else 0
    itself = 1 if counted(shape, shape)[index] else 0
    return _SpreadCount(constraint.key, constraint.max_skew + fewest - itself, counts)


def count(shape: PodShape, index: int, node: Node, gone: Collection[str] = frozenset()) -> int:
    """Pods of a node that one constraint counts; those that are leaving are not among them."""
    return sum(
        1
        for pod in node.pods.values()
        if pod.leaving_since is None and counted(shape, pod.shape)[index] and pod.name not in gone
    )


# -- affinity to pods, and against them: plugins/interpodaffinity/filtering.go --


class _Affinity:
    def __init__(self, shape: PodShape, nodes: Sequence[Node], gone: Collection[str]) -> None:
        self._kept_off = _kept_off(shape, nodes, gone)
        self._avoided = _avoided(shape, nodes, gone)
        self._near = tuple(term.key for term in shape.affinity if term.is_required)
        self._found = _found(shape, self._near, nodes, gone) if self._near else {}
        self._is_first_of_all = bool(self._near) and not any(self._found.values()) and _seeks(shape, shape)
        self.is_free = not (self._kept_off or self._avoided or self._near)

    def against(self, node: Node) -> str:
        if self._near and not self._is_near(node):
            return NO_AFFINITY
        if self._avoided and any(domain(node, key) in values for key, values in self._avoided.items()):
            return NO_ANTI_AFFINITY
        if self._kept_off and any(domain(node, key) in values for key, values in self._kept_off.items()):
            return NOT_WANTED
        return ""

    def _is_near(self, node: Node) -> bool:
        """A pod whose affinity is to pods like itself, the first of its kind, may go anywhere that has the labels."""
        if any(domain(node, key) is None for key in self._near):
            return False
        return self._is_first_of_all or all(domain(node, key) in self._found[key] for key in self._near)


_Values = dict[str, set[str | None]]
"""By topology key: domains."""


def _kept_off(shape: PodShape, nodes: Sequence[Node], gone: Collection[str]) -> _Values:
    """Domains where a pod is that does not want this one beside it."""
    shapes = set(chain.from_iterable([pod.shape for pod in node.pods.values()] for node in nodes))
    if not any(each.anti_affinity for each in shapes):
        return {}
    found: _Values = {}
    for node, pods in there(nodes, gone):
        for pod in pods:
            if pod.shape.anti_affinity:
                for key in _avoids(pod.shape, shape):
                    found.setdefault(key, set()).add(domain(node, key))
    return _without_none(found)


def _avoided(shape: PodShape, nodes: Sequence[Node], gone: Collection[str]) -> _Values:
    """Domains where a pod is that this one does not want beside it."""
    found: _Values = {}
    if any(term.is_required for term in shape.anti_affinity):
        for node, pods in there(nodes, gone):
            for pod in pods:
                for key in _avoids(shape, pod.shape):
                    found.setdefault(key, set()).add(domain(node, key))
    return _without_none(found)


def _found(shape: PodShape, keys: Sequence[str], nodes: Sequence[Node], gone: Collection[str]) -> _Values:
    """Domains, by key, where a pod is that this one looks for."""
    found: _Values = {key: set() for key in keys}
    for node, pods in there(nodes, gone):
        if any(_seeks(shape, pod.shape) for pod in pods):
            for key in keys:
                found[key].add(domain(node, key))
    return _without_none(found)


def _without_none(found: _Values) -> _Values:
    """Nodes without the label are in no domain together."""
    for values in found.values():
        values.discard(None)
    return found

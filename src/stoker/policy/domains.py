"""Which domains (zones, hosts, ...) a pod may go to for its spread, its affinity and its anti-affinity.

Karpenter's own count, before kube-scheduler's. Source: kubernetes-sigs/karpenter, pkg/controllers/provisioning/
scheduling/topology.go and topologygroup.go. A claim gets the domain that a spread needs as a requirement of its own.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stoker.catalog.labels import AUTO_MODE, AWS, HOSTNAME, WELL_KNOWN, ZONE
from stoker.policy.cluster import Node, Pod, PodShape, PodTerm, Spread
from stoker.policy.placement import NodePoolView, label_blockers
from stoker.policy.preferences import Wish
from stoker.policy.requirements import Requirement, Requirements
from stoker.policy.taints import Taint, Toleration, untolerated

_GIVEN = WELL_KNOWN[AWS] | WELL_KNOWN[AUTO_MODE] | {HOSTNAME}
"""Labels that a new node gets without its pool naming them."""

_Kind = Literal["spread", "affinity", "anti-affinity"]


@dataclass(slots=True, eq=False)
class _Group:
    """The pods that one constraint counts, by domain. `counts` has every domain that is known."""

    kind: _Kind
    key: str
    selector: Requirements
    namespaces: tuple[str, ...]
    max_skew: int = 1
    min_domains: int = 1
    nodes: tuple[Requirements, ...] | None = None
    """Of a spread that honours affinity: only nodes that one of these allows are counted. None: every node."""
    tolerations: tuple[Toleration, ...] | None = None
    """Of a spread that honours taints."""
    counts: dict[str, int] = field(default_factory=dict)
    selected: dict[PodShape, bool] = field(default_factory=dict)

    def selects(self, shape: PodShape) -> bool:
        found = self.selected.get(shape)
        if found is None:
            found = shape.namespace in self.namespaces and all(
                each.allows(shape.labels.get(key)) for key, each in self.selector.items()
            )
            self.selected[shape] = found
        return found

    def counts_node(self, labels: Requirements, taints: Iterable[Taint]) -> bool:
        if self.tolerations is not None and untolerated(taints, self.tolerations):
            return False
        return self.nodes is None or any(not label_blockers(each, labels, AWS) for each in self.nodes)

    def add(self, domains: Iterable[str], pods: int = 1) -> None:
        for each in domains:
            self.counts[each] = self.counts.get(each, 0) + pods

    # -- where a pod may go --

    def allowed(
        self, shape: PodShape, pod: Requirement | None, node: Requirement | None, liked: Collection[str]
    ) -> list[str]:
        """The domains for one more pod; none where there is none. `pod` and `node` say which it and the node allow."""
        match self.kind:
            case "spread":
                return self._spread(shape, pod, node, liked)
            case "affinity":
                return self._together(shape, pod, node)
            case _:
                return [each for each in self._of(node) if _allows(pod, each) and not self.counts.get(each, 0)]

    def _spread(
        self, shape: PodShape, pod: Requirement | None, node: Requirement | None, liked: Collection[str]
    ) -> list[str]:
        """The emptiest of the node's domains, where one more pod keeps the skew; of several one that is liked, then the
        first by name (upstream: any)."""
        least, itself = self._least(pod), int(self.selects(shape))
        best: tuple[int, bool, str] | None = None
        for each in self._of(node):
            count = self.counts.get(each, 0) + itself
            order = count, each not in liked, each
            if count - least <= self.max_skew and (best is None or order < best):
                best = order
        return [] if best is None else [best[2]]

    def _least(self, pod: Requirement | None) -> int:
        """The smallest count of all domains that the pod may go to. Of hosts it is 0: there can always be one more."""
        if self.key == HOSTNAME:
            return 0
        counts = [n for each, n in self.counts.items() if self.nodes is None or _allows(pod, each)]
        return 0 if len(counts) < self.min_domains else min(counts, default=0)

    def _together(self, shape: PodShape, pod: Requirement | None, node: Requirement | None) -> list[str]:
        """Where such pods are. The first of pods that look for one another may choose."""
        held = [each for each, n in self.counts.items() if n and _allows(pod, each)]
        if held or not self.selects(shape):
            return held
        free = [each for each in self._of(node) if _allows(pod, each)]
        return free[:1]

    def _of(self, node: Requirement | None) -> list[str]:
        """The domains that a node may be in, by name. A host of its own is known without being counted."""
        if node is not None and not node.complement:
            return sorted(each for each in node.values if each in self.counts or self.key == HOSTNAME)
        return sorted(each for each in self.counts if _allows(node, each))


class Topology:
    """The constraints of some pods over a cluster. `moving` are names of pods that do not count where they are."""

    def __init__(
        self,
        wished: Iterable[Wish],
        nodes: Sequence[Node],
        moving: Collection[str],
        pools: Sequence[NodePoolView],
        domains: Callable[[NodePoolView, str], frozenset[str]],
    ) -> None:
        self._groups: dict[object, _Group] = {}
        self._inverse: dict[object, _Group] = {}
        self._of_wish: dict[Wish, tuple[_Group, ...]] = {}
        self._of_owner: dict[PodShape, tuple[_Group, ...]] = {}
        self._selecting: dict[PodShape, tuple[_Group, ...]] = {}
        for wish in wished:
            self._of_wish[wish] = tuple(self._grouped(kind, each, wish) for kind, each in _constraints(wish))
            self._owned(wish.shape)
        here = [pod.shape for node in nodes for pod in node.pods.values() if pod.shape.anti_affinity]
        for shape in here:
            self._owned(shape)
        self.is_idle = not self._groups and not self._inverse
        if not self.is_idle:
            self._know(pools, domains)
            self._count(nodes, moving)

    def narrowed(
        self, wish: Wish, labels: Requirements, *, is_there: bool = False, zones: Collection[str] = ()
    ) -> dict[str, Requirement] | None:
        """What a node's labels can still be once the pod is on it; None: it may not go there. `is_there`: the node is,
        so a label that it does not have it will not get. `zones` are preferred to others that are as good."""
        found = dict(labels)
        for each in (*self._of_wish[wish], *self._against(wish.shape)):
            node = labels.get(each.key)
            if node is None and (is_there or each.key not in _GIVEN):
                return None
            liked = zones if each.key == ZONE else ()
            chosen = each.allowed(wish.shape, wish.strict.get(each.key), node, liked)
            left = frozenset(one for one in chosen if _allows(found.get(each.key), one))
            if not left:
                return None
            found[each.key] = Requirement(each.key, left)
        return found

    def record(self, shape: PodShape, labels: Requirements, taints: Iterable[Taint]) -> None:
        """The pod goes onto this node. Where its domain is still open, anti-affinity blocks all that it can be."""
        for group in self._groups.values():
            domain = labels.get(group.key)
            if domain is None or domain.complement or not group.selects(shape):
                continue
            is_settled = len(domain.values) == 1 and group.counts_node(labels, taints)
            if is_settled or group.kind == "anti-affinity":
                group.add(domain.values)
        for group in self._of_owner.get(shape, ()):
            domain = labels.get(group.key)
            if domain is not None and not domain.complement:
                group.add(domain.values)

    # -- building --

    def _grouped(self, kind: _Kind, constraint: Spread | PodTerm, wish: Wish) -> _Group:
        key = kind, *_identity(constraint, wish)
        if key not in self._groups:
            self._groups[key] = _group(kind, constraint, wish)
        return self._groups[key]

    def _owned(self, shape: PodShape) -> None:
        """Anti-affinity holds both ways: where such a pod is, those that it cannot bear may not come. Preferences
        do not count here."""
        if shape in self._of_owner:
            return
        found = []
        for term in shape.anti_affinity:
            if term.is_required:
                namespaces = term.namespaces or (shape.namespace,)
                key = term.key, namespaces, _frozen(term.selector)
                made = _Group("anti-affinity", term.key, term.selector, namespaces)
                found.append(self._inverse.setdefault(key, made))
        self._of_owner[shape] = tuple(found)

    def _against(self, shape: PodShape) -> tuple[_Group, ...]:
        if shape not in self._selecting:
            self._selecting[shape] = tuple(each for each in self._inverse.values() if each.selects(shape))
        return self._selecting[shape]

    def _know(self, pools: Sequence[NodePoolView], domains: Callable[[NodePoolView, str], frozenset[str]]) -> None:
        for group in (*self._groups.values(), *self._inverse.values()):
            for pool in pools:
                if group.tolerations is None or not untolerated(pool.taints, group.tolerations):
                    group.add(domains(pool, group.key), pods=0)

    def _count(self, nodes: Sequence[Node], moving: Collection[str]) -> None:
        for node in nodes:
            labels = labels_of_node(node)
            counted = [each for each in self._groups.values() if each.counts_node(labels, node.taints)]
            staying = [pod for pod in node.pods.values() if pod.name not in moving]
            for group in counted:
                if group.key in labels:
                    domain = labels[group.key].values
                    if node.leaving_since is None:
                        group.add(domain, pods=0)
                    there = sum(1 for pod in staying if _is_counted(pod) and group.selects(pod.shape))
                    if there:
                        group.add(domain, there)
            if node.leaving_since is None:
                for group in self._inverse.values():
                    if group.key in labels:
                        group.add(labels[group.key].values, pods=0)
            for pod in staying:
                for group in self._of_owner.get(pod.shape, ()):
                    if group.key in labels:
                        group.add(labels[group.key].values)


def labels_of_node(node: Node) -> dict[str, Requirement]:
    """Its labels as requirements, the host name among them."""
    found = {key: Requirement(key, frozenset({value})) for key, value in node.labels.items()}
    if HOSTNAME not in found:
        found[HOSTNAME] = Requirement(HOSTNAME, frozenset({node.name}))
    return found


def _constraints(wish: Wish) -> Iterator[tuple[_Kind, Spread | PodTerm]]:
    yield from (("spread", each) for each in wish.spread)
    yield from (("affinity", each) for each in wish.affinity)
    yield from (("anti-affinity", each) for each in wish.anti_affinity)


def _group(kind: _Kind, constraint: Spread | PodTerm, wish: Wish) -> _Group:
    own = (wish.shape.namespace,)
    if isinstance(constraint, PodTerm):
        return _Group(kind, constraint.key, constraint.selector, constraint.namespaces or own)
    return _Group(
        kind,
        constraint.key,
        constraint.selector,
        own,
        max_skew=constraint.max_skew,
        min_domains=constraint.min_domains,
        nodes=(wish.strict,) if constraint.honor_affinity else None,
        tolerations=wish.tolerations if constraint.honor_taints else None,
    )


def _identity(constraint: Spread | PodTerm, wish: Wish) -> tuple[object, ...]:
    """What makes two constraints of a kind count the same pods in the same way."""
    selector = _frozen(constraint.selector)
    if isinstance(constraint, PodTerm):
        return constraint.key, selector, constraint.namespaces or (wish.shape.namespace,)
    nodes = _frozen(wish.strict) if constraint.honor_affinity else None
    tolerations = wish.tolerations if constraint.honor_taints else None
    size = constraint.max_skew, constraint.min_domains
    return constraint.key, selector, wish.shape.namespace, size, nodes, tolerations


def _frozen(requirements: Mapping[str, Requirement]) -> frozenset[Requirement]:
    return frozenset(requirements.values())


def _is_counted(pod: Pod) -> bool:
    """Pods that are told to stop do not count any more."""
    return pod.leaving_since is None


def _allows(asked: Requirement | None, domain: str) -> bool:
    return asked is None or asked.allows(domain)

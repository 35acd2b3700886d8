"""Which of the nodes that fit is best for a pod: the scores of kube-scheduler with their default weights.

Each score is 0 to 100 by node. Image locality plays no part: it is the same for all where images are of one size
everywhere.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from stoker.catalog.labels import HOSTNAME, ZONE
from stoker.policy.cluster import Node, Pod, PodShape, PodTerm
from stoker.policy.fitting import allows, concerns, count, domain, is_eligible, meets
from stoker.policy.pod_resources import CPU, MEMORY
from stoker.policy.taints import Taint, tolerates

TAINTS, AFFINITY, SPREAD, PODS, RESOURCES, BALANCE = 3, 2, 2, 2, 1, 1
"""Weights of the plugins. (pkg/scheduler/apis/config/v1/default_plugins.go.)"""

DEFAULT_SPREAD = ((HOSTNAME, 3), (ZONE, 5))
"""Of a pod that has no spread of its own: key and maxSkew. (plugins/podtopologyspread/plugin.go.)"""

LEAST_CPU, LEAST_MEMORY = 100, 200 * 1024**2
"""What a pod counts for that requests nothing. (pkg/scheduler/util/pod_resources.go.)"""

_HARD_AFFINITY = 1
"""What a required affinity term of a pod that is there counts for. (InterPodAffinityArgs.)"""

Scores = Sequence[int]


def best(shape: PodShape, fitting: Sequence[Node], nodes: Sequence[Node]) -> Node:
    """The node of `fitting` with the highest score; of equals, the first by name. `nodes` are all that are there."""
    if len(fitting) == 1:
        return fitting[0]
    totals = scores(shape, fitting, nodes)
    highest = max(totals)
    return min((node for node, total in zip(fitting, totals, strict=True) if total == highest), key=lambda n: n.name)


def scores(shape: PodShape, fitting: Sequence[Node], nodes: Sequence[Node]) -> list[int]:
    """One total per node of `fitting`."""
    totals = by_resources(shape, fitting)
    weighed = (
        (TAINTS, by_taints(shape, fitting)),
        (AFFINITY, by_affinity(shape, fitting)),
        (SPREAD, by_spread(shape, fitting, nodes)),
        (PODS, by_pods(shape, fitting, nodes)),
    )
    for weight, found in weighed:
        if found is not None:
            totals = [total + weight * each for total, each in zip(totals, found, strict=True)]
    return totals


# -- resources: plugins/noderesources/{least_allocated,balanced_allocation}.go --


def by_resources(shape: PodShape, fitting: Sequence[Node]) -> list[int]:
    """Least allocated (the mean of what is free of cpu and memory) and balanced (how alike the two are used), weighed.
    A pod that requests neither has no balance."""
    cpu, memory = shape.requests.get(CPU, 0), shape.requests.get(MEMORY, 0)
    has_balance = cpu > 0 or memory > 0
    more_cpu, more_memory = (cpu or LEAST_CPU) - cpu, (memory or LEAST_MEMORY) - memory
    found = []
    for node in fitting:
        allocatable, used, daemons = node.allocatable, node.used, node.daemons
        of_cpu, of_memory = allocatable.get(CPU, 0), allocatable.get(MEMORY, 0)
        taken_cpu = used.get(CPU, 0) + daemons.get(CPU, 0) + cpu
        taken_memory = used.get(MEMORY, 0) + daemons.get(MEMORY, 0) + memory
        free = kinds = 0
        if of_cpu:
            free, kinds = max(of_cpu - taken_cpu - more_cpu, 0) * 100 // of_cpu, 1
        if of_memory:
            free, kinds = free + max(of_memory - taken_memory - more_memory, 0) * 100 // of_memory, kinds + 1
        score = RESOURCES * (free // kinds) if kinds else 0
        if has_balance:
            apart = 0.0
            if kinds == 2:
                apart = abs(min(taken_cpu / of_cpu, 1.0) - min(taken_memory / of_memory, 1.0)) / 2
            score += BALANCE * int((1 - apart) * 100)
        found.append(score)
    return found


# -- taints and node affinity: plugins/{tainttoleration,nodeaffinity} --


def by_taints(shape: PodShape, fitting: Sequence[Node]) -> Scores | None:
    """The fewer PreferNoSchedule taints that the pod does not tolerate, the better."""
    if not any(node.taints for node in fitting):
        return None
    found = [_disliked(shape, node.taints) for node in fitting]
    most = max(found)
    return [100 - 100 * each // most for each in found] if most else None


@lru_cache(1 << 12)
def _disliked(shape: PodShape, taints: tuple[Taint, ...]) -> int:
    held = [each for each in shape.view.tolerations if each.effect in ("", "PreferNoSchedule")]
    return sum(each.effect == "PreferNoSchedule" and not tolerates(held, each) for each in taints)


def by_affinity(shape: PodShape, fitting: Sequence[Node]) -> Scores | None:
    """The sum of the weights of preferred terms that the node meets, by the highest."""
    if not shape.preferred:
        return None
    found = [sum(term.weight for term in shape.preferred if meets(term.requirements, node)) for node in fitting]
    most = max(found)
    return [100 * each // most for each in found] if most else None


# -- topology spread: plugins/podtopologyspread/scoring.go --


def by_spread(shape: PodShape, fitting: Sequence[Node], nodes: Sequence[Node]) -> Scores | None:
    """The fewer pods of its kind in the node's domains, the better. A pod without constraints of its own is spread by
    the cluster's: over nodes and zones, among the pods of its ReplicaSet."""
    if not shape.spread:
        return _normal(list(_default_spread(shape, fitting, nodes))) if shape.replica_set else None
    wanted = [(i, each) for i, each in enumerate(shape.spread) if not each.is_required]
    if not wanted:
        return None
    keys = [each.key for _, each in wanted]
    scored = [all(domain(node, key) is not None for key in keys) for node in fitting]
    candidates = [node for node, has in zip(fitting, scored, strict=True) if has]
    labelled = [node for node in nodes if all(domain(node, key) is not None for key in keys)]
    sums = [0.0] * len(candidates)
    for i, each in wanted:
        if each.key == HOSTNAME:
            found = [count(shape, i, node) for node in candidates]
            size = len(candidates)
        else:
            counts = {domain(node, each.key): 0 for node in candidates}
            for node in labelled:
                value = domain(node, each.key)
                if value in counts and is_eligible(each, shape, node):
                    counts[value] += count(shape, i, node)
            found = [counts[domain(node, each.key)] for node in candidates]
            size = len(counts)
        _add(sums, found, size, each.max_skew)
    normal = iter(_normal([_rounded(each) for each in sums]))
    return [next(normal) if has else 0 for has in scored]


def _default_spread(shape: PodShape, fitting: Sequence[Node], nodes: Sequence[Node]) -> Iterable[int]:
    """Nodes without a zone are spread over by name alone. Node affinity is honoured, taints are not."""
    takes_any = any(not each for each in shape.view.requirements)
    zones: dict[str | None, int] = {node.labels.get(ZONE): 0 for node in fitting}
    here: dict[str, int] = {}
    for node in nodes:
        pods = _of_replica_set(shape.replica_set, node) if node.pods else 0
        if pods:
            here[node.name] = pods
            zone = node.labels.get(ZONE)
            if zone in zones and (takes_any or allows(shape, node)):
                zones[zone] += pods
    (_, node_skew), (_, zone_skew) = DEFAULT_SPREAD
    node_weight, zone_weight = _weight(len(fitting)), _weight(len(zones))
    by_zone = {zone: 0.0 if zone is None else pods * zone_weight + (zone_skew - 1) for zone, pods in zones.items()}
    return (
        _rounded(here.get(node.name, 0) * node_weight + (node_skew - 1) + by_zone[node.labels.get(ZONE)])
        for node in fitting
    )


def _of_replica_set(name: str, node: Node) -> int:
    return len([pod for pod in node.pods.values() if pod.shape.replica_set == name and pod.leaving_since is None])


def _add(sums: list[float], found: Sequence[int], size: int, max_skew: int) -> None:
    weight = _weight(size)
    for i, pods in enumerate(found):
        sums[i] += pods * weight + (max_skew - 1)


@lru_cache(1 << 10)
def _weight(size: int) -> float:
    """So that a topology with few domains counts beside one with many."""
    return math.log(size + 2)


def _rounded(score: float) -> int:
    return math.floor(score + 0.5)


def _normal(found: list[int]) -> list[int]:
    if not found:
        return []
    least, most = min(found), max(found)
    return [100 * (most + least - each) // most if most else 100 for each in found]


# -- pods near pods: plugins/interpodaffinity/scoring.go --


def by_pods(shape: PodShape, fitting: Sequence[Node], nodes: Sequence[Node]) -> Scores | None:
    """Preferred terms of the pod, and of the pods that are there about it, whose required affinity counts 1."""
    own = [each for each in (*shape.affinity, *shape.anti_affinity) if not each.is_required]
    shapes = {pod.shape for node in nodes for pod in node.pods.values()}
    related = {each for each in shapes if own or each.affinity or each.anti_affinity}
    if not related:
        return None
    weights: dict[tuple[str, str], int] = {}
    for node in nodes:
        for pod in node.pods.values():
            if pod.shape in related:
                _weigh(weights, shape, pod, node)
    if not weights:
        return None
    keys = list(dict.fromkeys(key for key, _ in weights))
    found = [sum(weights.get((key, domain(node, key) or ""), 0) for key in keys) for node in fitting]
    least, most = min(found), max(found)
    if least == most:
        return None
    return [int(100 * ((each - least) / (most - least))) for each in found]


def _weigh(weights: dict[tuple[str, str], int], shape: PodShape, pod: Pod, node: Node) -> None:
    for key, weight in _pull(shape, pod.shape):
        value = domain(node, key)
        if value is not None:
            weights[key, value] = weights.get((key, value), 0) + weight


@lru_cache(1 << 15)
def _pull(shape: PodShape, other: PodShape) -> tuple[tuple[str, int], ...]:
    """What one pod of `other` adds to its domains for a new one of `shape`: topology key and weight."""
    found = []
    for of, to in ((shape, other), (other, shape)):
        for sign, terms in ((1, of.affinity), (-1, of.anti_affinity)):
            found += [(each.key, sign * each.weight) for each in terms if _is_wish(each, of, to)]
    required = (each for each in other.affinity if each.is_required and concerns(each, other, shape))
    return (*found, *((each.key, _HARD_AFFINITY) for each in required))


def _is_wish(term: PodTerm, of: PodShape, to: PodShape) -> bool:
    return not term.is_required and concerns(term, of, to)

"""Whether Karpenter can launch a node of a pool for a pod, on which instance types, and if not, what stands in the way.

The decision in order: taints, labels, and then for each instance type that the pool allows its labels, its allocatable
less what DaemonSets take, and the pool's limits. Used by `lint`, which explains it, and by `simulate`, which does it.

What nobody here can know counts as there: spot capacity, reservations, huge pages, the local storage of an unknown node
class (`unjudged` names the resources).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import (
    ARCH,
    AWS,
    CAPACITY_TYPE,
    INSTANCE_TYPE,
    NODE_POOL,
    OF_TYPES,
    OS,
    REGION,
    WELL_KNOWN,
    ZONE,
    ZONE_ID,
    Domain,
    labels_of,
)
from stoker.policy.pod_resources import ACCELERATORS, CPU, EFA, MEMORY, NOTHING, PODS, STORAGE, Amounts, added, times
from stoker.policy.requirements import Requirement, Requirements, both, of_labels
from stoker.policy.taints import Taint, Toleration, untolerated

Kind = Literal[
    "taint",  # the pool has one that the pod does not tolerate
    "label",  # a label that the pool does not give, or with another value
    "zone",
    "arch",
    "capacity-type",
    "affinity",  # the pod's required affinity matches no node whatever
    "pool",  # the pool allows no instance type, or contradicts itself
    "min-values",  # fewer different values are left than the pool insists on
    "cpu",
    "memory",
    "storage",
    "gpu",
    "efa",
    "pods",
    "resource",  # one that no instance type of the catalogue has
    "limit",  # one node is more than the pool's limit
]

_KIND_OF_LABEL: Mapping[str, Kind] = {
    ZONE: "zone",
    ZONE_ID: "zone",
    REGION: "zone",
    ARCH: "arch",
    CAPACITY_TYPE: "capacity-type",
}
_KIND_OF_RESOURCE: Mapping[str, Kind] = {
    CPU: "cpu",
    MEMORY: "memory",
    STORAGE: "storage",
    PODS: "pods",
    EFA: "efa",
    **dict.fromkeys(ACCELERATORS, "gpu"),
}
_SIZES = ("size", "cpu", "memory", "gpu-count", "accelerator-count", "local-nvme", "network-bandwidth", "ebs-bandwidth")
"""Labels that say how large a type is: what is loosened first in looking for a type that would do."""
_KEPT = ("gpu-name", "gpu-manufacturer", "gpu-memory", "accelerator-name", "accelerator-manufacturer")
"""Labels that say which device it is, and so whether the software runs: never loosened."""
_MIB = 1024**2
NODES = "nodes"
REPLICAS = "replicas"


@dataclass(frozen=True, eq=False)
class NodePoolView:
    """What a NodePool says about its nodes. Amounts in base units, as in `pod_resources`."""

    name: str
    requirements: Requirements = field(default_factory=dict)
    """As the pool asks for; the labels of its template are apart."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    """Without the startup taints: those go before pods come."""
    limits: Amounts = field(default_factory=dict)
    """Without an entry there is no limit. `nodes` is one, too."""
    weight: int = 0
    replicas: int | None = None
    """Of a static pool, which has this many nodes whatever pods wait; None for any other."""
    min_values: Mapping[str, int] = field(default_factory=dict)
    """By label: how many different values the types that fit must have."""
    domain: Domain = AWS
    storage_bytes: int | None = None
    """Allocatable ephemeral storage, by the node class; None is unknown, and then not judged."""
    max_pods: int | None = None
    """Where the node class sets it; None is the type's own."""
    overlays: tuple[tuple[Requirements, Amounts], ...] = ()
    """Nodes with these labels have these amounts instead of their type's, or besides (Karpenter's NodeOverlay). The
    first that says how much there is of a resource counts."""

    @cached_property
    def offered(self) -> Requirements:
        """What the labels of its nodes can be: requirements and template labels, intersected. A label that the template
        gives leaves only its value, whatever the requirement of the same key allows."""
        given = of_labels({**self.labels, NODE_POOL: self.name})
        return both(self.requirements, given)

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Labels for which nothing is left: such a pool launches no node."""
        return tuple(key for key, each in self.offered.items() if each.is_empty)

    @property
    def zones(self) -> tuple[str, ...]:
        return self._values(ZONE)

    @property
    def capacity_types(self) -> tuple[str, ...]:
        return self._values(CAPACITY_TYPE)

    def _values(self, key: str) -> tuple[str, ...]:
        """The only values that this label can have; empty where the pool leaves it open."""
        asked = self.offered.get(key)
        return () if asked is None or asked.complement else tuple(sorted(asked.values))


@dataclass(frozen=True, eq=False)
class PodView:
    """What a pod says about the node it wants.

    `requirements` are alternatives: one of them must hold. None at all is an affinity that matches no node; one that is
    empty, a pod that takes any."""

    name: str = ""
    requirements: tuple[Requirements, ...] = ({},)
    tolerations: tuple[Toleration, ...] = ()
    requests: Amounts = field(default_factory=dict)
    priority: int | None = None
    priority_class: str = ""


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing in the way. `wanted` is the pod's side, `offered` the pool's or the type's: text for labels and taints,
    amounts in base units for resources. For a limit, `wanted` is what one node counts for."""

    kind: Kind
    key: str
    wanted: str | int
    offered: str | int


@dataclass(frozen=True, eq=False)
class Placement:
    """What came of it."""

    pod: PodView
    pool: NodePoolView
    against_pool: tuple[Blocker, ...]
    """What keeps the pod off every node of the pool."""
    against_type: Mapping[str, tuple[Blocker, ...]]
    """Every type that the pool allows, and what is against it; nothing for one that fits."""
    unjudged: tuple[str, ...]
    """Resources that the pod requests and that are taken to be there."""
    all_types: Collection[InstanceType] = field(repr=False)
    daemons: Amounts = field(repr=False)

    @property
    def is_possible(self) -> bool:
        return bool(self.types)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types that Karpenter could launch, the cheapest first."""
        if self.against_pool:
            return ()
        fitting = [each for each in self._own if not self.against_type[each.name]]
        return tuple(each.name for each in sorted(fitting, key=by_price))

    @property
    def counted(self) -> tuple[tuple[Kind, str, int], ...]:
        """Kind, key, and how many of the pool's types it is against; the most frequent first."""
        found: Counter[tuple[Kind, str]] = Counter()
        for each in self.against_pool:
            found[each.kind, each.key] += len(self.against_type) or 1
        for many in self.against_type.values():
            found.update({(each.kind, each.key) for each in many})
        return tuple((kind, key, n) for (kind, key), n in sorted(found.items(), key=lambda each: (-each[1], each[0])))

    @property
    def closest(self) -> tuple[str, tuple[Blocker, ...]] | None:
        """The type of the pool that the pod misses by the least, and by what: the fewest things against it, then the
        smallest part that is lacking. None where one fits, or where the pool has none."""
        missed = [each for each in self._own if self.against_type[each.name]]
        if not missed or len(missed) < len(self._own):
            return None
        best = min(missed, key=lambda each: (*_distance(self.against_type[each.name]), *by_price(each)))
        return best.name, self.against_type[best.name]

    @cached_property
    def nearest(self) -> InstanceType | None:
        """The cheapest type of all that would do for the pod, if the pool allowed it. With another device than the pool
        asks for it would not do, nor of an arch that none of the pool's types has: images are built for an arch."""
        kept = {key: each for key, each in self.pool.offered.items() if key in (ARCH, OS) or _label(key) in _KEPT}
        archs = {each.arch for each in self._own or self.all_types}
        return self._cheapest(kept, [each for each in self.all_types if each.arch in archs])

    @cached_property
    def nearest_in_families(self) -> InstanceType | None:
        """The cheapest type of the families that the pool allows, if it allowed the size."""
        families = {each.family for each in self._own}
        asked = _loosened(self.pool.offered)
        return self._cheapest(asked, [each for each in self.all_types if each.family in families])

    @cached_property
    def _own(self) -> tuple[InstanceType, ...]:
        return tuple(each for each in self.all_types if each.name in self.against_type)

    def _cheapest(self, asked: Requirements, types: Iterable[InstanceType]) -> InstanceType | None:
        roomy = [each for each in types if not _lacking(self.pod, each, self.pool, self.daemons)]
        found = [each for each in roomy if not mislabelled(asked, each, self.pool)]
        for alternatives in (self.pod.requirements, [_loosened(each) for each in self.pod.requirements]):
            suited = [each for each in found if any(not mislabelled(one, each, self.pool) for one in alternatives)]
            if suited:
                return min(suited, key=by_price)
        return None


def place(
    pod: PodView, pool: NodePoolView, types: Collection[InstanceType], daemon_overhead: Amounts = NOTHING
) -> Placement:
    """Looks at one pod and one pool, as Karpenter does when no node has room. Weights and what runs play no part."""
    own = pool_types(pool, types)
    against_pool = [Blocker("taint", taint.key, "", str(taint)) for taint in untolerated(pool.taints, pod.tolerations)]
    suited, mismatches = _alternatives(pod, pool)
    against_pool += mismatches
    if not own:
        against_pool.append(_no_types(pool))
    # With every alternative refused by the pool, its types are still told apart by size.
    asked: Sequence[Requirements] = suited or ({},)
    against_type = {each.name: _against(pod, each, pool, asked, daemon_overhead) for each in own}
    fitting = [each for each in own if not against_type[each.name]]
    if fitting and not against_pool:
        against_pool += too_few_values(pool, fitting)
    return Placement(
        pod=pod,
        pool=pool,
        against_pool=tuple(against_pool),
        against_type=against_type,
        unjudged=tuple(resource for resource in pod.requests if is_unjudged(resource, pool)),
        all_types=types,
        daemons=daemon_overhead,
    )


def fitting_types(
    pod: PodView, pool: NodePoolView, types: Iterable[InstanceType], daemon_overhead: Amounts = NOTHING
) -> Iterator[InstanceType]:
    """The types of `place` that fit, one after the other in the order given, for who needs but the first.

    `types` are those that the pool allows (`pool_types`). The pool's minValues are not looked at."""
    if untolerated(pool.taints, pod.tolerations):
        return
    suited = _alternatives(pod, pool)[0]
    if suited:
        yield from (each for each in types if not _against(pod, each, pool, suited, daemon_overhead))


def pool_types(pool: NodePoolView, types: Iterable[InstanceType]) -> tuple[InstanceType, ...]:
    """The types that the pool allows, in the order given. None when its requirements contradict one another."""
    if pool.contradictions:
        return ()
    asked = _of_types(pool.offered, pool)
    found = []
    for each in types:
        labels = labels_of(each, pool.domain)
        if all(wanted.allows(labels.get(key)) for key, wanted in asked):
            found.append(each)
    return tuple(found)


def runs_on(pod: PodView, pool: NodePoolView) -> bool:
    """Whether taints and labels let the pod on the pool's nodes, whatever its size."""
    return not untolerated(pool.taints, pod.tolerations) and bool(_alternatives(pod, pool)[0])


def daemon_overhead(pool: NodePoolView, daemons: Iterable[PodView]) -> dict[str, int]:
    """What the DaemonSets that run on the pool's nodes take of each node, their number among it as `pods`."""
    running = [each for each in daemons if runs_on(each, pool)]
    return added(*(each.requests for each in running), {PODS: len(running)}) if running else {}


def allocatable_of(instance: InstanceType, pool: NodePoolView | None = None) -> dict[str, int]:
    """What pods can have of a node of this type in this pool. Without ephemeral storage where it is unknown."""
    found = dict(instance.allocatable)
    found.pop(STORAGE, None)
    if pool is not None and pool.storage_bytes is not None:
        found[STORAGE] = pool.storage_bytes
    if pool is not None and pool.max_pods is not None:
        found[PODS] = pool.max_pods
    if pool is not None and pool.overlays:
        found |= _overlaid(instance, pool)
    return found


@lru_cache(maxsize=4096)
def _overlaid(instance: InstanceType, pool: NodePoolView) -> Amounts:
    labels = {**labels_of(instance, pool.domain), **pool.labels}
    found: dict[str, int] = {}
    for asked, amounts in pool.overlays:
        if all(wanted.allows(labels.get(key)) for key, wanted in asked.items()):
            found = {**amounts, **found}
    return found


def how_many(
    pod: PodView, instance: InstanceType, daemon_overhead: Amounts = NOTHING, pool: NodePoolView | None = None
) -> int:
    """How many of these pods one node holds, by their size alone."""
    left = {key: amount - daemon_overhead.get(key, 0) for key, amount in allocatable_of(instance, pool).items()}
    return times(judged(pod, pool), left)


def capacity_of(instance: InstanceType) -> dict[str, int]:
    """What one node counts for against its pool's limits: the whole machine, not what pods can have of it. Of memory a
    machine reports a few per cent less than is sold, so a limit may allow a node more than is computed with this."""
    whole = {CPU: instance.vcpu * 1000, MEMORY: instance.memory_mib * _MIB, NODES: 1}
    return {**{key: n for key, n in instance.allocatable.items() if key != STORAGE}, **whole}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a pool's limits let it grow with one type alone."""

    type: str
    by_limit: Mapping[str, int]
    """Nodes that each limit allows; of limits that this type counts for."""
    nodes: int | None
    """The least of them; None without a limit."""
    gpus: int | None
    """GPUs or accelerators on that many nodes; None without a limit."""

    @property
    def limit(self) -> str | None:
        """The limit that is reached first."""
        return min(self.by_limit, key=lambda key: (self.by_limit[key], key)) if self.by_limit else None


def reachable(pool: NodePoolView, types: Iterable[InstanceType]) -> tuple[Reach, ...]:
    """For each type that the pool allows. Limits that leave a type fewer GPUs than the GPU limit says show here."""
    found = []
    for each in pool_types(pool, types):
        capacity = capacity_of(each)
        by_limit = {key: n // capacity[key] for key, n in pool.limits.items() if capacity.get(key, 0) > 0}
        if pool.replicas is not None:
            by_limit[REPLICAS] = pool.replicas
        nodes = min(by_limit.values(), default=None)
        devices = each.gpu_count or each.accelerator_count
        found.append(Reach(each.name, by_limit, nodes, None if nodes is None else nodes * devices))
    return tuple(found)


def most_pods(
    pod: PodView, pools: Iterable[NodePoolView], types: Collection[InstanceType], daemons: Collection[PodView] = ()
) -> int | None:
    """The largest number of these pods that the pools can hold together under their limits; None when one has no limit
    for it. With several limits the true number may be lower, never higher: each is filled as if it were alone."""
    total = 0
    for pool in pools:
        held = _most_in(pod, pool, types, daemon_overhead(pool, daemons))
        if held is None:
            return None
        total += held
    return total


def by_price(instance: InstanceType) -> tuple[bool, float, int, int, str]:
    """The order in which types are preferred: those with a price by it, then the smaller ones."""
    price = instance.usd_per_hour()
    return price is None, price or 0.0, instance.vcpu, instance.memory_mib, instance.name


# -- labels --


def _alternatives(pod: PodView, pool: NodePoolView) -> tuple[list[Requirements], list[Blocker]]:
    """The pod's alternatives that the pool's labels allow; if there are none, what is against the best of them."""
    if not pod.requirements:
        return [], [Blocker("affinity", "", "a node that matches an empty term", "")]
    against = [(each, label_blockers(each, pool.offered, pool.domain)) for each in pod.requirements]
    suited = [each for each, blockers in against if not blockers]
    return suited, [] if suited else min((blockers for _, blockers in against), key=len)


def label_blockers(asked: Requirements, given: Requirements, domain: Domain) -> list[Blocker]:
    """What of `asked` cannot be had of a node whose labels will be as `given` says. A label that Karpenter does not
    know has to be among them; one that it knows may be left open."""
    found = []
    for key, wanted in asked.items():
        offered = given.get(key)
        if offered is not None:
            if wanted.intersect(offered).is_empty:
                found.append(_label_blocker(key, wanted, str(offered)))
        elif wanted.is_empty or not (wanted.absent or key in WELL_KNOWN[domain]):
            found.append(_label_blocker(key, wanted, ""))
    return found


def _label_blocker(key: str, wanted: Requirement, offered: str) -> Blocker:
    return Blocker(_KIND_OF_LABEL.get(key, "label"), key, str(wanted), offered)


def mislabelled(asked: Requirements, instance: InstanceType, pool: NodePoolView) -> list[str]:
    """The labels for which a type does not have what is asked for."""
    labels = labels_of(instance, pool.domain)
    return [key for key, wanted in _of_types(asked, pool) if not wanted.allows(labels.get(key))]


def _of_types(asked: Requirements, pool: NodePoolView) -> list[tuple[str, Requirement]]:
    """What is asked of labels that the type decides. The system is Linux unless the pool asks for one: then its image
    decides."""
    decided = OF_TYPES[pool.domain]
    return [(key, each) for key, each in asked.items() if key in decided or (key == OS and OS not in pool.requirements)]


def _label(key: str) -> str:
    """`gpu-name` of `karpenter.k8s.aws/instance-gpu-name`; empty for labels of other kinds."""
    _, found, name = key.partition("/instance-")
    return name if found else ""


def _loosened(asked: Requirements) -> Requirements:
    return {key: each for key, each in asked.items() if key != INSTANCE_TYPE and _label(key) not in _SIZES}


# -- one type --


def _against(
    pod: PodView, instance: InstanceType, pool: NodePoolView, alternatives: Sequence[Requirements], daemons: Amounts
) -> tuple[Blocker, ...]:
    labels = labels_of(instance, pool.domain)
    wrong = min(((each, mislabelled(each, instance, pool)) for each in alternatives), key=lambda both: len(both[1]))
    found = [_label_blocker(key, wrong[0][key], labels.get(key, "")) for key in wrong[1]]
    found += _lacking(pod, instance, pool, daemons)
    capacity = capacity_of(instance)
    for key, limit in pool.limits.items():
        if capacity.get(key, 0) > limit:
            found.append(Blocker("limit", key, capacity[key], limit))
    return tuple(found)


def _lacking(pod: PodView, instance: InstanceType, pool: NodePoolView, daemons: Amounts) -> list[Blocker]:
    """What the pod requests and an empty node of this type does not have left beside its DaemonSets."""
    allocatable = allocatable_of(instance, pool)
    found = []
    for key, amount in judged(pod, pool).items():
        left = allocatable.get(key, 0) - daemons.get(key, 0)
        if amount > left and amount > 0:
            found.append(Blocker(_KIND_OF_RESOURCE.get(key, "resource"), key, amount, max(left, 0)))
    return found


def judged(pod: PodView, pool: NodePoolView | None) -> dict[str, int]:
    """What the pod requests, itself among it as one of `pods`, of resources that can be looked up (`unjudged`)."""
    asked = {key: amount for key, amount in pod.requests.items() if not is_unjudged(key, pool)}
    return {**asked, PODS: 1}


def is_unjudged(resource: str, pool: NodePoolView | None) -> bool:
    """Whether nobody here can know how much of it a node has."""
    if resource == STORAGE:
        return pool is None or pool.storage_bytes is None
    return (
        resource.startswith(("hugepages-", "attachable-volumes")) or resource == "vpc.amazonaws.com/PrivateIPv4Address"
    )


def _distance(blockers: Iterable[Blocker]) -> tuple[int, float]:
    """How many, and the largest part of a request that is lacking."""
    held = list(blockers)
    parts = (
        1 - each.offered / each.wanted
        for each in held
        if isinstance(each.wanted, int) and isinstance(each.offered, int) and each.kind != "limit"
    )
    return len(held), max(parts, default=1.0)


# -- one pool --


def _no_types(pool: NodePoolView) -> Blocker:
    for key in pool.contradictions:
        asked, given = pool.requirements.get(key), pool.labels.get(key, "")
        return Blocker("pool", key, str(asked) if asked is not None else "", given)
    return Blocker("pool", "", "an instance type", "none that meets the pool's own requirements")


def too_few_values(pool: NodePoolView, fitting: Iterable[InstanceType]) -> list[Blocker]:
    """The labels of which the types have fewer different values than the pool's minValues say."""
    labels = [labels_of(each, pool.domain) for each in fitting]
    found = []
    for key, least in pool.min_values.items():
        if key in OF_TYPES[pool.domain]:
            there = len({each[key] for each in labels if key in each})
            if there < least:
                found.append(Blocker("min-values", key, least, there))
    return found


def _most_in(pod: PodView, pool: NodePoolView, types: Collection[InstanceType], daemons: Amounts) -> int | None:
    names = set(place(pod, pool, types, daemons).types)
    fitting = [(each, how_many(pod, each, daemons, pool)) for each in types if each.name in names]
    if not fitting:
        return 0
    limits = dict(pool.limits)
    if pool.replicas is not None:
        limits[NODES] = min(limits.get(NODES, pool.replicas), pool.replicas)
    bounds = []
    for key, limit in limits.items():
        sizes = [(capacity_of(each).get(key, 0), pods) for each, pods in fitting]
        if all(size > 0 for size, _ in sizes):
            bounds.append(_fill(limit, sizes))
    return min(bounds, default=None)


_FINEST = 2_000  # steps; a fleet of 2,000 GPUs by the piece, in about 10 ms


def _fill(limit: int, sizes: Iterable[tuple[int, int]]) -> int:
    """The most pods that nodes of these sizes hold whose sum is within the limit: each size as often as wanted.

    Exact where the limit is at most 2,000 times the greatest common divisor of the sizes; beyond that, as if parts of
    nodes were to be had.
    """
    kinds = sorted(set(sizes))
    unit = math.gcd(*(size for size, _ in kinds))
    steps = limit // unit
    if steps > _FINEST:
        return max(limit * pods // size for size, pods in kinds)
    best = [0] * (steps + 1)
    for room in range(1, steps + 1):
        best[room] = max((best[room - size // unit] + pods for size, pods in kinds if size // unit <= room), default=0)
    return best[-1]

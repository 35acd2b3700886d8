"""Which pods may run on which pools, and on what types: what the rules of fit and match ask. Computed once a run."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from stoker.catalog import ec2
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import OF_TYPES, WELL_KNOWN, ZONE, present_name
from stoker.lint.cluster import Cluster
from stoker.lint.pools import Pool, pools
from stoker.manifests.node_pools import amounts, pod_view
from stoker.manifests.objects import Manifest, is_open, look, sections, whole
from stoker.manifests.placements import nearest_text, placement_text
from stoker.manifests.workloads import Workload
from stoker.policy.placement import (
    Blocker,
    Placement,
    PodView,
    capacity_of,
    fitting_types,
    how_many,
    most_pods,
    place,
    runs_on,
)
from stoker.policy.pod_resources import ACCELERATORS, NOTHING
from stoker.policy.requirements import Requirements
from stoker.policy.taints import untolerated
from stoker.spec.faults import Path

ARGO = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TERMS: Path = ("affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms")
LIMITS: Path = ("spec", "limits")
REQUIREMENTS: Path = ("spec", "template", "spec", "requirements")
OF_INSTANCES = frozenset(key for known in OF_TYPES.values() for key in known)
"""Labels that the instance type decides."""
_QUEUE = "kueue.x-k8s.io/queue-name"
_WELL_KNOWN = frozenset(key for known in WELL_KNOWN.values() for key in known)
_OF_WORKFLOW = ("nodeSelector", "affinity", "tolerations")


@dataclass(frozen=True, eq=False)
class ArgoPods(Workload):
    """A template of a Workflow with what the Workflow says for all of them: the template's own counts instead."""

    @property
    def spec(self) -> dict[str, Any]:
        whole = self.manifest.get(*workflow_path(self.manifest), default={})
        shared = {key: whole[key] for key in _OF_WORKFLOW if isinstance(whole, dict) and whole.get(key)}
        return {**shared, **{key: value for key, value in super().spec.items() if value or key not in shared}}


def workflow_path(manifest: Manifest) -> Path:
    return ("spec", "workflowSpec") if manifest.kind == "CronWorkflow" else ("spec",)


@dataclass(frozen=True, eq=False)
class Pod:
    """The pods of one workload, and the largest number of them that is asked for, with the place that says it."""

    workload: Workload
    view: PodView
    most: int | None = None
    most_in: Manifest | None = None
    most_at: Path = ()

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Pods that are placed alike have the same."""
        asked = tuple(tuple(sorted(each.items(), key=lambda pair: pair[0])) for each in self.view.requirements)
        return asked, self.view.tolerations, tuple(sorted(self.view.requests.items()))

    @property
    def devices(self) -> dict[str, int]:
        return {key: self.view.requests[key] for key in ACCELERATORS if self.view.requests.get(key, 0) > 0}

    def path_of_request(self, *resources: str) -> Path:
        """Where the most of the first of these is requested; the pod's spec where nothing requests one."""
        for resource in resources:
            found = [
                (amounts({resource: written}).get(resource, 0), key == "requests", (*path, "resources", key, resource))
                for path, container in self.workload.containers(init=True)
                for key in ("limits", "requests")
                if (written := look(container, "resources", key, resource)) is not None
            ]
            if found:
                # The largest, and of a container its request rather than the limit that stands for one.
                return max(found, key=lambda each: each[:2])[2]
        return self.workload.path

    def path_of_label(self, key: str) -> Path:
        """Where the pod asks for a label: in its node selector, or in its affinity."""
        return path_of_label(self.workload, key)


def path_of_label(workload: Workload, key: str) -> Path:
    manifest = workload.manifest
    bases = [workload.path, *([workflow_path(manifest)] if manifest.kind in ARGO else [])]
    for base in bases:
        selector = manifest.get(*base, "nodeSelector")
        for name in selector if isinstance(selector, dict) else ():
            if isinstance(name, str) and present_name(name) == key:
                return (*base, "nodeSelector", name)
        for i, term in sections(manifest.get(*base, *TERMS)):
            for j, line in sections(term.get("matchExpressions")):
                name = line.get("key")
                if isinstance(name, str) and present_name(name) == key:
                    end = "values" if "values" in line else "key"
                    return (*base, *TERMS, i, "matchExpressions", j, end)
    return workload.path


class Fleet:
    """The pools in sight and the pods that are to run on them."""

    def __init__(self, cluster: Cluster) -> None:
        self._placed: dict[tuple[Any, ...], Placement] = {}
        self._most: dict[tuple[Any, ...], int | None] = {}
        self._allowed: dict[tuple[Any, ...], tuple[Pool, ...]] = {}
        known = pools(cluster)
        self.daemons = known.daemons
        self.pools = tuple(each for each in known.all if _can_be_read(each.manifest))
        self.is_whole = not any(each.templated for each in cluster.of("NodePool", group="karpenter.sh"))
        """Whether all that the pools give can be read; what is filled in later cannot."""

        self._scalers = scalers(cluster)
        self._laid_over = _overlaid(cluster)
        placed_by_kueue = _flavors_place(cluster)
        judged = [
            each
            for each in cluster.workloads
            if each.kind != "DaemonSet"
            and not _is_open(each)
            and not (placed_by_kueue and _QUEUE in each.manifest.labels)
        ]
        self.pods = tuple(self._pod(each) for each in judged) if self.pools else ()
        """Without those of DaemonSets, which run on whatever node there is, and those whose node is not known yet."""

    def _pod(self, workload: Workload) -> Pod:
        manifest = workload.manifest
        if workload.kind in ARGO:
            workload = ArgoPods(manifest, workload.path, workload.meta, workload.replicas, workload.role)
        most, place_said, path = most_of(workload, self._scalers)
        view = pod_view(workload)
        if self._laid_over & view.requests.keys():
            view = replace(view, requests={k: n for k, n in view.requests.items() if k not in self._laid_over})
        return Pod(workload, view, most, place_said, path)

    def allowing(self, pod: Pod) -> tuple[Pool, ...]:
        """The pools whose taints and labels let the pod on, whatever its size."""
        key = pod.key[:2]
        if key not in self._allowed:
            self._allowed[key] = tuple(pool for pool in self.pools if runs_on(pod.view, pool.view))
        return self._allowed[key]

    def placement(self, pod: Pod, pool: Pool, *, daemons: bool = True) -> Placement:
        key = (*pod.key, id(pool), daemons)
        if key not in self._placed:
            overhead = pool.daemons if daemons else NOTHING
            found = place(pod.view, pool.view, pool.types, overhead)
            if not found.is_possible:  # for the types that would do, which are not the pool's own
                found = place(pod.view, pool.view, ec2.instance_types().values(), overhead)
            self._placed[key] = found
        return self._placed[key]

    def each_placement(self, pod: Pod) -> Iterator[tuple[Pool, Placement]]:
        """One pool after the other, for who may stop early: a placement is a look at each type of a pool."""
        return ((pool, self.placement(pod, pool)) for pool in self.allowing(pod))

    def fitting(self, pod: Pod) -> Iterator[tuple[Pool, InstanceType]]:
        """The types that the pod fits, of each pool that lets it on, the largest first: found one by one, since most
        pods fit the first that is looked at."""
        for pool in self.allowing(pod):
            for each in fitting_types(pod.view, pool.view, pool.by_size, pool.daemons):
                yield pool, each

    def placements(self, pod: Pod) -> list[tuple[Pool, Placement]]:
        return list(self.each_placement(pod))

    def fits(self, pod: Pod) -> bool:
        if not any(pool.view.min_values for pool in self.pools):
            return next(self.fitting(pod), None) is not None
        return any(placement.is_possible for _, placement in self.each_placement(pod))

    def most_pods(self, pod: Pod, pool: Pool) -> int | None:
        """The most of them that the pool's limits allow; None where no limit counts for them."""
        key = (*pod.key, id(pool))
        if key not in self._most:
            self._most[key] = most_pods(pod.view, (pool.view,), pool.types, self.daemons)
        return self._most[key]

    def has_room(self, pod: Pod, pool: Pool, number: int) -> bool:
        """Whether the pool's limits allow so many of them."""
        cheapest = next(fitting_types(pod.view, pool.view, pool.by_price, pool.daemons), None)
        if cheapest is None:
            return False
        # Most often the cheapest type alone shows it, and saves looking at all of them.
        capacity = capacity_of(cheapest)
        nodes = [limit // capacity[key] for key, limit in pool.view.limits.items() if capacity.get(key, 0) > 0]
        nodes += [pool.view.replicas] if pool.view.replicas is not None else []
        if not nodes or min(nodes) * how_many(pod.view, cheapest, pool.daemons, pool.view) >= number:
            return True
        most = self.most_pods(pod, pool)
        return most is None or most >= number

    def tied(self, pod: Pod) -> tuple[Pool, ...]:
        """The pools that the pod selects by a label of theirs."""
        return tuple(pool for pool in self.pools if any(_selects(each, pool) for each in pod.view.requirements))

    def meant(self, pod: Pod) -> tuple[Pool, ...]:
        """The pools that the pod seems to be meant for: those it selects; for one with GPUs, those that have them;
        else those whose taints it tolerates."""
        tied = self.tied(pod)
        if tied:
            return tied
        if pod.devices:
            return tuple(pool for pool in self.pools if has_devices(pool, pod))
        return tuple(pool for pool in self.pools if not untolerated(pool.view.taints, pod.view.tolerations))

    def refused(self, pod: Pod) -> list[tuple[Pool, tuple[Blocker, ...]]]:
        """Where no pool lets the pod on: what is against it in those it is meant for, the least first."""
        if self.allowing(pod):
            return []
        found = [(pool, self.placement(pod, pool).against_pool) for pool in self.meant(pod)]
        # A label that these pools know nothing of: the pod is for other nodes, or the label is wrong (STK-MATCH-001).
        if any(each.kind == "label" and each.key not in OF_INSTANCES for _, blockers in found for each in blockers):
            return []
        return sorted((each for each in found if each[1]), key=lambda each: len(each[1]))


def _can_be_read(pool: Manifest) -> bool:
    return not pool.templated and isinstance(pool.get("spec", "template", "spec"), dict)


def _overlaid(cluster: Cluster) -> frozenset[str]:
    """The resources of which NodeOverlays in sight say how many a node has: more than its type, as of shared GPUs. How
    many pods that is, is not judged."""
    found = [each.get("spec", "capacity") for each in cluster.of("NodeOverlay", group="karpenter.sh")]
    return frozenset(key for each in found if isinstance(each, dict) for key in each if isinstance(key, str))


def _flavors_place(cluster: Cluster) -> bool:
    """Whether Kueue may add selectors and tolerations to pods when it admits them: by flavors in sight that have some,
    or by those that are not in sight."""
    flavors = list(cluster.of("ResourceFlavor", group="kueue.x-k8s.io"))
    return not flavors or any(each.get("spec", key) for each in flavors for key in ("nodeLabels", "tolerations"))


Scalers = dict[tuple[str, str], list[tuple[Manifest, Path]]]
"""Kind and name of what is scaled -> the autoscalers that scale it, each with the path of its maximum."""


def scalers(cluster: Cluster) -> Scalers:
    found = defaultdict(list)
    for kind, group, key in (
        ("ScaledObject", "keda.sh", "maxReplicaCount"),
        ("HorizontalPodAutoscaler", "autoscaling", "maxReplicas"),
    ):
        for each in cluster.of(kind, group=group):
            target = each.get("spec", "scaleTargetRef")
            name, of_kind = look(target, "name"), look(target, "kind", default="Deployment")
            if isinstance(name, str) and isinstance(of_kind, str):
                path: Path = ("spec", key)
                found[of_kind, name].append((each, path))
    return found


_KEDA_MAXIMUM = 100  # maxReplicaCount where none is written


def most_of(workload: Workload, known: Scalers) -> tuple[int | None, Manifest | None, Path]:
    """The largest number of its pods that is asked for, and where: by its autoscaler, or as written."""
    manifest = workload.manifest
    for scaler, path in known.get((manifest.kind, manifest.name), ()):
        if scaler.namespace in ("", manifest.namespace) or not manifest.namespace:
            most = scaler.get(*path)
            if most is None and scaler.kind == "ScaledObject":
                most = _KEDA_MAXIMUM
            return (most, scaler, path) if whole(most) is not None else (None, None, ())
    if manifest.kind == "ScaledJob":
        most = manifest.get("spec", "maxReplicaCount")
        return (most, manifest, ("spec", "maxReplicaCount")) if whole(most) is not None else (None, None, ())
    found = next(
        (path for key in ("replicas", "parallelism") if whole(manifest.get(*(path := ("spec", key)))) is not None),
        workload.path,
    )
    return workload.replicas, manifest, found


def has_devices(pool: Pool, pod: Pod) -> bool:
    """Whether a type of the pool has any of the devices that the pod asks for."""
    return any(each.allocatable.get(key, 0) > 0 for each in pool.types for key in pod.devices)


def what_blocks(placement: Placement) -> str:
    """What is against the pod on the type that comes closest; which other type would do is for the hint to say."""
    text = placement_text(placement)
    return text.removesuffix(nearest_text(placement)).removesuffix("; ")


def lacking(blockers: tuple[Blocker, ...]) -> float:
    """The largest part of a request that is not there."""
    amounts = [(each.wanted, each.offered) for each in blockers]
    return max((1 - b / a for a, b in amounts if isinstance(a, int) and isinstance(b, int) and a > 0), default=1.0)


def _selects(asked: Requirements, pool: Pool) -> bool:
    for key, wanted in asked.items():
        offered = pool.view.offered.get(key)
        if key not in pool.own_labels or offered is None or wanted.complement or wanted.absent:
            continue
        if not wanted.intersect(offered).is_empty:
            return True
    return False


def zones(pools: tuple[Pool, ...] | list[Pool]) -> frozenset[str] | None:
    """The zones that these pools have; None where one leaves them open."""
    found: set[str] = set()
    for pool in pools:
        if not pool.view.zones:
            return None
        found.update(pool.view.zones)
    return frozenset(found)


def zones_of(pod: Pod, pools: tuple[Pool, ...] | list[Pool]) -> frozenset[str] | None:
    """The same, less those that the pod does not ask for."""
    found = zones(pools)
    if found is None:
        return None
    return frozenset(
        zone for zone in found if any(ZONE not in each or each[ZONE].allows(zone) for each in pod.view.requirements)
    )


_FLEETS: WeakKeyDictionary[Cluster, Fleet] = WeakKeyDictionary()


def fleet(cluster: Cluster) -> Fleet:
    """The fleet of a run."""
    if cluster not in _FLEETS:
        _FLEETS[cluster] = Fleet(cluster)
    return _FLEETS[cluster]


def holds_open(manifest: Manifest, value: Any) -> bool:
    """Whether something fills this in later, or a part of it."""
    if isinstance(value, dict):
        return any(holds_open(manifest, each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return any(holds_open(manifest, each) for each in value)
    return is_open(manifest, value)


def _is_open(workload: Workload) -> bool:
    spec = workload.spec
    if "podSpecPatch" in spec:
        return True
    return holds_open(workload.manifest, [spec.get(key) for key in _OF_WORKFLOW])

"""The Karpenter pools of a cluster, and which of them could run a pod: what rules ask again and again.

Knows no rule. What cannot be known (capacity, quotas, nodes that something else made) is not judged here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

from stoker.catalog.ec2 import InstanceType, instance_types
from stoker.catalog.labels import CAPACITY_TYPE, CAPACITY_TYPES, NODE_POOL, WELL_KNOWN
from stoker.lint.cluster import Cluster
from stoker.manifests.node_pools import node_pool_view, pod_view
from stoker.manifests.objects import Manifest, texts
from stoker.manifests.workloads import Workload
from stoker.policy.placement import NodePoolView, PodView, by_price, daemon_overhead, pool_types, runs_on
from stoker.policy.pod_resources import Amounts

GPU = "nvidia.com/gpu"
EFA = "vpc.amazonaws.com/efa"
Spot = Literal["never", "may", "only"]
_WELL_KNOWN = frozenset(key for known in WELL_KNOWN.values() for key in known)
_SPOT_LABELS = {CAPACITY_TYPE: "spot", "eks.amazonaws.com/capacityType": "SPOT", "node-lifecycle": "spot"}


@dataclass(frozen=True, eq=False)
class Pool:
    """A NodePool, with the instance types that it allows."""

    manifest: Manifest
    view: NodePoolView
    node_class: Manifest | None
    daemons: Amounts = field(default_factory=dict)
    """What DaemonSets in sight take of each node."""

    @cached_property
    def types(self) -> tuple[InstanceType, ...]:
        return pool_types(self.view, instance_types().values())

    @cached_property
    def by_price(self) -> tuple[InstanceType, ...]:
        """Its types, the cheapest first."""
        return tuple(sorted(self.types, key=by_price))

    @cached_property
    def by_size(self) -> tuple[InstanceType, ...]:
        """Its types, the largest first."""
        return tuple(sorted(self.types, key=lambda each: (-each.gpu_count, -each.vcpu, -each.memory_mib, each.name)))

    @property
    def own_labels(self) -> frozenset[str]:
        """The labels by which pods select this pool and not another."""
        return frozenset({*self.view.labels, *self.view.requirements, NODE_POOL}) - _WELL_KNOWN

    @cached_property
    def gpu_types(self) -> tuple[InstanceType, ...]:
        return tuple(each for each in self.types if each.gpu_count and each.gpu_manufacturer == "nvidia")

    @property
    def is_spot(self) -> bool:
        """Whether it says that its nodes may be spot. A pool that says nothing of it is not taken to be."""
        return "spot" in self.view.capacity_types

    @property
    def name(self) -> str:
        return self.manifest.name

    def __str__(self) -> str:
        return f"NodePool {self.view.name}"


class Pools:
    """The pools of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.daemons = tuple(
            pod_view(each) for each in cluster.workloads_like(["DaemonSet"]) if not each.manifest.templated
        )
        self.all = tuple(_pools(cluster, self.daemons))
        self._pods: dict[Workload, PodView] = {}
        self._found: dict[Workload, tuple[Pool, ...]] = {}
        self._spot: dict[Workload, Spot] = {}

    def of(self, workload: Workload) -> tuple[Pool, ...]:
        """The pools that the pods' labels and tolerations let them go to; for pods with GPUs, those that have some."""
        found = self._found.get(workload)
        if found is None:
            pod = self._pod(workload)
            found = tuple(pool for pool in self.all if runs_on(pod, pool.view))
            if pod.requests.get(GPU, 0) > 0:
                found = tuple(pool for pool in found if pool.gpu_types)
            self._found[workload] = found
        return found

    def spot(self, workload: Workload) -> Spot:
        """Whether the pods may be on spot nodes, or can be nowhere else."""
        found = self._spot.get(workload)
        if found is None:
            found = self._spot[workload] = self._spot_of(workload)
        return found

    def _spot_of(self, workload: Workload) -> Spot:
        selector = texts(workload.spec.get("nodeSelector"))
        if any(selector.get(key) == value for key, value in _SPOT_LABELS.items()):
            return "only"
        bought = {each for pool in self.of(workload) for each in self._bought(workload, pool)}
        if "spot" not in bought:
            return "never"
        return "only" if bought == {"spot"} else "may"

    def gpus(self, workload: Workload) -> int:
        """NVIDIA GPUs of one pod."""
        return self._pod(workload).requests.get(GPU, 0)

    def requests(self, workload: Workload, resource: str) -> int:
        return self._pod(workload).requests.get(resource, 0)

    def types_of(self, workload: Workload) -> tuple[InstanceType, ...]:
        """The types with at least the pod's GPUs that its pools allow, each once."""
        wanted = self.gpus(workload)
        found = {each.name: each for pool in self.of(workload) for each in pool.gpu_types if each.gpu_count >= wanted}
        return tuple(found.values())

    def _bought(self, workload: Workload, pool: Pool) -> Iterator[str]:
        """How nodes of the pool can be bought for these pods; `?` where the pool leaves it open."""
        for each in pool.view.capacity_types or ("?",):
            asked = [one.get(CAPACITY_TYPE) for one in self._pod(workload).requirements]
            if each not in CAPACITY_TYPES or any(one is None or one.allows(each) for one in asked):
                yield each

    def _pod(self, workload: Workload) -> PodView:
        found = self._pods.get(workload)
        if found is None:
            found = self._pods[workload] = pod_view(workload)
        return found


@lru_cache(maxsize=1)
def pools(cluster: Cluster) -> Pools:
    """The pools of a cluster; those of the last one asked for are kept, as every rule of a run asks for the same."""
    return Pools(cluster)


def _pools(cluster: Cluster, daemons: tuple[PodView, ...]) -> Iterator[Pool]:
    for manifest in cluster.of("NodePool", group="karpenter.sh"):
        name = manifest.get("spec", "template", "spec", "nodeClassRef", "name")
        node_class = cluster.find("EC2NodeClass", name) if isinstance(name, str) else None
        view = node_pool_view(manifest, node_class)
        yield Pool(manifest, view, node_class, daemon_overhead(view, daemons))

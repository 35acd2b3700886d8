"""Whether the pods that need no GPU have nodes: pools of models were chosen for their pods, these were not."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import InstanceType
from stoker.manifests.node_pools import requests_of
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.quantities import format_cpu, in_base_units
from stoker.manifests.workloads import Workload, workloads_of
from stoker.policy.pod_resources import fits, times
from stoker.render.facts import CPU, SERVES
from stoker.render.items import Item, Resource
from stoker.render.plan import Plan
from stoker.render.types import free


def check(plan: Plan, items: Iterable[Item]) -> None:
    """Raises InvalidInput for a pod that fits no type of the pools for general use, and for limits of these pools that
    hold fewer than may be asked for."""
    pools = [pool for pool in plan.pools if pool.use == "general"]
    if not pools:
        return
    objects = [item.object for item in items if isinstance(item, Resource)]
    most = _most_replicas(objects)
    types = [each for pool in pools for each in pool.types]
    keys = ", ".join(f"karpenter.nodePools.{pool.name}" for pool in pools)
    needed = Fraction(0)
    for workload in workloads_on_general_nodes(objects):
        asked = requests_of(workload)
        able = [each for each in types if fits(asked, free(each))]
        if not able:
            raise _fits_nowhere(workload, asked, keys, types)
        name = (workload.kind, workload.manifest.name)
        pods = most.get(name, workload.replicas if workload.replicas is not None else 1)
        needed += pods * max(Fraction(each.vcpu, times(asked, free(each))) for each in able)
    allowed = sum(int(pool.limits["cpu"]) for pool in pools)
    if ceil(needed) > allowed:
        caps = ", ".join(f"{pool.said.max_usd_per_hour}" for pool in pools if pool.said.max_usd_per_hour is not None)
        raise InvalidInput(
            f"{keys}: what needs no GPU may ask for {ceil(needed)} vCPU, and maxUsdPerHour {caps} buys {allowed}"
            if caps
            else f"{keys}: what needs no GPU may ask for {ceil(needed)} vCPU, and the limits are {allowed}",
            param="karpenter.nodePools",
            hint="raise maxUsdPerHour of the pool, or lower replicas.max of the models on it",
        )


def workloads_on_general_nodes(objects: Iterable[dict[str, Any]]) -> Iterable[Workload]:
    """Whatever makes pods that need no GPU, and go on for good."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Rollout"):
            for workload in workloads_of(Manifest(each, Document("", 0, each))):
                if workload.spec.get("nodeSelector", {}).get(SERVES) == CPU:
                    yield workload


def _most_replicas(objects: Sequence[dict[str, Any]]) -> Mapping[tuple[str, str], int]:
    """By kind and name, what an autoscaler may make of it."""
    found = {}
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "HorizontalPodAutoscaler":
            found[spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]] = spec["maxReplicas"]
        elif each["kind"] == "ScaledObject":
            target = spec["scaleTargetRef"]
            found[target.get("kind", "Deployment"), target["name"]] = spec["maxReplicaCount"]
    return found


def _fits_nowhere(
    workload: Workload, asked: Mapping[str, int], keys: str, types: Sequence[InstanceType]
) -> InvalidInput:
    gib = Fraction(asked.get("memory", 0), in_base_units("memory", "1Gi"))
    largest = max(types, key=lambda each: each.memory_mib)
    has = Fraction(free(largest)["memory"], in_base_units("memory", "1Gi"))
    return InvalidInput(
        f"{workload.kind} {workload.manifest.name} asks for {format_cpu(asked.get('cpu', 0))} CPU and "
        f"{float(gib):.1f} GiB, and fits no type of {keys}; the largest, {largest}, has {float(has):.1f} GiB to give",
        param="karpenter.nodePools",
        hint="give a pool with `use: general` families with more memory, such as r7i, or make the pod smaller "
        "(Redis takes memory by redis.master.persistence.size)",
    )

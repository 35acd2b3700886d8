"""Each pod fits an instance that a pool allows, and the limits reach the most replicas: by `policy.placement`."""

from collections.abc import Iterator

from whole import Output

from stoker.catalog.ec2 import instance_types
from stoker.manifests.node_pools import node_pool_view, pod_view
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.workloads import workloads_of
from stoker.policy.placement import NodePoolView, PodView, daemon_overhead, most_pods, place


def problems(output: Output) -> Iterator[str]:
    manifests = [Manifest(each.data, Document(each.file, 0, each.data)) for each in output.objects]
    pools = views(manifests)
    workloads = [one for each in manifests if each.kind != "ResourceGraphDefinition" for one in workloads_of(each)]
    if len(workloads) != len(output.pods):
        yield f"{len(output.pods)} pod templates are there, and {len(workloads)} are looked at"
    if not pools:
        return
    types = list(instance_types().values())
    daemons = [pod_view(each) for each in workloads if each.kind == "DaemonSet"]
    kept = {pool.name: daemon_overhead(pool, daemons) for pool in pools}
    most = _most(output)
    for workload in workloads:
        pod = pod_view(workload)
        fitting = [pool for pool in pools if place(pod, pool, types, kept[pool.name]).is_possible]
        if workload.kind == "DaemonSet":
            continue
        if not fitting:
            yield f"{workload} fits no instance of any pool: {dict(pod.requests)}"
            continue
        replicas = most.get((workload.kind, workload.namespace, workload.manifest.name), workload.replicas)
        if replicas is not None and workload.kind in ("LeaderWorkerSet",):
            size = workload.manifest.get("spec", "leaderWorkerTemplate", "size", default=1)
            groups = most.get((workload.kind, workload.namespace, workload.manifest.name), 1)
            replicas = groups * (size if workload.role != "leader" else 1)
        held = most_pods(pod, fitting, types, daemons)
        if replicas is not None and held is not None and held < replicas:
            yield f"{workload}: the limits of {[pool.name for pool in fitting]} hold {held} pods, and {replicas} may be"
    yield from _useless(pools, [pod_view(each) for each in workloads if each.kind != "DaemonSet"], types)


def _useless(pools: list[NodePoolView], pods: list[PodView], types: list) -> Iterator[str]:  # type: ignore[type-arg]
    """A type that a pool allows and that no pod fits is there for nothing, and may be launched for a small pod."""
    for pool in pools:
        used: set[str] = set()
        for pod in pods:
            used.update(place(pod, pool, types).types)
        if not used:
            yield f"pool {pool.name}: nothing runs on it"


def views(manifests: list[Manifest]) -> list[NodePoolView]:
    classes = {(each.kind, each.name): each for each in manifests if each.kind in ("EC2NodeClass", "NodeClass")}
    found = []
    for each in manifests:
        if each.kind == "NodePool":
            ref = each.get("spec", "template", "spec", "nodeClassRef")
            found.append(node_pool_view(each, classes.get((ref["kind"], ref["name"]))))
    return found


def _most(output: Output) -> dict[tuple[str, str, str], int]:
    """The most replicas of what is scaled."""
    found = {}
    for each in output.of("ScaledObject"):
        ref = each.spec["scaleTargetRef"]
        found[ref.get("kind", "Deployment"), each.namespace, ref["name"]] = each.spec.get("maxReplicaCount", 100)
    return found

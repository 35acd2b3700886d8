"""What the rules of this area look at alike: containers, their variables, and who can reach them."""

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Manifest, filled_in_later, look, sections, texts
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

SERVING = ("Deployment", "StatefulSet", "Rollout", "LeaderWorkerSet", "ReplicaSet")
GPUS = ("nvidia.com/", "amd.com/gpu", "aws.amazon.com/neuron", "gpu.intel.com/", "habana.ai/")


def containers(cluster: Cluster, *, init: bool = True) -> Iterator[tuple[Workload, Path, dict[str, Any]]]:
    """Every container of every workload, with its path in the manifest."""
    for workload in cluster.workloads:
        for path, container in workload.containers(init=init):
            yield workload, path, container


def named(container: dict[str, Any]) -> str:
    """`container server`; without the name where it has none."""
    name = container.get("name")
    return f"container {name}" if isinstance(name, str) and name else "the container"


def variables(container: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    """The environment variables that have their value written beside them: index, name, value."""
    for i, each in sections(container.get("env")):
        name, value = each.get("name"), each.get("value")
        if isinstance(name, str) and isinstance(value, str) and value and not filled_in_later(value):
            yield i, name, value


def words(container: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """The texts of `command` and `args`, with their path in the container."""
    for key in ("command", "args"):
        value = container.get(key)
        for i, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, str):
                yield (key, i), each


def wants_gpu(container: dict[str, Any]) -> bool:
    amounts = [look(container, "resources", key) for key in ("limits", "requests")]
    names = [name for each in amounts if isinstance(each, dict) for name in each]
    return any(isinstance(name, str) and name.startswith(GPUS) for name in names)


def volumes(workload: Workload) -> Iterator[tuple[Path, dict[str, Any]]]:
    for i, volume in sections(workload.spec.get("volumes")):
        yield (*workload.path, "volumes", i), volume


def mounts(workload: Workload, volume: str) -> Iterator[dict[str, Any]]:
    """How the containers mount a volume."""
    for _path, container in workload.containers(init=True):
        for _i, mount in sections(container.get("volumeMounts")):
            if mount.get("name") == volume:
                yield mount


def services_of(cluster: Cluster, workload: Workload) -> list[Manifest]:
    """The Services whose selector the workload's pods have."""
    index = _services(cluster)
    labels = workload.labels
    near = {id(each): each for item in labels.items() for each in index.get(item, ())}
    return [each for each in near.values() if _selects(each, workload)]


def reached_from_outside(cluster: Cluster, workload: Workload) -> Manifest | None:
    """The Ingress, Route or Service by which traffic from outside of the cluster comes to a workload."""
    for service in services_of(cluster, workload):
        if service.get("spec", "type") in ("LoadBalancer", "NodePort"):
            return service
        for namespace, name, route in _backends(cluster):
            if name == service.name and (namespace == service.namespace or "" in (namespace, service.namespace)):
                return route
    return None


def _selects(service: Manifest, workload: Workload) -> bool:
    selector = texts(service.get("spec", "selector"))
    here, there = service.namespace, workload.manifest.namespace
    return bool(selector) and selector.items() <= workload.labels.items() and (here == there or "" in (here, there))


@lru_cache(maxsize=1)
def _services(cluster: Cluster) -> dict[tuple[str, str], list[Manifest]]:
    found: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
    for service in cluster.of("Service", group=""):
        for item in texts(service.get("spec", "selector")).items():
            found[item].append(service)
    return found


@lru_cache(maxsize=1)
def _backends(cluster: Cluster) -> tuple[tuple[str, str, Manifest], ...]:
    """Namespace and name of each Service that an Ingress or a route of a Gateway sends to."""
    found = []
    for ingress in cluster.of("Ingress"):
        backends = [ingress.get("spec", "defaultBackend")]
        for _i, rule in sections(ingress.get("spec", "rules")):
            backends += [path.get("backend") for _j, path in sections(look(rule, "http", "paths"))]
        found += [(ingress.namespace, look(each, "service", "name"), ingress) for each in backends]
    for route in cluster.of("HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"):
        for _i, rule in sections(route.get("spec", "rules")):
            for _j, each in sections(rule.get("backendRefs")):
                found.append((each.get("namespace", route.namespace), each.get("name"), route))
    return tuple((where, name, by) for where, name, by in found if isinstance(where, str) and isinstance(name, str))

"""What ServiceMonitors and PodMonitors look at."""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rules.match._references import meets
from stoker.lint.selectors import selects
from stoker.manifests.objects import Manifest
from stoker.manifests.workloads import Workload


def monitored(cluster: Cluster) -> Iterator[tuple[Manifest, list[Manifest | Workload]]]:
    """Each monitor that can be judged, with the Services or pods of the namespaces that it looks in."""
    for monitor in cluster.of("ServiceMonitor", "PodMonitor", group="monitoring.coreos.com"):
        selector = monitor.get("spec", "selector")
        if not isinstance(selector, dict) or holds_open(monitor, selector):
            continue
        found = candidates(cluster, monitor)
        yield monitor, [each for each in found if _looks_in(monitor, _manifest(each).namespace)]


def candidates(cluster: Cluster, monitor: Manifest) -> list[Manifest | Workload]:
    """What such a monitor looks for, in any namespace."""
    return list(cluster.of("Service", group="")) if monitor.kind == "ServiceMonitor" else list(cluster.workloads)


def is_found(monitor: Manifest, candidate: Manifest | Workload) -> bool:
    selector = monitor.get("spec", "selector")
    return holds_open(_manifest(candidate), candidate.labels) or selects(selector, candidate.labels)


def is_certain(candidate: Manifest | Workload) -> bool:
    """Whether its labels are known, and not filled in by somebody later."""
    return not holds_open(_manifest(candidate), candidate.labels)


def _looks_in(monitor: Manifest, namespace: str) -> bool:
    if monitor.get("spec", "namespaceSelector", "any") is True:
        return True
    names = monitor.get("spec", "namespaceSelector", "matchNames")
    if isinstance(names, list) and names:
        return not namespace or namespace in names
    return meets(monitor.namespace, namespace)


def _manifest(candidate: Manifest | Workload) -> Manifest:
    return candidate.manifest if isinstance(candidate, Workload) else candidate

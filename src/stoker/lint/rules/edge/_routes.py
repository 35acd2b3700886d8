"""The parents and backends of routes of the Gateway API."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rules.edge._views import text
from stoker.manifests.objects import Manifest, is_open, sections
from stoker.spec.faults import Path

GROUP = "gateway.networking.k8s.io"
ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")
POOL = "InferencePool"
POOL_GROUPS = ("inference.networking.k8s.io", "inference.networking.x-k8s.io")


@dataclass(frozen=True, eq=False)
class Reference:
    route: Manifest
    path: Path
    kind: str
    group: str
    name: str
    namespace: str
    """Where it is looked for: as written, or the route's own."""
    data: dict[str, Any]


def routes(cluster: Cluster) -> Iterator[Manifest]:
    yield from cluster.of(*ROUTES, group=GROUP)


def parents(route: Manifest) -> Iterator[Reference]:
    for i, each in sections(route.get("spec", "parentRefs")):
        yield from _reference(route, ("spec", "parentRefs", i), each, "Gateway", GROUP)


def backends(route: Manifest) -> Iterator[Reference]:
    for i, rule in sections(route.get("spec", "rules")):
        for j, each in sections(rule.get("backendRefs")):
            yield from _reference(route, ("spec", "rules", i, "backendRefs", j), each, "Service", "")


def _reference(route: Manifest, path: Path, data: dict[str, Any], kind: str, group: str) -> Iterator[Reference]:
    name = text(data.get("name"))
    written = data.get("group")
    if name and not is_open(route, name):
        yield Reference(
            route,
            path,
            text(data.get("kind")) or kind,
            written if isinstance(written, str) else group,
            name,
            text(data.get("namespace")) or route.namespace,
            data,
        )

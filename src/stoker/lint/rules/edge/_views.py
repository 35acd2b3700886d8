"""What the rules about the way in see alike: Ingresses, their annotations, their backends, the pods behind them."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Manifest, is_open, look, sections, texts
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

ALB = "alb.ingress.kubernetes.io/"
CLASS = "kubernetes.io/ingress.class"


@dataclass(frozen=True, eq=False)
class Backend:
    """A Service that an Ingress or a route sends to."""

    manifest: Manifest
    path: Path
    """Where the backend stands."""
    name: str
    name_at: Path
    port: int | str | None
    port_at: Path
    route: str = ""
    """The path of requests that go there."""


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def ingresses(cluster: Cluster) -> Iterator[Manifest]:
    yield from cluster.of("Ingress", group="networking.k8s.io")


def albs(cluster: Cluster) -> Iterator[Manifest]:
    """The Ingresses that the AWS Load Balancer Controller takes."""
    for ingress in ingresses(cluster):
        named = text(ingress.get("spec", "ingressClassName")) or ingress.annotations.get(CLASS, "")
        if "alb" in named.lower() or (not named and any(key.startswith(ALB) for key in ingress.annotations)):
            yield ingress


def alb(ingress: Manifest, suffix: str) -> str | None:
    """An annotation of the controller; None where it is not there, or is filled in later."""
    value = ingress.annotations.get(ALB + suffix)
    return None if value is None or is_open(ingress, value) else value


def at(suffix: str) -> Path:
    return ("metadata", "annotations", ALB + suffix)


def is_grouped(ingress: Manifest) -> bool:
    """Whether it shares its load balancer with others, which may say what it does not."""
    return ALB + "group.name" in ingress.annotations


def attributes(ingress: Manifest, suffix: str) -> dict[str, str]:
    """`key=value` pairs between commas; white space around them does not count."""
    pairs = (each.partition("=") for each in (alb(ingress, suffix) or "").split(","))
    return {key.strip(): value.strip() for key, _, value in pairs}


def listeners(ingress: Manifest) -> list[tuple[str, int]] | None:
    """Protocol and port of each listener; None where that can not be read."""
    written = alb(ingress, "listen-ports")
    if written is None:
        if ALB + "listen-ports" in ingress.annotations:
            return None
        return [("HTTPS", 443)] if ALB + "certificate-arn" in ingress.annotations else [("HTTP", 80)]
    try:
        read = json.loads(written)
    except (ValueError, RecursionError):
        return None
    found = []
    for each in read if isinstance(read, list) else [None]:
        for protocol, port in each.items() if isinstance(each, dict) else [("", None)]:
            if protocol not in ("HTTP", "HTTPS") or isinstance(port, bool) or not isinstance(port, int):
                return None
            found.append((protocol, port))
    return found


def backends(ingress: Manifest) -> Iterator[Backend]:
    """The Services that an Ingress names; not what an annotation does in their place."""
    places: list[tuple[Path, str]] = [(("spec", "defaultBackend"), "/")]
    for i, rule in sections(ingress.get("spec", "rules")):
        for j, each in sections(look(rule, "http", "paths")):
            places.append((("spec", "rules", i, "http", "paths", j, "backend"), text(each.get("path"))))
    for path, route in places:
        service = ingress.get(*path, "service")
        name = text(look(service, "name"))
        port = look(service, "port", "number", default=look(service, "port", "name"))
        if not name or port == "use-annotation" or is_open(ingress, name):
            continue
        key = "number" if look(service, "port", "number") is not None else "name"
        here = (*path, "service")
        usable = port if isinstance(port, int | str) and not isinstance(port, bool) else None
        yield Backend(ingress, path, name, (*here, "name"), usable, (*here, "port", key), route)


def service_of(cluster: Cluster, backend: Backend) -> Manifest | None:
    return cluster.find("Service", backend.name, backend.manifest.namespace or None)


_BY_LABEL: WeakKeyDictionary[Cluster, dict[tuple[str, str], list[Workload]]] = WeakKeyDictionary()


def labelled(cluster: Cluster, selector: dict[str, str], namespace: str) -> list[Workload]:
    """The workloads whose pods have all these labels; none for no labels."""
    if cluster not in _BY_LABEL:
        found: dict[tuple[str, str], list[Workload]] = defaultdict(list)
        for workload in cluster.workloads:
            for pair in workload.labels.items():
                found[pair].append(workload)
        _BY_LABEL[cluster] = found
    first = next(iter(selector.items()), ("", ""))
    return [
        each
        for each in _BY_LABEL[cluster].get(first, ())
        if (not namespace or each.manifest.namespace in ("", namespace))
        and all(each.labels.get(key) == value for key, value in selector.items())
    ]


def pods_of(cluster: Cluster, service: Manifest) -> list[Workload]:
    """The workloads whose pods a Service selects."""
    return labelled(cluster, texts(service.get("spec", "selector")), service.namespace)


def has_port(service: Manifest, port: int | str) -> bool:
    key = "port" if isinstance(port, int) else "name"
    return any(each.get(key) == port for _, each in sections(service.get("spec", "ports")))


def ports_shown(service: Manifest) -> str:
    found = [each.get("port") for _, each in sections(service.get("spec", "ports"))]
    return " or ".join(str(each) for each in found if isinstance(each, int))


def whole(value: str | None) -> int | None:
    """Of an annotation."""
    value = (value or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None

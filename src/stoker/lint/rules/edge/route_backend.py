"""A route sends to something that is not there.

The backend is a Service with one of its ports, or an InferencePool, whose ports are its own. In another namespace it
has to be opened by a ReferenceGrant there. Requests for the route are answered with 500.

Symptom: HTTPRoute ResolvedRefs False: BackendNotFound, RefNotPermitted
Symptom: 500 for every request

Wrong:

    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: chat, namespace: ai}
    spec:
      parentRefs: [{name: edge}]
      rules: [{backendRefs: [{name: chat, port: 8080}]}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80, targetPort: 8080}]

Right:

    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: chat, namespace: ai}
    spec:
      parentRefs: [{name: edge}]
      rules: [{backendRefs: [{name: chat, port: 80}]}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80, targetPort: 8080}]

Source: Gateway API documentation, HTTPRoute (backendRefs), ReferenceGrant
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._routes import POOL, POOL_GROUPS, Reference, backends, routes
from stoker.lint.rules.edge._views import has_port, ports_shown
from stoker.lint.rules.match._references import looks_whole
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for route in routes(cluster):
        for backend in backends(route):
            if (backend.kind, backend.group) == ("Service", "") or backend.kind == POOL:
                yield from _judged(cluster, backend)


def _judged(cluster: Cluster, backend: Reference) -> Iterator[Problem]:
    at, what = (*backend.path, "name"), f"{backend.kind} {backend.name}"
    if backend.kind == POOL and backend.group not in POOL_GROUPS:
        told = f"an InferencePool is of group {POOL_GROUPS[0]}, not {backend.group or 'the core group'}"
        yield Problem(backend.route, (*backend.path, "group"), told, hint=f"group: {POOL_GROUPS[0]}")
        return
    found = cluster.find(backend.kind, backend.name, backend.namespace or None)
    if found is None:
        if not cluster.exists(backend.kind, backend.name, backend.namespace):
            told = f"no {what} is in sight{f' in namespace {backend.namespace}' if backend.namespace else ''}"
            whole = looks_whole(cluster, backend.kind, backend.namespace)
            yield Problem(
                backend.route,
                at,
                f"{told}: requests of this route fail",
                hint=f"a {what}",
                severity=Severity.WARNING if whole else Severity.INFO,
            )
        return
    if backend.kind == "Service":
        port = backend.data.get("port")
        if port is None:
            told = f"a Service as backend needs a port: {backend.name} gets no requests"
            yield Problem(backend.route, (*backend.path, "port"), told, hint=f"port: {ports_shown(found) or 80}")
        elif isinstance(port, int) and sections(found.get("spec", "ports")) and not has_port(found, port):
            told = f"{found} has no port {port}: requests of this route fail"
            yield Problem(backend.route, (*backend.path, "port"), told, hint=f"port: {ports_shown(found)}")
    here, there = backend.route.namespace, backend.namespace
    if here and there and here != there and not any(each.namespace == there for each in cluster.of("ReferenceGrant")):
        told = f"no ReferenceGrant in {there} lets a route of {here} send there"
        right = f"a ReferenceGrant in {there}"
        yield Problem(backend.route, (*backend.path, "namespace"), told, hint=right, severity=Severity.WARNING)


RULE = Rule("STK-EDGE-015", Severity.ERROR, "A route sends to something that is not there", check, __name__)

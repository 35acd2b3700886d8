"""A route has no Gateway that takes it.

A route is nothing by itself: it works where a Gateway of this name, in its own namespace or in the one it names, lets
it in. Listeners let in only routes of their Gateway's own namespace, unless `allowedRoutes` says otherwise. A
`sectionName` has to be a listener's.

Symptom: the HTTPRoute has no status at all, or Accepted False: NotAllowedByListeners

Wrong:

    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: edge, namespace: infra}
    spec:
      gatewayClassName: alb
      listeners: [{name: http, port: 80, protocol: HTTP}]
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: chat, namespace: ai}
    spec:
      parentRefs: [{name: edge}]
      rules: [{backendRefs: [{name: chat, port: 8080}]}]

Right:

    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: edge, namespace: infra}
    spec:
      gatewayClassName: alb
      listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: chat, namespace: ai}
    spec:
      parentRefs: [{name: edge, namespace: infra}]
      rules: [{backendRefs: [{name: chat, port: 8080}]}]

Source: Gateway API documentation, HTTPRoute, cross-namespace routing
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._routes import Reference, parents, routes
from stoker.lint.rules.edge._views import text
from stoker.manifests.objects import Manifest, look, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for route in routes(cluster):
        for parent in parents(route):
            if parent.kind != "Gateway":
                continue
            gateway = cluster.find("Gateway", parent.name, parent.namespace or None)
            if gateway is not None:
                yield from _judged(parent, gateway)
            elif not cluster.exists("Gateway", parent.name, parent.namespace):
                elsewhere = cluster.find("Gateway", parent.name)
                yield Problem(
                    route,
                    (*parent.path, "name"),
                    f"no Gateway {parent.name} is in sight{_where(parent)}: nothing takes this route",
                    hint=f"namespace: {elsewhere.namespace}" if elsewhere else f"a Gateway {parent.name}",
                    severity=None if next(cluster.of("Gateway"), None) is not None else Severity.INFO,
                )


def _where(parent: Reference) -> str:
    return f" in namespace {parent.namespace}" if parent.namespace else ""


def _judged(parent: Reference, gateway: Manifest) -> Iterator[Problem]:
    listeners = [each for _, each in sections(gateway.get("spec", "listeners"))]
    section = text(parent.data.get("sectionName"))
    if section and listeners:
        listeners = [each for each in listeners if each.get("name") == section]
        if not listeners:
            told = f"{gateway} has no listener {section}: it does not take this route"
            path = (*parent.path, "sectionName")
            yield Problem(parent.route, path, told, hint="the name of a listener", severity=Severity.ERROR)
            return
    here, there = parent.route.namespace, gateway.namespace
    if listeners and here and there and here != there and not any(_takes_others(each) for each in listeners):
        told = f"{gateway} takes routes of namespace {there} alone, and this one is in {here}"
        right = "allowedRoutes.namespaces.from: All or Selector at its listener"
        yield Problem(parent.route, (*parent.path, "namespace"), told, hint=right, severity=Severity.ERROR)


def _takes_others(listener: object) -> bool:
    return bool(look(listener, "allowedRoutes", "namespaces", "from", default="Same") != "Same")


RULE = Rule("STK-EDGE-014", Severity.WARNING, "A route has no Gateway that takes it", check, __name__)

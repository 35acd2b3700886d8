"""A Gateway is of a class that is not in sight.

Its GatewayClass says which controller makes something of it. Where there is none of that name, the Gateway gets no
address. Controllers often bring theirs along, so it may be in the cluster already.

Symptom: Gateway PROGRAMMED Unknown, without an address

Wrong:

    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: edge, namespace: ai}
    spec:
      gatewayClassName: aws-alb
      listeners: [{name: http, port: 80, protocol: HTTP}]

Right:

    apiVersion: gateway.networking.k8s.io/v1
    kind: GatewayClass
    metadata: {name: aws-alb}
    spec:
      controllerName: gateway.k8s.aws/alb
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: edge, namespace: ai}
    spec:
      gatewayClassName: aws-alb
      listeners: [{name: http, port: 80, protocol: HTTP}]

Source: Gateway API documentation, GatewayClass; AWS Load Balancer Controller documentation, Gateway API
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._routes import GROUP
from stoker.lint.rules.edge._views import text
from stoker.manifests.objects import is_open

# What controllers install themselves.
_BROUGHT_ALONG = (
    "istio", "istio-remote", "istio-waypoint", "cilium", "nginx", "kgateway", "agentgateway", "traefik",
)  # fmt: skip


def check(cluster: Cluster) -> Iterator[Problem]:
    for gateway in cluster.of("Gateway", group=GROUP):
        name = text(gateway.get("spec", "gatewayClassName"))
        if not name or is_open(gateway, name) or name in _BROUGHT_ALONG or name.startswith("gke-"):
            continue
        if not cluster.exists("GatewayClass", name):
            known = ", ".join(each.name for each in cluster.of("GatewayClass", group=GROUP))
            yield Problem(
                gateway,
                ("spec", "gatewayClassName"),
                f"no GatewayClass {name} is in sight: without it the Gateway gets no address",
                hint=known or f"a GatewayClass {name}",
                severity=Severity.WARNING if known else None,
            )


RULE = Rule("STK-EDGE-018", Severity.INFO, "A Gateway is of a class that is not in sight", check, __name__)

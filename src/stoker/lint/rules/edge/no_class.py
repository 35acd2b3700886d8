"""An Ingress does not say which controller takes it.

Without `ingressClassName` it belongs to the default class of the cluster; where none is marked as default, to nobody.

Symptom: the Ingress has no address, and no controller logs anything about it

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge}
    spec:
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge}
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: Kubernetes documentation, Ingress (default IngressClass)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import CLASS, ingresses

_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


def check(cluster: Cluster) -> Iterator[Problem]:
    if any(each.annotations.get(_DEFAULT) == "true" for each in cluster.of("IngressClass")):
        return
    for ingress in ingresses(cluster):
        named = ingress.get("spec", "ingressClassName")
        if CLASS in ingress.annotations and named is not None:
            told = f"{CLASS} and ingressClassName may not both be there: a new Ingress is refused"
            path = ("metadata", "annotations", CLASS)
            yield Problem(ingress, path, told, hint="ingressClassName alone", key=True, severity=Severity.ERROR)
        elif named is None and CLASS not in ingress.annotations:
            told = "no ingressClassName, and no default IngressClass in sight: perhaps no controller takes it"
            yield Problem(ingress, ("spec", "ingressClassName"), told, hint="ingressClassName: alb")


RULE = Rule("STK-EDGE-020", Severity.INFO, "An Ingress does not say which controller takes it", check, __name__)

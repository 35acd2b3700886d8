"""The numbers of a health check are not ones that the load balancer takes.

The timeout has to be shorter than the interval: 5 s and 15 s where they are not written. The interval is 5 to 300 s,
the timeout 2 to 120 s, and thresholds are 2 to 10.

Symptom: ValidationError: Health check interval must be greater than the timeout

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/healthcheck-timeout-seconds: "20"
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/healthcheck-timeout-seconds: "20"
        alb.ingress.kubernetes.io/healthcheck-interval-seconds: "30"
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: Elastic Load Balancing API reference, CreateTargetGroup; AWS Load Balancer Controller documentation,
  annotations (health check)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import alb, albs, at, whole
from stoker.manifests.objects import Manifest
from stoker.spec.faults import shown

INTERVAL, TIMEOUT = "healthcheck-interval-seconds", "healthcheck-timeout-seconds"
BOUNDS = {
    INTERVAL: (5, 300),
    TIMEOUT: (2, 120),
    "healthy-threshold-count": (2, 10),
    "unhealthy-threshold-count": (2, 10),
}
DEFAULTS = {INTERVAL: 15, TIMEOUT: 5}


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        outside = list(_outside(ingress))
        yield from outside
        if outside:
            continue
        interval, timeout = _seconds(ingress, INTERVAL), _seconds(ingress, TIMEOUT)
        if interval is not None and timeout is not None and timeout >= interval:
            name = TIMEOUT if alb(ingress, TIMEOUT) is not None else INTERVAL
            told = f"the timeout of {timeout} s is not shorter than the interval of {interval} s: it is refused"
            yield Problem(ingress, at(name), told, hint=f"{INTERVAL} over {timeout}")


def _outside(ingress: Manifest) -> Iterator[Problem]:
    for name, (least, most) in BOUNDS.items():
        written = alb(ingress, name)
        if written is None:
            continue
        value = whole(written)
        if value is None or not least <= value <= most:
            told = f"{name} is {shown(written.strip())}, and not from {least} to {most}: it is refused"
            yield Problem(ingress, at(name), told, hint=f"a number from {least} to {most}, in quotes")


def _seconds(ingress: Manifest, name: str) -> int | None:
    written = alb(ingress, name)
    if written is None:
        return None if name in {key.rpartition("/")[2] for key in ingress.annotations} else DEFAULTS[name]
    return whole(written)


RULE = Rule("STK-EDGE-010", Severity.ERROR, "The numbers of a health check are refused", check, __name__)

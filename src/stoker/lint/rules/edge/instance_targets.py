"""Nodes are the targets, and the Service has no port on them.

With `target-type: instance`, which is the default, the load balancer sends to a NodePort. A Service of type ClusterIP
has none. With `ip` the targets are the pods themselves: one hop less, and what a Service of any type can do.

Symptom: FailedBuildModel: service must be of type NodePort or LoadBalancer

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      namespace: ai
      annotations: {alb.ingress.kubernetes.io/target-type: instance}
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 8080}]

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      namespace: ai
      annotations: {alb.ingress.kubernetes.io/target-type: ip}
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 8080}]

Source: AWS Load Balancer Controller documentation, annotations (target-type)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import ALB, alb, albs, at, backends, service_of, text
from stoker.manifests.edits import Replace


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        if ALB + "target-type" in ingress.annotations and (alb(ingress, "target-type") or "").strip() != "instance":
            continue
        said = alb(ingress, "target-type")
        for backend in backends(ingress):
            service = service_of(cluster, backend)
            if service is None or ALB + "target-type" in service.annotations:
                continue
            if (text(service.get("spec", "type")) or "ClusterIP") != "ClusterIP":
                continue
            yield Problem(
                ingress,
                at("target-type"),
                f"target-type {'is' if said else 'is not written, which usually means'} instance, and {service} is "
                "ClusterIP, without a port on the nodes: the load balancer is not built",
                hint="target-type: ip",
                severity=None if said else Severity.INFO,
                edits=(Replace(at("target-type"), "ip"),) if said else (),
            )
            break


RULE = Rule(
    "STK-EDGE-009", Severity.ERROR, "Nodes are the targets, and the Service has no port on them", check, __name__
)

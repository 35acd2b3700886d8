"""The load balancer still waits for pods that have been killed.

When a pod goes, the load balancer lets running requests end for `deregistration_delay.timeout_seconds`. The pod lives
for `terminationGracePeriodSeconds`, 30 where it is not written. If that is shorter, the requests end with the pod,
with 502.

Symptom: 502 for long generations at each deployment

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      namespace: ai
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/target-group-attributes: deregistration_delay.timeout_seconds=120
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
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      namespace: ai
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/target-group-attributes: deregistration_delay.timeout_seconds=120
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
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          terminationGracePeriodSeconds: 150
          containers: [{name: server, image: "chat:v1"}]

Source: Elastic Load Balancing, target group attributes (deregistration delay); Kubernetes documentation, Pod
  Lifecycle (termination of Pods)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import albs, attributes, backends, pods_of, service_of, whole

DELAY = "deregistration_delay.timeout_seconds"
GRACE_S = 30


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        delay = whole(attributes(ingress, "target-group-attributes").get(DELAY))
        if delay is None:
            continue
        services = {id(found): found for each in backends(ingress) if (found := service_of(cluster, each)) is not None}
        for service in services.values():
            for workload in pods_of(cluster, service):
                grace = workload.spec.get("terminationGracePeriodSeconds", GRACE_S)
                if isinstance(grace, int) and not isinstance(grace, bool) and grace < delay:
                    yield Problem(
                        workload.manifest,
                        (*workload.path, "terminationGracePeriodSeconds"),
                        f"the pods are killed after {grace} s, and {ingress} lets their requests run for {delay} s",
                        hint=f"terminationGracePeriodSeconds: {delay + GRACE_S}, or a shorter {DELAY}",
                    )


RULE = Rule(
    "STK-EDGE-011", Severity.WARNING, "The load balancer still waits for pods that have been killed", check, __name__
)

"""The load balancer cuts answers that take a minute to begin.

An Application Load Balancer closes a connection on which nothing was sent for 60 s. A model that still waits for a
GPU, or thinks before the first token, or answers without streaming, sends nothing for longer.

Symptom: 504 after exactly 60 seconds

Wrong:

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
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1", resources: {limits: {nvidia.com/gpu: 1}}}]

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      namespace: ai
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/load-balancer-attributes: idle_timeout.timeout_seconds=600
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: Elastic Load Balancing, Application Load Balancers, connection idle timeout
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import albs, at, attributes, backends, is_grouped, pods_of, service_of
from stoker.lint.rules.keda._views import has_gpu

IDLE = "idle_timeout.timeout_seconds"
NAME = "load-balancer-attributes"


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        if is_grouped(ingress) or IDLE in attributes(ingress, NAME):
            continue
        services = [found for each in backends(ingress) if (found := service_of(cluster, each)) is not None]
        served = (workload for service in services for workload in pods_of(cluster, service) if has_gpu(workload))
        model = next(served, None)
        if model is not None:
            yield Problem(
                ingress,
                at(NAME),
                f"connections close after 60 s without a byte, which an answer of {model} may need",
                hint=f"{IDLE}=600 in {NAME}",
            )


RULE = Rule(
    "STK-EDGE-012", Severity.INFO, "The load balancer cuts answers that take a minute to begin", check, __name__
)

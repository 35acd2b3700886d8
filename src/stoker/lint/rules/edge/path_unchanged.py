"""The path reaches the pods as the client wrote it.

An Application Load Balancer picks the target by the path and passes it on unchanged, unless a transform rewrites it.
Where one path per model leads to servers that all know the same paths, each of them has to know its own prefix, too.

Symptom: 404 from the model server, while its health check is green

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/healthcheck-path: /health
    spec:
      ingressClassName: alb
      rules:
      - http:
          paths:
          - {path: /models/chat, pathType: Prefix, backend: {service: {name: chat, port: {number: 8080}}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/healthcheck-path: /models/chat/health
    spec:
      ingressClassName: alb
      rules:
      - http:
          paths:
          - {path: /models/chat, pathType: Prefix, backend: {service: {name: chat, port: {number: 8080}}}}

Source: AWS Elastic Load Balancing, Application Load Balancers, listener rules (transforms); AWS Load Balancer
  Controller documentation, annotations
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import ALB, Backend, alb, albs, backends, pods_of, service_of, text
from stoker.manifests.objects import look

# Paths that model servers have themselves.
_OF_SERVERS = tuple(
    f"/v1/{each}"
    for each in ("chat", "completions", "embeddings", "models", "responses", "messages", "images", "audio", "rerank")
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        if any(key.startswith(ALB + "transforms.") for key in ingress.annotations):
            continue
        for backend in backends(ingress):
            prefix = backend.route.rstrip("*/")
            last = prefix.rpartition("/")[2].lower()
            if not last or prefix.lower() in _OF_SERVERS or last not in backend.name.lower():
                continue
            health = _health(cluster, backend)
            if health and not health.startswith(prefix):
                yield Problem(
                    ingress,
                    (*backend.path[:-1], "path"),
                    f"the pods of {backend.name} get {prefix} as it is, and their health check is {health}: "
                    "is the prefix one that they know?",
                    hint=f"an annotation {ALB}transforms.{backend.name}, if they do not",
                )


def _health(cluster: Cluster, backend: Backend) -> str:
    """The path by which the load balancer or the kubelet asks whether a pod is well."""
    said = alb(backend.manifest, "healthcheck-path")
    if said:
        return said.strip()
    service = service_of(cluster, backend)
    for workload in pods_of(cluster, service) if service is not None else ():
        for _, container in workload.containers():
            path = text(look(container, "readinessProbe", "httpGet", "path"))
            if path:
                return path
    return ""


RULE = Rule(
    "STK-EDGE-003", Severity.INFO, "The path reaches the pods as the client wrote it", check, __name__, guide=("R07",)
)

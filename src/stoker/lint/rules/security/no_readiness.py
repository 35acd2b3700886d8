"""A server without a readiness probe.

A pod is ready as soon as its process runs. A model server then gets requests for the minutes that it still loads its
weights, and a rolling update takes the old pods away before the new ones can answer.

Symptom: connection refused, or 503, for some minutes after each rollout and each scale-up

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: registry.example.com/chat:1.0
            ports: [{containerPort: 8080}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat}
    spec:
      selector: {app: chat}
      ports: [{port: 8080}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: registry.example.com/chat:1.0
            ports: [{containerPort: 8080}]
            readinessProbe: {httpGet: {path: /health, port: 8080}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat}
    spec:
      selector: {app: chat}
      ports: [{port: 8080}]

Source: Kubernetes documentation, Configure liveness, readiness and startup probes
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import SERVING, named, services_of
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(SERVING):
        behind = [
            each
            for each in services_of(cluster, workload)
            if each.get("spec", "publishNotReadyAddresses") is not True  # it wants them before they are ready
        ]
        for path, said in _unready(workload, bool(behind)):
            if behind:
                message = f"{said} has no readinessProbe: {behind[0]} sends requests to it before it can answer"
            else:
                message = f"{said} has no readinessProbe: it counts as ready when its process starts"
            yield Problem(
                workload.manifest,
                (*path, "readinessProbe"),
                message,
                hint="readinessProbe: {httpGet: {path: /health, port: 8080}}, with its own path and port",
                severity=None if behind else Severity.INFO,
            )


def _unready(workload: Workload, serves: bool) -> list[tuple[Path, str]]:
    """The containers that take requests and have no probe. Where one has a probe, the others are its sidecars."""
    found = list(workload.containers())
    if any("readinessProbe" in container for _path, container in found):
        return []
    asked = [each for each in found if each[1].get("ports")] or (found[:1] if serves else [])
    return [(path, named(container)) for path, container in asked]


RULE = Rule("STK-SECURITY-008", Severity.WARNING, "A server without a readiness probe", check, __name__)

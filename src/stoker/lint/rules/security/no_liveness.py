"""A server without a liveness probe.

A process that hangs (a deadlock, a GPU that fell off the bus) goes on holding its GPU, and is never restarted. This is
a choice: a server that ends itself when it is broken needs none, and a probe that is too eager does more harm.

Symptom: one pod of five answers nothing, with 0 restarts in a week

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
            livenessProbe: {httpGet: {path: /health, port: 8080}}

Source: Kubernetes documentation, Configure liveness, readiness and startup probes
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import SERVING, named


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(SERVING):
        found = list(workload.containers())
        if any("livenessProbe" in container for _path, container in found):
            continue
        for path, container in found:
            if container.get("ports"):
                yield Problem(
                    workload.manifest,
                    (*path, "livenessProbe"),
                    f"{named(container)} has no livenessProbe: if it hangs, it keeps its place and its GPU for good",
                    hint="livenessProbe with a startupProbe, unless it ends itself when it is broken",
                )


RULE = Rule("STK-SECURITY-009", Severity.INFO, "A server without a liveness probe", check, __name__)

"""A ServiceMonitor or PodMonitor selects nothing.

A ServiceMonitor looks for Services by their own labels, not by their selectors; a PodMonitor for pods. Both look only
in their own namespace, unless namespaceSelector says others. What is not found is not scraped, and nothing says so.

Symptom: no target in Prometheus, and no error

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: chat:v1
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{name: web, port: 80, targetPort: 8080}]
    ---
    apiVersion: monitoring.coreos.com/v1
    kind: ServiceMonitor
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      endpoints: [{port: web}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: chat:v1
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai, labels: {app: chat}}
    spec:
      selector: {app: chat}
      ports: [{name: web, port: 80, targetPort: 8080}]
    ---
    apiVersion: monitoring.coreos.com/v1
    kind: ServiceMonitor
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      endpoints: [{port: web}]

Source: prometheus-operator/prometheus-operator Documentation/user-guides/getting-started.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._monitors import candidates, is_found, monitored
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for monitor, others in monitored(cluster):
        if any(is_found(monitor, each) for each in others):
            continue
        what = "Service" if monitor.kind == "ServiceMonitor" else "pod"
        elsewhere = next((each for each in candidates(cluster, monitor) if is_found(monitor, each)), None)
        if elsewhere is not None:
            space = (elsewhere.manifest if isinstance(elsewhere, Workload) else elsewhere).namespace
            yield Problem(
                monitor,
                ("spec", "namespaceSelector"),
                f"looks in its own namespace only, and {elsewhere} is in {space}: nothing is scraped",
                hint=f"namespaceSelector: {{matchNames: [{space}]}}",
            )
            continue
        if not others:
            continue
        yield Problem(
            monitor,
            ("spec", "selector"),
            f"selects no {what} in sight ({len(others)} where it looks): nothing is scraped",
            hint="labels of the Service's own metadata" if what == "Service" else "labels of the pod template",
        )


RULE = Rule("STK-MATCH-027", Severity.WARNING, "A monitor selects nothing", check, __name__)

"""A ServiceMonitor or PodMonitor scrapes a port that is not there.

`port` is the name of a port of the Service, or of a container for a PodMonitor; not a number, and not the name of the
target port. Without a port of that name nothing is scraped.

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
      endpoints: [{port: metrics}]

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

Source: prometheus-operator/prometheus-operator Documentation/api-reference/api.md (Endpoint, PodMetricsEndpoint)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._monitors import is_certain, is_found, monitored
from stoker.lint.rules.match.service_port import declared
from stoker.manifests.objects import Manifest, sections
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for monitor, others in monitored(cluster):
        found = [each for each in others if is_found(monitor, each) and is_certain(each)]
        names = {name for each in found for name in _names(each)}
        key = "endpoints" if monitor.kind == "ServiceMonitor" else "podMetricsEndpoints"
        for i, endpoint in sections(monitor.get("spec", key)):
            port = endpoint.get("port")
            if found and isinstance(port, str) and port not in names and not holds_open(monitor, port):
                yield Problem(
                    monitor,
                    ("spec", key, i, "port"),
                    f"{port}: none of the {len(found)} that it selects has a port of that name, so it is not scraped",
                    hint=f"one of {', '.join(sorted(names))}" if names else "give the port a name there",
                )


def _names(each: Manifest | Workload) -> set[str]:
    if isinstance(each, Workload):
        return {name for name, _ in declared(each) if name}
    return {port["name"] for _, port in sections(each.get("spec", "ports")) if isinstance(port.get("name"), str)}


RULE = Rule("STK-MATCH-028", Severity.WARNING, "A monitor scrapes a port that is not there", check, __name__)

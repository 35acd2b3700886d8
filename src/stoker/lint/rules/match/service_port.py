"""A Service sends to a port that its pods do not have.

A targetPort that is a name is looked up among the container's ports; without one of that name the Service has no
endpoints for it. A number works whether it is declared or not: where the pods declare others, it is worth a look.

Symptom: the Service has endpoints, and none for this port
Symptom: connection refused on the Service's address

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
            ports: [{name: http, containerPort: 8080}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{name: web, port: 80, targetPort: grpc}]

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
            ports: [{name: http, containerPort: 8080}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{name: web, port: 80, targetPort: http}]

Source: Kubernetes documentation, Service (port definitions)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._pods import labelled, pods_in
from stoker.manifests.objects import sections, texts
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for service in cluster.of("Service", group=""):
        selector = texts(service.get("spec", "selector"))
        if not selector or service.templated:
            continue
        pods = [each for each in pods_in(cluster, service.namespace) if labelled(each, selector)]
        if not pods or any(each.manifest.templated for each in pods):
            continue
        names = {name for each in pods for name, _ in declared(each)}
        numbers = {number for each in pods for _, number in declared(each)}
        for i, port in sections(service.get("spec", "ports")):
            target = port.get("targetPort", port.get("port"))
            key = "targetPort" if "targetPort" in port else "port"
            named = isinstance(target, str) and not target.isdecimal()
            if holds_open(service, target) or not (
                target not in names if named else numbers and _number(target) not in numbers
            ):
                continue
            there = ", ".join(f"{name or 'port'} {number}" for each in pods for name, number in declared(each))
            yield Problem(
                service,
                ("spec", "ports", i, key),
                f"{target}: no container of {pods[0]} declares that port; "
                + (f"they have {there}" if there else "they declare none"),
                hint="a name or number of the container's ports",
                severity=Severity.WARNING if named else Severity.INFO,
            )


def declared(workload: Workload) -> list[tuple[str, object]]:
    """Name and number of each port that the containers declare."""
    return [
        (name if isinstance(name := port.get("name"), str) else "", _number(port.get("containerPort")))
        for _, container in workload.containers(init=True)
        for _, port in sections(container.get("ports"))
    ]


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 6:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


RULE = Rule("STK-MATCH-026", Severity.WARNING, "A Service sends to a port that its pods do not have", check, __name__)

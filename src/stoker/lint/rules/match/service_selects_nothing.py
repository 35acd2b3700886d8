"""A Service selects no pods.

It has a name and an address, and nobody behind it: every connection is refused. Most often the selector has the labels
of the Deployment, or of another release of a chart, and not those of the pod template.

Symptom: connection refused, or 503 from the load balancer; the Service has no endpoints

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
      selector: {app: chta}
      ports: [{name: web, port: 80, targetPort: 8080}]

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
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{name: web, port: 80, targetPort: 8080}]

Source: Kubernetes documentation, Service (services with and without selectors)
"""

import difflib
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._pods import is_by_controller, labelled, pods_in
from stoker.manifests.objects import texts
from stoker.manifests.workloads import Workload

_ALIKE = 0.7


def check(cluster: Cluster) -> Iterator[Problem]:
    for service in cluster.of("Service", group=""):
        written = service.get("spec", "selector")
        selector = {key: value for key, value in texts(written).items() if not is_by_controller(key)}
        if not selector or holds_open(service, written) or service.get("spec", "type") == "ExternalName":
            continue
        pods = list(pods_in(cluster, service.namespace))
        if not pods or any(labelled(each, selector) or holds_open(each.manifest, each.labels) for each in pods):
            continue
        near = [each for each in pods if is_near(service.name, selector, each)]
        like = next(({key: each.labels[key] for key in selector if key in each.labels} for each in near), {})
        yield Problem(
            service,
            ("spec", "selector"),
            f"selects pods with {_written(selector)}, and no workload in sight makes such: nobody answers",
            hint=f"a selector of labels of the pod template, such as {_written(like)}"
            if like
            else "labels of the pods",
            severity=Severity.WARNING if near else Severity.INFO,
        )


def is_near(name: str, selector: dict[str, str], workload: Workload) -> bool:
    """Whether these pods seem to be meant: of the same name, alike in a label, or nearly so. Others may be made by an
    operator that is not known here."""
    shared = [(value, workload.labels[key]) for key, value in selector.items() if key in workload.labels]
    if shared and workload.manifest.name == name:
        return True
    return any(a == b or difflib.SequenceMatcher(None, a, b).ratio() > _ALIKE for a, b in shared)


def _written(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())


RULE = Rule("STK-MATCH-025", Severity.WARNING, "A Service selects no pods", check, __name__)

"""A spread constraint does not count the pods that it is to spread.

labelSelector says which pods are counted in each zone or node. Where it does not match the pod's own labels, or is not
written, the pods are placed as if there were none of them.

Symptom: all replicas in one zone, although a spread constraint says otherwise

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: topology.kubernetes.io/zone
            whenUnsatisfiable: ScheduleAnyway
            labelSelector: {matchLabels: {app: chta}}
          containers:
          - name: server
            image: chat:v1

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: topology.kubernetes.io/zone
            whenUnsatisfiable: ScheduleAnyway
            labelSelector: {matchLabels: {app: chat}}
          containers:
          - name: server
            image: chat:v1

Source: Kubernetes documentation, Pod Topology Spread Constraints (labelSelector)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._pods import is_by_controller
from stoker.lint.selectors import selects
from stoker.manifests.objects import look, sections, texts


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for i, each in sections(workload.spec.get("topologySpreadConstraints")):
            selector = each.get("labelSelector")
            keys = [*texts(look(selector, "matchLabels")), *_keys(look(selector, "matchExpressions"))]
            if holds_open(workload.manifest, [selector, workload.labels]) or any(is_by_controller(key) for key in keys):
                continue
            if selector is None and each.get("matchLabelKeys"):
                continue
            if not selects(selector, workload.labels):
                path = (*workload.path, "topologySpreadConstraints", i, "labelSelector")
                what = "matches other labels than the pods have" if selector is not None else "is missing"
                yield Problem(
                    workload.manifest,
                    path,
                    f"{workload}: labelSelector {what}, so its own pods are not counted and nothing is spread",
                    hint=f"labelSelector: {{matchLabels: {_written(workload.labels)}}}"
                    if workload.labels
                    else "labels",
                )


def _keys(expressions: object) -> list[str]:
    return [each["key"] for _, each in sections(expressions) if isinstance(each.get("key"), str)]


def _written(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in labels.items()) + "}"


RULE = Rule("STK-MATCH-032", Severity.WARNING, "A spread constraint does not count its own pods", check, __name__)

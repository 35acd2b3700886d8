"""A PodDisruptionBudget selects no pods that are in sight.

A budget protects by labels of pods, in its own namespace. One letter apart, and it counts nothing: drains take all
replicas at once. It is a warning where a workload of the budget's name is there and has other labels, and a note
where the pods may be elsewhere. A budget without a selector selects nothing.

Symptom: kubectl get pdb shows 0 expected pods
Symptom: all replicas are evicted at once although there is a budget

Wrong:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: chat-server}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]

Right:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: chat}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]

Source: Kubernetes documentation, tasks/run-application/configure-pdb
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import budgets, guarded, share_namespace
from stoker.manifests.objects import texts


def check(cluster: Cluster) -> Iterator[Problem]:
    for budget in budgets(cluster):
        selector = budget.get("spec", "selector")
        if selector is None:
            message = "has no selector, so it selects no pods and protects nothing"
            yield Problem(budget, ("spec", "selector"), message, hint="selector.matchLabels: the labels of the pods")
        elif not guarded(cluster, budget):
            names = {budget.name, *texts(budget.get("spec", "selector", "matchLabels")).values()}
            meant = next(
                (
                    each
                    for each in cluster.workloads
                    if share_namespace(each.manifest, budget) and each.manifest.name in names - {""}
                ),
                None,
            )
            if meant is None:
                message = "selects no pods that are in sight; it counts pods of its own namespace only"
                yield Problem(budget, ("spec", "selector"), message, severity=Severity.INFO)
            else:
                labels = ", ".join(f"{key}: {value}" for key, value in sorted(meant.labels.items())) or "no labels"
                yield Problem(
                    budget,
                    ("spec", "selector"),
                    f"selects no pods: those of {meant} have {labels}, so nothing is protected",
                    hint="the labels of the pods, in the namespace of the pods",
                )


RULE = Rule("STK-DISRUPTION-004", Severity.WARNING, "A PodDisruptionBudget selects no pods in sight", check, __name__)

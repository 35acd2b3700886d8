"""Two PodDisruptionBudgets select the same pods.

The eviction API cannot serve a pod that more than one budget counts: it answers 500 and evicts nothing, whatever the
budgets allow. Charts that bring a budget of their own are the usual cause.

Symptom: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support"

Wrong:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: chat}}
    ---
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: all, namespace: ai}
    spec:
      maxUnavailable: 25%
      selector: {matchLabels: {tier: serving}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat, tier: serving}}
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
        metadata: {labels: {app: chat, tier: serving}}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]

Source: kubernetes/kubernetes@v1.36.0 pkg/registry/core/pod/storage/eviction.go
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import budgets, guarded
from stoker.manifests.objects import Manifest
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    held: dict[Workload, list[Manifest]] = defaultdict(list)
    said: set[tuple[int, int]] = set()
    for budget in budgets(cluster):
        for workload in guarded(cluster, budget):
            for first in held[workload]:
                both = (id(first), id(budget))
                # The same budget read twice (two overlays of one base) is one object of the cluster.
                if both not in said and (first.name, first.namespace) != (budget.name, budget.namespace):
                    said.add(both)
                    yield Problem(
                        budget,
                        ("spec", "selector"),
                        f"selects pods of {workload} that {first} selects, too: their eviction is refused with 500",
                        hint="one PodDisruptionBudget for each set of pods",
                    )
            held[workload].append(budget)


RULE = Rule("STK-DISRUPTION-003", Severity.WARNING, "Two PodDisruptionBudgets select the same pods", check, __name__)

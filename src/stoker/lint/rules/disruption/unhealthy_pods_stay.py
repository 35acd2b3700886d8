"""A budget over pods that start slowly does not let unready ones be evicted.

By default a pod that runs but is not ready is evicted only while enough others are ready. A model server that loads
for minutes, or crashes in a loop, then holds its node: the budget is used up by the very pod that is broken. With
`unhealthyPodEvictionPolicy: AlwaysAllow` pods that are not ready may always go.

Symptom: a drain waits for a pod that is in CrashLoopBackOff

Wrong:

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
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}

Right:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      unhealthyPodEvictionPolicy: AlwaysAllow
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
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}

Source: Kubernetes documentation, tasks/run-application/configure-pdb (unhealthyPodEvictionPolicy)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import budgets, guarded


def check(cluster: Cluster) -> Iterator[Problem]:
    for budget in budgets(cluster):
        if budget.get("spec", "unhealthyPodEvictionPolicy") is not None:
            continue
        slow = next((each for each in guarded(cluster, budget) if pools(cluster).gpus(each)), None)
        if slow is not None:
            yield Problem(
                budget,
                ("spec", "unhealthyPodEvictionPolicy"),
                f"pods of {slow} that are not ready count as well, so one that loads or crashes can hold its node",
                hint="unhealthyPodEvictionPolicy: AlwaysAllow",
            )


RULE = Rule(
    "STK-DISRUPTION-005", Severity.INFO, "A budget over slow pods does not let unready ones go", check, __name__
)

"""A PodDisruptionBudget keeps as many pods as there are.

`minAvailable` counts pods that are ready. With one replica and `minAvailable: 1`, or three and three, not one may
leave: drains hang, and so do consolidation and drift. Percentages are rounded up: 50% of one pod is one pod. Under an
autoscaler it holds whenever the workload is at its smallest.

Symptom: ALLOWED DISRUPTIONS of kubectl get pdb is 0 although all pods are ready

Wrong:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      minAvailable: 1
      selector: {matchLabels: {app: chat}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 1
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
      minAvailable: 1
      selector: {matchLabels: {app: chat}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]

Source: Kubernetes documentation, tasks/run-application/configure-pdb (rounding of percentages)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import budgets, guarded, least_replicas, scaled_share
from stoker.spec.faults import shown


def check(cluster: Cluster) -> Iterator[Problem]:
    for budget in budgets(cluster):
        kept = budget.get("spec", "minAvailable")
        if kept is None or kept == "100%":
            continue
        found = guarded(cluster, budget)
        # Pods of several workloads are counted together: the sum would have to be known.
        if len(found) != 1:
            continue
        least = least_replicas(cluster, found[0])
        needed = scaled_share(kept, least, up=True) if least else None
        if least and needed is not None and needed >= least:
            pods = "the only pod" if least == 1 else f"all {least} pods"
            yield Problem(
                budget,
                ("spec", "minAvailable"),
                f"minAvailable: {shown(kept)} keeps {pods} of {found[0]}, so no node with one can be drained"
                + ("" if found[0].replicas else " while it is at its smallest"),
                hint="maxUnavailable: 1" if least > 1 else "maxUnavailable: 1, or a second replica",
            )


RULE = Rule(
    "STK-DISRUPTION-002", Severity.WARNING, "A PodDisruptionBudget keeps as many pods as there are", check, __name__
)

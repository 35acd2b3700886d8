"""A PodDisruptionBudget allows no eviction at all.

With `maxUnavailable: 0` or `minAvailable: 100%` every eviction is refused, for as long as the budget is there. A
drain by kubectl hangs, and Karpenter can neither consolidate the node nor replace it for drift; it waits until a
person takes the budget away, or until the pool's terminationGracePeriod runs out. It protects from nothing that is
not announced, such as the loss of a spot node.

Symptom: kubectl drain repeats "Cannot evict pod as it would violate the pod's disruption budget"
Symptom: nodes stay on an old AMI for weeks

Wrong:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 0
      selector: {matchLabels: {app: chat}}

Right:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: chat}}

Source: Kubernetes documentation, tasks/run-application/configure-pdb
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/disruption.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import budgets
from stoker.spec.faults import shown

_BLOCKING = {"maxUnavailable": (0, "0", "0%"), "minAvailable": ("100%",)}


def check(cluster: Cluster) -> Iterator[Problem]:
    for budget in budgets(cluster):
        for key, values in _BLOCKING.items():
            value = budget.get("spec", key)
            if value in values and not isinstance(value, bool):
                yield Problem(
                    budget,
                    ("spec", key),
                    f"{key}: {shown(value)} refuses every eviction, so no node with such a pod can ever be drained",
                    hint="maxUnavailable: 1",
                )


RULE = Rule("STK-DISRUPTION-001", Severity.WARNING, "A PodDisruptionBudget allows no eviction at all", check, __name__)

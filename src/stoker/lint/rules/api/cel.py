"""A rule between fields that the definition states is broken.

The definition of the kind carries rules in CEL, which the API server evaluates for each object. Schema
checkers skip them. The message is the one the API server would give.

Symptom: spec.disruption.budgets: Invalid value: "array": 'schedule' must be set with 'duration'

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: a}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: kubernetes.io/arch, operator: In, values: []}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: a}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}

Source: Kubernetes documentation, CustomResourceDefinition: validation rules
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("cel")


RULE = Rule(
    "STK-API-007", Severity.ERROR, "A rule between fields that the definition states is broken", check, __name__
)

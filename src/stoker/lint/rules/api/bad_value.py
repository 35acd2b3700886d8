"""A value that is not of the form, or not in the range, that the field takes.

Names, durations, percentages, quantities and numbers have a form that the API server checks.

Symptom: spec.weight in body should be less than or equal to 100

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: a}
    spec:
      weight: 500
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: a}
    spec:
      weight: 50
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}

Source: CRD karpenter.sh NodePool v1, spec.weight
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("bad-format", "bad-pattern", "bad-name", "bad-value", "out-of-range", "too-many")


RULE = Rule(
    "STK-API-005",
    Severity.ERROR,
    "A value that is not of the form, or not in the range, that the field takes",
    check,
    __name__,
)

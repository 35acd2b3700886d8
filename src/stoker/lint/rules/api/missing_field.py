"""A field that must be there is not.

The API server refuses the object. A section that is written but empty (`spec:` and then only a comment) is
null, which counts as missing.

Symptom: spec.containers: Required value

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      # containers follow

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - {name: a, image: "a:1"}

Source: Kubernetes API reference, core/v1 PodSpec
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("missing-field")


RULE = Rule("STK-API-003", Severity.ERROR, "A field that must be there is not", check, __name__, guide=("E10", "E11"))

"""A word that the field does not know.

The field takes one of a few words, and their spelling counts.

Symptom: Unsupported value: "always": supported values: "Always", "IfNotPresent", "Never"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      restartPolicy: always
      containers:
      - {name: a, image: "a:1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      restartPolicy: Always
      containers:
      - {name: a, image: "a:1"}

Source: Kubernetes API reference, core/v1 PodSpec
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("not-in-enum")


RULE = Rule("STK-API-004", Severity.ERROR, "A word that the field does not know", check, __name__)

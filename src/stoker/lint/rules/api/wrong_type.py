"""A value of another type than the field takes.

The API server decodes into types: a number where text is wanted, or the other way round, is refused. Most
often quotes are missing (`"8"`, `"true"`) or too many.

Symptom: cannot unmarshal number into Go struct field EnvVar.value of type string

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - name: a
        image: a:1
        env:
        - {name: LEVEL, value: 3}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - name: a
        image: a:1
        env:
        - {name: LEVEL, value: "3"}

Source: Kubernetes API reference, core/v1 EnvVar
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("wrong-type")


RULE = Rule("STK-API-002", Severity.ERROR, "A value of another type than the field takes", check, __name__)

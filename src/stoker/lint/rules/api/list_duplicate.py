"""Two items of a list with the same key.

The list is a map by that key, or a set: the API server refuses the second one, and a server-side apply would
merge them.

Symptom: Duplicate value: "a"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - {name: a, image: "a:1"}
      - {name: a, image: "b:1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - {name: a, image: "a:1"}
      - {name: b, image: "b:1"}

Source: Kubernetes documentation, server-side apply: merge strategy
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("duplicate-key")


RULE = Rule("STK-API-006", Severity.ERROR, "Two items of a list with the same key", check, __name__)

"""A field that the kind does not have.

kubectl apply refuses it since 1.27 (strict field validation). A client that is not strict drops it without a
word, and what you wrote does not happen.

Symptom: strict decoding error: unknown field "spec.template.spec.nodeSelectors"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      nodeSelectors: {disk: ssd}
      containers:
      - {name: a, image: "a:1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      nodeSelector: {disk: ssd}
      containers:
      - {name: a, image: "a:1"}

Source: Kubernetes documentation, API concepts: field validation
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("unknown-field")


RULE = Rule("STK-API-001", Severity.ERROR, "A field that the kind does not have", check, __name__)

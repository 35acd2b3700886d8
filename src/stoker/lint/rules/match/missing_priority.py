"""A priority class is named that is not there.

The API server refuses a pod whose PriorityClass does not exist: a Deployment of such pods has none.

Symptom: FailedCreate: no PriorityClass with name serving was found

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      priorityClassName: serving
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      priorityClassName: serving
      containers:
      - {name: server, image: "chat:v1"}
    ---
    apiVersion: scheduling.k8s.io/v1
    kind: PriorityClass
    metadata: {name: serving}
    value: 1000

Source: Kubernetes documentation, Pod Priority and Preemption
"""

from collections.abc import Iterator
from dataclasses import replace

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import missing, pod_specs

_BUILT_IN = ("system-cluster-critical", "system-node-critical")


def check(cluster: Cluster) -> Iterator[Problem]:
    found = (
        replace(each, namespace="")
        for spec in pod_specs(cluster)
        for key in ("priorityClassName", "podPriorityClassName")
        for each in spec.refers(key)
    )
    yield from missing(
        cluster,
        "PriorityClass",
        found,
        "the pod is refused",
        "a PriorityClass of this name, or exists: [PriorityClass ...] in the config",
        known=_BUILT_IN,
        like=("PriorityClass",),
    )


RULE = Rule("STK-MATCH-015", Severity.WARNING, "A priority class is named that is not there", check, __name__)

"""A runtime class is named that is not there.

The API server refuses a pod whose RuntimeClass does not exist. Those for GPUs have a rule of their own, STK-GPU-017.

Symptom: pod rejected: RuntimeClass "gvisor" not found

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      runtimeClassName: gvisor
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      runtimeClassName: gvisor
      containers:
      - {name: server, image: "chat:v1"}
    ---
    apiVersion: node.k8s.io/v1
    kind: RuntimeClass
    metadata: {name: gvisor}
    handler: runsc

Source: Kubernetes documentation, Runtime Class
"""

from collections.abc import Iterator
from dataclasses import replace

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import missing, pod_specs


def check(cluster: Cluster) -> Iterator[Problem]:
    found = (
        replace(each, namespace="")
        for spec in pod_specs(cluster)
        for each in spec.refers("runtimeClassName")
        if not each.name.startswith("nvidia")
    )
    hint = "a RuntimeClass of this name, or exists: [RuntimeClass ...] in the config"
    yield from missing(cluster, "RuntimeClass", found, "the pod is refused", hint, like=("RuntimeClass",))


RULE = Rule("STK-MATCH-016", Severity.WARNING, "A runtime class is named that is not there", check, __name__)

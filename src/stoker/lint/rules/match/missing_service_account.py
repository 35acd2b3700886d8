"""Pods run as a service account that is not there.

No pod is created while its ServiceAccount does not exist: the Deployment has no pods at all, and only an event of its
ReplicaSet says why.

Symptom: FailedCreate: serviceaccount "chat" not found
Symptom: a Deployment with 0 pods and no error of its own

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      serviceAccountName: chat
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      serviceAccountName: chat
      containers:
      - {name: server, image: "chat:v1"}
    ---
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: chat, namespace: ai}

Source: Kubernetes documentation, Configure Service Accounts for Pods
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import missing, pod_specs


def check(cluster: Cluster) -> Iterator[Problem]:
    found = (each for spec in pod_specs(cluster) for each in spec.refers("serviceAccountName"))
    hint = "a ServiceAccount of this name beside it, or exists: [ServiceAccount ...] in the config"
    yield from missing(cluster, "ServiceAccount", found, "no pod is created", hint, known=("default",))


RULE = Rule(
    "STK-MATCH-011",
    Severity.WARNING,
    "Pods run as a service account that is not there",
    check,
    __name__,
    guide=("R03",),
)

"""A pod mounts a claim that is not there.

A pod whose PersistentVolumeClaim does not exist is not scheduled until it does. For pods that each want a volume of
their own, use an ephemeral volume or a StatefulSet's volumeClaimTemplates.

Symptom: Pending with "persistentvolumeclaim \"weights\" not found"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      volumes:
      - {name: weights, persistentVolumeClaim: {claimName: weights}}
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      volumes:
      - {name: weights, persistentVolumeClaim: {claimName: weights}}
      containers:
      - {name: server, image: "chat:v1"}
    ---
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 100Gi}}

Source: Kubernetes documentation, Persistent Volumes (claims as volumes)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import claims, missing, pod_specs


def check(cluster: Cluster) -> Iterator[Problem]:
    found = (each for spec in pod_specs(cluster) for each in claims(spec))
    hint = "a PersistentVolumeClaim of this name beside it, or exists: [PersistentVolumeClaim ...] in the config"
    yield from missing(cluster, "PersistentVolumeClaim", found, "the pod is not scheduled", hint)


RULE = Rule(
    "STK-MATCH-010", Severity.WARNING, "A pod mounts a claim that is not there", check, __name__, guide=("R03",)
)

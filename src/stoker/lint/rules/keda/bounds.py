"""The numbers of replicas of a ScaledObject contradict each other.

`minReplicaCount` must not be over `maxReplicaCount`, and `idleReplicaCount` must be under `minReplicaCount`: KEDA
refuses the rest. Of idle numbers only 0 works: from any other the HPA goes straight back to the minimum.

Symptom: MinReplicaCount must be less than MaxReplicaCount
Symptom: IdleReplicaCount must be less than MinReplicaCount

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      idleReplicaCount: 0
      minReplicaCount: 0
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      idleReplicaCount: 0
      minReplicaCount: 2
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda apis/keda/v1alpha1/scaledobject_types.go; kedacore/keda-docs
  content/docs/2.21/reference/scaledobject-spec.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import SCALED_OBJECT, maximum, minimum, scaled
from stoker.manifests.objects import Manifest, whole


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        least, most = minimum(manifest), maximum(manifest)
        if least is None or most is None:
            continue
        if least > most:
            told = f"minReplicaCount {least} is over maxReplicaCount {most}: KEDA refuses it"
            yield Problem(manifest, ("spec", "minReplicaCount"), told, hint=f"at most {most}")
        elif most == 0:
            told = "maxReplicaCount 0 allows no replica at all"
            yield Problem(manifest, ("spec", "maxReplicaCount"), told, hint="at least 1")
        if manifest.kind == SCALED_OBJECT:
            yield from _idle(manifest, least)


def _idle(manifest: Manifest, least: int) -> Iterator[Problem]:
    idle, path = whole(manifest.get("spec", "idleReplicaCount")), ("spec", "idleReplicaCount")
    if idle is None:
        return
    if idle >= least:
        told = f"idleReplicaCount {idle} is not under minReplicaCount {least}: KEDA refuses it"
        right = "no idleReplicaCount: minReplicaCount 0 goes to zero" if least == 0 else "idleReplicaCount: 0"
        yield Problem(manifest, path, told, hint=right)
    elif idle != 0:
        told = f"idleReplicaCount {idle} does not last: the HPA goes back to minReplicaCount {least}"
        yield Problem(manifest, path, told, hint="idleReplicaCount: 0, or none", severity=Severity.WARNING)


RULE = Rule(
    "STK-KEDA-030", Severity.ERROR, "The numbers of replicas of a ScaledObject contradict each other", check, __name__
)

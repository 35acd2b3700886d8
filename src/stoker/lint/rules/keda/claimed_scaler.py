"""A comment says that an autoscaler sets the replicas, and none does.

No ScaledObject and no HPA in sight has this workload as its target, so the number stays at what is written.

Symptom: the queue grows, KEDA is installed, and one Deployment always has one replica

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: general}
    spec:
      replicas: 1  # KEDA will manage this
      selector: {matchLabels: {app: general}}
      template:
        metadata: {labels: {app: general}}
        spec:
          containers: [{name: server, image: "general:v1"}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: general}
    spec:
      selector: {matchLabels: {app: general}}
      template:
        metadata: {labels: {app: general}}
        spec:
          containers: [{name: server, image: "general:v1"}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: general}
    spec:
      scaleTargetRef: {name: general}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md (scaleTargetRef)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import comment_at, scalers_of
from stoker.lint.rules.keda.replicas_beside_scaler import PATH

_SCALER = re.compile(
    r"(?<![a-z])(keda|hpa|horizontal\s?pod\s?autoscaler|auto-?\s?scal[a-z]+|scaled\s?object)(?![a-z])", re.IGNORECASE
)
_DENIES = re.compile(r"\b(no|not|never|without|instead|until|initial\w*|disabled)\b|n't\b", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("Deployment", "StatefulSet", "ReplicaSet", "Rollout")):
        manifest = workload.manifest
        if manifest.get(*PATH) is None:
            continue
        comment = comment_at(manifest, PATH)
        said = _SCALER.search(comment)
        if said and not _DENIES.search(comment) and not scalers_of(cluster, workload):
            yield Problem(
                manifest,
                PATH,
                f"the comment gives replicas to {said[0]}, but no ScaledObject or HPA in sight scales {manifest}",
                hint=f"a ScaledObject with scaleTargetRef: {{name: {manifest.name}}}, and no replicas here",
            )


RULE = Rule(
    "STK-KEDA-027",
    Severity.WARNING,
    "A comment says that an autoscaler sets the replicas, and none does",
    check,
    __name__,
    guide=("S12",),
)

"""cooldownPeriod has no effect on a workload that never goes to zero.

KEDA waits `cooldownPeriod` before one step only: that to 0 (or to `idleReplicaCount`). Between `minReplicaCount` and
`maxReplicaCount` the HPA decides, and there it is `stabilizationWindowSeconds` of `scaleDown` that says how long a
lower number has to last.

Symptom: cooldownPeriod was raised, and replicas still go away as quickly as before

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      cooldownPeriod: 600  # wait ten minutes before scaling down
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      advanced:
        horizontalPodAutoscalerConfig:
          behavior: {scaleDown: {stabilizationWindowSeconds: 600}}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md; kedacore/keda@v2.20.2
  pkg/scaling/executor/scale_scaledobjects.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import SCALED_OBJECT, comment_at, minimum, scaled, scales_to_zero

_CLAIMS = re.compile(r"\b(scal\w*|shrink\w*|remov\w*|down|fewer|wait\w*|idle)\b", re.IGNORECASE)
_OF_ZERO = re.compile(r"\b(zero|0)\b", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        least = minimum(manifest)
        if least is None or scales_to_zero(manifest):
            continue
        for name in ("cooldownPeriod", "initialCooldownPeriod"):
            path = ("spec", name)
            if manifest.get(*path) is None:
                continue
            comment = comment_at(manifest, path)
            is_claimed = bool(_CLAIMS.search(comment)) and not _OF_ZERO.search(comment)
            yield Problem(
                manifest,
                path,
                f"{name} only delays the step to 0, which minReplicaCount {least} rules out: it has no effect",
                hint="advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds",
                severity=None if is_claimed else Severity.INFO,
            )


RULE = Rule(
    "STK-KEDA-013",
    Severity.WARNING,
    "cooldownPeriod has no effect on a workload that never goes to zero",
    check,
    __name__,
    guide=("S08",),
)

"""pollingInterval does not say how often a running workload is scaled.

KEDA's own check, every `pollingInterval`, decides between 0 and 1 and counts failures for `fallback`. From 1 on the
HPA asks for the metric at each of its own syncs, every 15 s, whatever stands here; only with `useCachedMetrics` does
it get the value of KEDA's last check.

Symptom: pollingInterval was set to 5, and scaling up is no quicker

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      pollingInterval: 5
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      pollingInterval: 5
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md; kedacore/keda@v2.20.2
  pkg/scaling/scale_handler.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import SCALED_OBJECT, minimum, scaled, scales_to_zero, triggers_of


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        least = minimum(manifest)
        if manifest.get("spec", "pollingInterval") is None or least is None or scales_to_zero(manifest):
            continue
        if any(trigger.data.get("useCachedMetrics") is True for trigger in triggers_of(manifest)):
            continue
        yield Problem(
            manifest,
            ("spec", "pollingInterval"),
            f"pollingInterval governs the step from 0: with minReplicaCount {least} the HPA asks, every 15 s",
            hint="behavior.scaleUp, for how quickly it grows",
        )


RULE = Rule(
    "STK-KEDA-014",
    Severity.INFO,
    "pollingInterval does not say how often a running workload is scaled",
    check,
    __name__,
    guide=("S08",),
)

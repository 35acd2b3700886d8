"""The behavior of a ScaledObject is one that no HPA may have.

KEDA hands `behavior` to the HPA as it is. The CRD does not check its numbers, but the HPA's own validation does: a
window of at most 3600 s, a period of 1 to 1800 s, a value over 0, at least one policy. Otherwise KEDA can not make
the HPA, and nothing is scaled.

Symptom: KEDA's log: HorizontalPodAutoscaler is invalid: must be less than or equal to 3600

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      advanced:
        horizontalPodAutoscalerConfig:
          behavior: {scaleDown: {stabilizationWindowSeconds: 7200}}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      advanced:
        horizontalPodAutoscalerConfig:
          behavior: {scaleDown: {stabilizationWindowSeconds: 3600}}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: Kubernetes pkg/apis/autoscaling/validation/validation.go; Kubernetes API reference, HPAScalingRules
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import SCALED_OBJECT, scaled
from stoker.manifests.objects import Manifest, sections, whole
from stoker.spec.faults import Path

LONGEST_WINDOW_S = 3600
LONGEST_PERIOD_S = 1800
MOST = 2**31 - 1


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        for side in ("scaleUp", "scaleDown"):
            path: Path = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", side)
            yield from _outside(manifest, (*path, "stabilizationWindowSeconds"), 0, LONGEST_WINDOW_S)
            policies = manifest.get(*path, "policies")
            if policies == []:
                told = f"{side} has no policy: KEDA can not make the HPA"
                yield Problem(manifest, (*path, "policies"), told, hint="a policy, or no policies for the default ones")
            for i, _ in sections(policies):
                yield from _outside(manifest, (*path, "policies", i, "periodSeconds"), 1, LONGEST_PERIOD_S)
                yield from _outside(manifest, (*path, "policies", i, "value"), 1, MOST)


def _outside(manifest: Manifest, path: Path, least: int, most: int) -> Iterator[Problem]:
    value = whole(manifest.get(*path))
    if value is not None and not least <= value <= most:
        told = f"{path[-1]} {value} is not between {least} and {most}: KEDA can not make the HPA"
        yield Problem(manifest, path, told, hint=str(most if value > most else least))


RULE = Rule(
    "STK-KEDA-046", Severity.ERROR, "The behavior of a ScaledObject is one that no HPA may have", check, __name__
)

"""fallback has no trigger that it could stand in for, or more replicas than allowed.

A fallback takes the place of metrics that KEDA asks for itself. cpu and memory are read by the HPA, which KEDA can
not answer for: with these alone the fallback is refused. And the HPA never goes over `maxReplicaCount`, whatever the
fallback says.

Symptom: at least one trigger has to have the AverageValue type for the fallback to be enabled

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      fallback: {failureThreshold: 3, replicas: 4}
      triggers:
      - type: cpu
        metricType: Utilization
        metadata: {value: "70"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      fallback: {failureThreshold: 3, replicas: 4}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda apis/keda/v1alpha1/scaledobject_types.go; kedacore/keda-docs
  content/docs/2.21/reference/scaledobject-spec.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import OF_PODS, SCALED_OBJECT, maximum, scaled, triggers_of
from stoker.manifests.objects import whole


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        if not isinstance(manifest.get("spec", "fallback"), dict):
            continue
        types = [trigger.type for trigger in triggers_of(manifest) if trigger.type]
        if types and all(each in OF_PODS for each in types):
            told = f"fallback can not stand in for {' and '.join(sorted(set(types)))}: KEDA refuses it"
            yield Problem(manifest, ("spec", "fallback"), told, hint="no fallback", key=True)
        replicas, most = whole(manifest.get("spec", "fallback", "replicas")), maximum(manifest)
        if replicas is not None and most is not None and replicas > most:
            told = f"fallback.replicas {replicas} is over maxReplicaCount {most}, where it ends"
            path = ("spec", "fallback", "replicas")
            yield Problem(manifest, path, told, hint=f"at most {most}", severity=Severity.WARNING)


RULE = Rule(
    "STK-KEDA-031", Severity.ERROR, "fallback stands in for nothing, or has more replicas than allowed", check, __name__
)

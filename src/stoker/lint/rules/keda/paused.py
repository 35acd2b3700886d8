"""An autoscaler is switched off by an annotation.

`autoscaling.keda.sh/paused` and its relatives are meant for a repair. In a manifest they are applied again each time,
and the workload stays as large as it happened to be.

Symptom: nothing is scaled, and the ScaledObject shows PAUSED True

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata:
      name: chat
      annotations: {autoscaling.keda.sh/paused-replicas: "3"}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata:
      name: chat
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/concepts/scaling-deployments.md (pausing autoscaling)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import scaled

_PREFIX = "autoscaling.keda.sh/"
_DOES = {
    "paused": "nothing is scaled",
    "paused-replicas": "it has this many replicas, whatever the load",
    "paused-scale-in": "replicas are never taken away",
    "paused-scale-down": "replicas are never taken away",
    "paused-scale-out": "replicas are never added",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        for name, does in _DOES.items():
            value = manifest.annotations.get(_PREFIX + name)
            if value is not None and value.strip().lower() not in ("false", "f"):
                told = f"{_PREFIX}{name} is on: {does}"
                path = ("metadata", "annotations", _PREFIX + name)
                yield Problem(manifest, path, told, hint="no such annotation once the repair is over", key=True)


RULE = Rule("STK-KEDA-037", Severity.WARNING, "An autoscaler is switched off by an annotation", check, __name__)

"""KEDA has no trigger of this type.

The type of a trigger names one of KEDA's scalers. For a name that it does not have, no scaler is built, the
ScaledObject is not ready, and nothing is scaled by any of its triggers. Add-on scalers are reached by the types
`external` and `external-push`.

Symptom: ScaledObject READY False, event KEDAScalerFailed: no scaler found for type

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-stream
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}

Source: kedacore/keda@v2.20.2 pkg/scaling/scalers_builder.go, schema/generated/scalers-schema.json
"""

from collections.abc import Iterator

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import triggers
from stoker.manifests.objects import is_open


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        if not trigger.type or trigger.known is not None or is_open(trigger.manifest, trigger.type):
            continue
        near = keda.nearest_type(trigger.type)
        yield Problem(
            trigger.manifest,
            trigger.at("type"),
            f"KEDA {keda.VERSION} has no trigger of type {trigger.type}, so nothing is scaled",
            hint=f"type: {near}" if near else "a type that KEDA has; another's scaler is of type external",
        )


RULE = Rule("STK-KEDA-001", Severity.ERROR, "KEDA has no trigger of this type", check, __name__)

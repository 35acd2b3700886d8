"""A parameter of a trigger has ended, or will.

KEDA refuses to build a scaler that has a parameter whose time is over, and names the one that took its place. For
others it announces the end.

Symptom: KEDAScalerFailed: parameter is deprecated

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: cpu
        metadata: {type: Utilization, value: "70"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: cpu
        metricType: Utilization
        metadata: {value: "70"}

Source: kedacore/keda@v2.20.2 schema/generated/scalers-schema.json, pkg/scalers/scalersconfig/typed_config.go
"""

from collections.abc import Iterator

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, triggers
from stoker.manifests.edits import Add, Edit, Remove


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        for name in trigger.metadata:
            parameter = trigger.known.parameters.get(name) if trigger.known else None
            if parameter is None:
                continue
            path = trigger.at("metadata", name)
            if parameter.deprecated:
                yield Problem(
                    trigger.manifest,
                    path,
                    f"KEDA {keda.VERSION} refuses {name} of {trigger.type}: the scaler can not be built",
                    hint=_instead(parameter.deprecated),
                    key=True,
                    edits=_edits(trigger, name),
                )
            elif parameter.announced:
                told = f"{trigger.type} is to be removed from KEDA, or its {name} is"
                yield Problem(
                    trigger.manifest,
                    path,
                    told,
                    hint=_instead(parameter.announced),
                    key=True,
                    severity=Severity.WARNING,
                )


def _instead(words: str) -> str:
    """The last part of what KEDA says: what to use."""
    return words.rpartition(" - ")[2].rpartition("-> ")[2].strip(" '")


def _edits(trigger: Trigger, name: str) -> tuple[Edit, ...]:
    """`type` of cpu and memory is what `metricType` is now, word for word."""
    if name == "type" and trigger.type in ("cpu", "memory") and "metricType" not in trigger.data:
        return Add(trigger.at("metricType"), trigger.metadata[name]), Remove(trigger.at("metadata", name))
    return ()


RULE = Rule("STK-KEDA-021", Severity.ERROR, "A parameter of a trigger has ended, or will", check, __name__)

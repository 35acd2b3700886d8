"""A workload is to go to zero by cpu or memory alone.

With no replica there is no CPU to measure, so nothing could wake the workload. With these triggers alone KEDA takes
it for always active, never goes to zero, and its webhook refuses a `minReplicaCount` of 0, which is also what it is
when left out.

Symptom: scaledobject has only cpu/memory triggers AND minReplica is 0

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
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
      triggers:
      - type: cpu
        metricType: Utilization
        metadata: {value: "70"}

Source: kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go; kedacore/keda-docs content/docs/2.21/scalers/cpu.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import OF_PODS, SCALED_OBJECT, minimum, scaled, triggers_of


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        types = [trigger.type for trigger in triggers_of(manifest)]
        if types and all(each in OF_PODS for each in types) and minimum(manifest) == 0:
            is_written = manifest.get("spec", "minReplicaCount") is not None
            yield Problem(
                manifest,
                ("spec", "minReplicaCount"),
                f"minReplicaCount {'is' if is_written else 'is not written, which means'} 0, and by "
                f"{' and '.join(sorted(set(types)))} alone nothing goes to zero: KEDA refuses it",
                hint="minReplicaCount: 1",
            )


RULE = Rule("STK-KEDA-033", Severity.ERROR, "A workload is to go to zero by cpu or memory alone", check, __name__)

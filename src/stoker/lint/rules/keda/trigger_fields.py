"""A trigger has a name, a metricType or a useCachedMetrics that KEDA refuses.

Names of triggers are unique. `Utilization` is for cpu and memory alone, which in turn know no `Value`.
`useCachedMetrics` is not for cpu, memory and cron, which are not asked by KEDA's check.

Symptom: triggerName is defined multiple times in the ScaledObject
Symptom: metric type is Utilization, but it needs to be AverageValue or Value for external metrics

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metricType: Utilization
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metricType: AverageValue
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda apis/keda/v1alpha1/scaletriggers_types.go; kedacore/keda@v2.20.2 pkg/scalers/scaler.go,
  pkg/scalers/cpu_memory_scaler.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import OF_PODS, scaled, triggers_of


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        seen: set[str] = set()
        for trigger in triggers_of(manifest):
            if trigger.name and trigger.name in seen:
                told = f"two triggers are named {trigger.name}: KEDA refuses it"
                yield Problem(manifest, trigger.at("name"), told, hint="another name, or none")
            seen.add(trigger.name)
            if trigger.data.get("useCachedMetrics") is True and trigger.type in (*OF_PODS, "cron"):
                told = f"useCachedMetrics is not for {trigger.type}: KEDA refuses it"
                yield Problem(manifest, trigger.at("useCachedMetrics"), told, hint="no useCachedMetrics", key=True)
            if trigger.type in OF_PODS and trigger.metric_type == "Value":
                told = f"metricType Value is not for {trigger.type}: the scaler can not be built"
                yield Problem(manifest, trigger.at("metricType"), told, hint="Utilization or AverageValue")
            if trigger.type not in OF_PODS and trigger.metric_type == "Utilization":
                told = f"metricType Utilization is for cpu and memory, and not for {trigger.type}: no scaler is built"
                yield Problem(manifest, trigger.at("metricType"), told, hint="AverageValue or Value")


RULE = Rule("STK-KEDA-044", Severity.ERROR, "A trigger has a name or a metricType that KEDA refuses", check, __name__)

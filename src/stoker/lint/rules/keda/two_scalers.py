"""Two autoscalers scale one workload.

Each sets the number of replicas that it thinks right, and undoes what the other has done. KEDA's webhook refuses a
ScaledObject whose target another ScaledObject or a foreign HPA scales. Two HPAs over the same pods both stop with
AmbiguousSelector.

Symptom: the workload is already managed by the hpa
Symptom: the number of replicas swings between two values

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}
    ---
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 10
      metrics:
      - type: Resource
        resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      maxReplicaCount: 10
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}
      - type: cpu
        metricType: Utilization
        metadata: {value: "70"}

Source: kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go; Kubernetes
  pkg/controller/podautoscaler/horizontal.go
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import HPA, SCALED_OBJECT, target_of
from stoker.manifests.objects import Manifest, is_open

TRANSFER = "scaledobject.keda.sh/transfer-hpa-ownership"
NOT_OWNED = "validations.keda.sh/hpa-ownership"


def check(cluster: Cluster) -> Iterator[Problem]:
    first: dict[tuple[str, str, str, str], list[Manifest]] = defaultdict(list)
    for scaler in (*cluster.of(HPA, group="autoscaling"), *cluster.of(SCALED_OBJECT, group="keda.sh")):
        kind, name = target_of(scaler)
        if not kind or not name or is_open(scaler, name):
            continue
        same = first[(kind, name, scaler.namespace, str(id(scaler.inside) if scaler.inside else ""))]
        other = next((each for each in same if not _may_share(each, scaler)), None)
        same.append(scaler)
        if other is not None:
            yield Problem(
                scaler,
                ("spec", "scaleTargetRef", "name"),
                f"{kind} {name} is already scaled by {other}: {_does(other, scaler)}",
                hint="one autoscaler with the triggers of both",
            )


def _may_share(one: Manifest, other: Manifest) -> bool:
    """The same object written twice, or an HPA that KEDA is told to take over or to leave alone."""
    if one.kind == other.kind:
        return one.name == other.name
    hpa, scaled = (one, other) if one.kind == HPA else (other, one)
    return (
        hpa.annotations.get(NOT_OWNED) == "false"
        or scaled.annotations.get(TRANSFER) == "true"
        or hpa.name == f"keda-hpa-{scaled.name}"
    )


def _does(one: Manifest, other: Manifest) -> str:
    return "neither of the two does anything" if one.kind == other.kind == HPA else "KEDA refuses this one"


RULE = Rule("STK-KEDA-025", Severity.ERROR, "Two autoscalers scale one workload", check, __name__)

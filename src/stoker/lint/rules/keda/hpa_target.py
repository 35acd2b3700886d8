"""An HPA does not say what kind of thing it scales.

`scaleTargetRef` needs `kind` and `name`; the API server refuses it otherwise. Without `apiVersion` the kind is looked
for in the core group, where there is no Deployment.

Symptom: spec.scaleTargetRef.kind: Required value
Symptom: FailedGetScale: no matches for kind "Deployment" in group ""

Wrong:

    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      maxReplicas: 5
      metrics:
      - type: Pods
        pods: {metric: {name: waiting_requests}, target: {type: AverageValue, averageValue: "8"}}

Right:

    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 5
      metrics:
      - type: Pods
        pods: {metric: {name: waiting_requests}, target: {type: AverageValue, averageValue: "8"}}

Source: Kubernetes API reference, CrossVersionObjectReference; Kubernetes pkg/controller/podautoscaler/horizontal.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import HPA, scaled_workload, target_of
from stoker.manifests.edits import Add

OF_APPS = ("Deployment", "StatefulSet", "ReplicaSet")
PATH = ("spec", "scaleTargetRef")


def check(cluster: Cluster) -> Iterator[Problem]:
    for hpa in cluster.of(HPA, group="autoscaling"):
        ref = hpa.get(*PATH)
        if not isinstance(ref, dict):
            continue
        kind, _ = target_of(hpa)
        workload = scaled_workload(cluster, hpa)
        if ref.get("kind") in (None, ""):
            kind = workload.kind if workload else ""
            yield Problem(
                hpa,
                (*PATH, "kind"),
                "scaleTargetRef has no kind: the HPA does not know what to scale",
                hint=f"kind: {kind or 'Deployment'}",
                edits=(Add((*PATH, "kind"), kind),) if kind and "kind" not in ref else (),
            )
        if ref.get("apiVersion") in (None, "") and (kind in OF_APPS or not kind):
            yield Problem(
                hpa,
                (*PATH, "apiVersion"),
                f"scaleTargetRef has no apiVersion: {kind or 'the kind'} is looked for in the core group and not found",
                hint="apiVersion: apps/v1",
                edits=(Add((*PATH, "apiVersion"), "apps/v1"),) if kind in OF_APPS and "apiVersion" not in ref else (),
            )


RULE = Rule(
    "STK-KEDA-040", Severity.ERROR, "An HPA does not say what kind of thing it scales", check, __name__, guide=("E24",)
)

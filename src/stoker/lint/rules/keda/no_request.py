"""CPU or memory is measured against a request that is not there.

A utilisation is usage divided by request. When one container of the pod has no request (nor a limit, which then is
the request), the HPA can not compute it and does nothing. An HPA without `metrics` measures 80 % of the CPU request.
KEDA refuses such a trigger, unless a LimitRange gives the request.

Symptom: HPA TARGETS shows unknown; FailedGetResourceMetric: missing request for cpu

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1", resources: {requests: {memory: 1Gi}}}]
    ---
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 5

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1", resources: {requests: {memory: 1Gi, cpu: 500m}}}]
    ---
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 5
      metrics:
      - type: Resource
        resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}

Source: Kubernetes documentation, Horizontal Pod Autoscaling (algorithm details); kedacore/keda
  apis/keda/v1alpha1/scaledobject_webhook.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import HPA, OF_PODS, SCALED_OBJECT, scaled, scaled_workload, text, triggers_of
from stoker.manifests.objects import Manifest, look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

Measured = tuple[Path, str, str]
"""Where it is said, which resource, and of which container alone; empty: of all."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for scaler in (*scaled(cluster, SCALED_OBJECT), *cluster.of(HPA, group="autoscaling")):
        workload = scaled_workload(cluster, scaler)
        if workload is None:
            continue
        for path, resource, only in _measured(scaler):
            without = _without(cluster, workload, resource, only)
            if without:
                default = " (80 % of the CPU request, as there are no metrics)" if path == ("spec", "metrics") else ""
                yield Problem(
                    scaler,
                    path,
                    f"container {without} of {workload} has no {resource} request{default}: it never scales",
                    hint=f"resources.requests.{resource} there"
                    + (", and the metrics that are meant" if default else ""),
                )


def _measured(scaler: Manifest) -> Iterator[Measured]:
    if scaler.kind == SCALED_OBJECT:
        for trigger in triggers_of(scaler):
            if trigger.type in OF_PODS and trigger.metric_type != "AverageValue":
                yield trigger.at("type"), trigger.type, trigger.metadata.get("containerName", "")
        return
    if scaler.version == "v1":
        yield ("spec", "targetCPUUtilizationPercentage"), "cpu", ""
        return
    metrics = scaler.get("spec", "metrics")
    if not metrics and scaler.version.startswith("v2"):
        yield ("spec", "metrics"), "cpu", ""
    for i, metric in sections(metrics):
        for key in ("resource", "containerResource"):
            if look(metric, key, "target", "type") == "Utilization":
                path = ("spec", "metrics", i, key, "name")
                yield path, text(look(metric, key, "name")), text(look(metric, key, "container"))


def _without(cluster: Cluster, workload: Workload, resource: str, only: str) -> str:
    if resource not in OF_PODS or _is_given_by_range(cluster, workload, resource):
        return ""
    for _, container in workload.containers():
        name = text(container.get("name"))
        if only and name != only:
            continue
        parts = (look(container, "resources", part, resource) for part in ("requests", "limits"))
        if all(each is None for each in parts):
            return name or "without a name"
    return ""


def _is_given_by_range(cluster: Cluster, workload: Workload, resource: str) -> bool:
    for each in cluster.of("LimitRange"):
        if each.namespace in ("", workload.namespace) or not workload.manifest.namespace:
            for _, limit in sections(each.get("spec", "limits")):
                if any(look(limit, part, resource) is not None for part in ("defaultRequest", "default")):
                    return True
    return False


RULE = Rule(
    "STK-KEDA-032",
    Severity.WARNING,
    "CPU or memory is measured against a request that is not there",
    check,
    __name__,
    guide=("E24",),
)

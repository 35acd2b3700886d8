"""An HPA without metrics scales by 80 % of the CPU request.

That is what the API server writes into it. It may be what is meant; for pods that work on a GPU it is not: their CPU
waits while the GPU is full.

Symptom: requests queue up, and the HPA shows cpu: 12%/80%

Wrong:

    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 5

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

Source: Kubernetes API reference, HorizontalPodAutoscalerSpec v2 (metrics)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda import no_request
from stoker.lint.rules.keda._views import HPA, has_gpu, scaled_workload


def check(cluster: Cluster) -> Iterator[Problem]:
    worse = {id(problem.manifest) for problem in no_request.check(cluster)}
    for hpa in cluster.of(HPA, group="autoscaling"):
        if not hpa.version.startswith("v2") or hpa.get("spec", "metrics") or id(hpa) in worse:
            continue
        workload = scaled_workload(cluster, hpa)
        is_of_gpu = workload is not None and has_gpu(workload)
        yield Problem(
            hpa,
            ("spec", "metrics"),
            "no metrics: it scales by 80 % of the CPU request"
            + (f", which says nothing about the GPU of {workload}" if is_of_gpu else ""),
            hint="the metrics that are meant",
            severity=Severity.WARNING if is_of_gpu else None,
        )


RULE = Rule("STK-KEDA-039", Severity.INFO, "An HPA without metrics scales by 80 % of the CPU request", check, __name__)

"""A GPU workload may grow to 100 replicas.

`maxReplicaCount` is 100 where it is not written. A burst of tasks, or a wrong target, then asks for 100 GPUs, and
Karpenter buys them up to the limits of its pools.

Symptom: one night with a hundred GPU nodes on the bill

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1", resources: {limits: {nvidia.com/gpu: 1}}}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1", resources: {limits: {nvidia.com/gpu: 1}}}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      maxReplicaCount: 8
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md (maxReplicaCount)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import MAX_REPLICAS, has_gpu, scaled, scaled_workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        workload = scaled_workload(cluster, manifest)
        if workload is None or not has_gpu(workload) or manifest.get("spec", "maxReplicaCount") is not None:
            continue
        yield Problem(
            manifest,
            ("spec", "maxReplicaCount"),
            f"no maxReplicaCount: it is {MAX_REPLICAS}, and each replica of {workload} takes a GPU",
            hint="maxReplicaCount: as many as there may be GPUs",
        )


RULE = Rule("STK-KEDA-036", Severity.WARNING, "A GPU workload may grow to 100 replicas", check, __name__)

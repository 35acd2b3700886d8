"""An agent for GPU nodes is selected by how a node is bought.

`karpenter.sh/capacity-type` says spot or on-demand; it says nothing of GPUs. An exporter or a device plugin that
selects one of them is missing on the GPU nodes of the other kind, and runs on nodes without GPUs. GPU feature
discovery labels every node that has one.

Symptom: dashboards show a few GPUs, and those of spot nodes never
Symptom: dcgm-exporter crashes on nodes without a GPU

Wrong:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics, namespace: watch}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          nodeSelector: {karpenter.sh/capacity-type: on-demand}
          containers:
          - {name: exporter, image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"}

Right:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics, namespace: watch}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          nodeSelector: {nvidia.com/gpu.present: "true"}
          containers:
          - {name: exporter, image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"}

Source: NVIDIA/k8s-device-plugin@v0.17.1 docs/gpu-feature-discovery/README.md (labels)
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/scheduling.md (well-known labels)
"""

from collections.abc import Iterator

from stoker.catalog.labels import CAPACITY_TYPE
from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu._views import agents
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_LABELS = (CAPACITY_TYPE, "eks.amazonaws.com/capacityType")
_TERMS = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in agents(cluster):
        for path, wanted in _selected(workload):
            # Where GPU nodes are bought in this way only, it loses none.
            bought = {each for pool in pools(cluster).all if pool.gpu_types for each in pool.view.capacity_types or "?"}
            if bought and bought <= set(wanted):
                continue
            yield Problem(
                workload.manifest,
                path,
                f"selects nodes by how they are bought ({' or '.join(wanted)}), so other nodes with GPUs have no agent",
                hint='nodeSelector: {nvidia.com/gpu.present: "true"}',
            )


def _selected(workload: Workload) -> Iterator[tuple[Path, list[str]]]:
    for label in _LABELS:
        value = look(workload.spec, "nodeSelector", label)
        if isinstance(value, str):
            yield (*workload.path, "nodeSelector", label), [value]
    for i, term in sections(look(workload.spec, *_TERMS)):
        for j, line in sections(term.get("matchExpressions")):
            values = line.get("values")
            if line.get("key") in _LABELS and line.get("operator") == "In" and isinstance(values, list):
                path: Path = (*workload.path, *_TERMS, i, "matchExpressions", j)
                yield path, [str(each) for each in values]


RULE = Rule(
    "STK-GPU-001",
    Severity.WARNING,
    "An agent for GPU nodes is selected by how a node is bought",
    check,
    __name__,
    guide=("S01",),
)

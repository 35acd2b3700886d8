"""A second exporter of GPU metrics.

The CloudWatch observability add-on runs a dcgm-exporter of its own, and so does NVIDIA's GPU operator. One more on
the same nodes measures everything twice, doubles every sum over GPUs, and profiling metrics can be read by one
process only.

Symptom: the number of GPUs, or their power, is twice what it is
Symptom: dcgm-exporter logs "Profiling module returned an error: in use"

Wrong:

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
    ---
    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Addon
    metadata: {name: observability, namespace: watch}
    spec:
      name: amazon-cloudwatch-observability
      clusterName: atelier

Right:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Addon
    metadata: {name: observability, namespace: watch}
    spec:
      name: amazon-cloudwatch-observability
      clusterName: atelier

Source: aws-observability/helm-charts@main charts/amazon-cloudwatch-observability/values.yaml (dcgmExporter)
Source: NVIDIA/gpu-operator@v25.3.0 deployments/gpu-operator/values.yaml (dcgmExporter)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu._views import exporters
from stoker.manifests.workloads import Workload

_CLOUDWATCH = "amazon-cloudwatch-observability"


def check(cluster: Cluster) -> Iterator[Problem]:
    others = list(_others(cluster))
    seen: list[Workload] = []
    for workload, path, _ in exporters(cluster):
        first = next((each for each in seen if each.manifest.name != workload.manifest.name), None)
        other = others[0] if others else (f"{first}" if first is not None and _share_nodes(first, workload) else "")
        if other:
            yield Problem(
                workload.manifest,
                (*path, "image"),
                f"{other} runs a dcgm-exporter already, so each GPU is measured and counted twice",
                hint="one of the two: leave this out, or switch that one's dcgmExporter off",
            )
        seen.append(workload)


def _others(cluster: Cluster) -> Iterator[str]:
    for addon in cluster.of("Addon", group="eks.services.k8s.aws"):
        off = "dcgmexporter" in str(addon.get("spec", "configurationValues", default="")).lower()
        if addon.get("spec", "name") == _CLOUDWATCH and not off:
            yield f"the add-on {_CLOUDWATCH}"
    for policy in cluster.of("ClusterPolicy", group="nvidia.com"):
        if policy.get("spec", "dcgmExporter", "enabled", default=True) is True:
            yield f"the GPU operator ({policy})"
    for application in cluster.of("Application", group="argoproj.io"):
        helm = str(application.get("spec", "source", "helm", default="")).lower()
        chart = application.get("spec", "source", "chart")
        if chart in ("gpu-operator", "dcgm-exporter", _CLOUDWATCH) and "dcgmexporter" not in helm:
            yield f"the chart {chart} ({application})"


def _share_nodes(a: Workload, b: Workload) -> bool:
    """Two exporters with different node selectors are taken to be for different nodes."""
    return bool(a.spec.get("nodeSelector") == b.spec.get("nodeSelector"))


RULE = Rule("STK-GPU-002", Severity.WARNING, "A second exporter of GPU metrics", check, __name__, guide=("S02",))

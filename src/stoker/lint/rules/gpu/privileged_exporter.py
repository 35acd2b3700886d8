"""A GPU exporter is privileged, and needs not be.

dcgm-exporter reads through the driver; for profiling metrics it needs the capability SYS_ADMIN, and for the names of
pods the kubelet's socket. A privileged container can do everything that root of the node can.

Symptom: a policy for pods refuses the exporter

Wrong:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics, namespace: watch}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          containers:
          - name: exporter
            image: nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04
            securityContext: {privileged: true}

Right:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics, namespace: watch}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          containers:
          - name: exporter
            image: nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04
            securityContext: {capabilities: {add: [SYS_ADMIN]}}

Source: NVIDIA/dcgm-exporter@4.2.3-4.1.3 dcgm-exporter.yaml
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu._views import exporters
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in exporters(cluster):
        if look(container, "securityContext", "privileged") is True:
            yield Problem(
                workload.manifest,
                (*path, "securityContext", "privileged"),
                "the exporter is root of the node; SYS_ADMIN is enough for all of its metrics",
                hint="securityContext: {capabilities: {add: [SYS_ADMIN]}}",
            )


RULE = Rule("STK-GPU-015", Severity.INFO, "A GPU exporter is privileged, and needs not be", check, __name__)

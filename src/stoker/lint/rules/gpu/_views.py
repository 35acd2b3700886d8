"""Which workloads are about GPUs: those that watch nodes, and those that serve models."""

import re
from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.containers import image
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_EXPORTERS = ("dcgm-exporter", "nvidia_gpu_exporter", "nvidia-gpu-exporter")
_AGENTS = (*_EXPORTERS, "k8s-device-plugin", "gpu-feature-discovery", "k8s-mig-manager")
_SERVERS = ("vllm/vllm-openai", "lmsysorg/sglang", "huggingface/text-generation-inference", "nvcr.io/nim/")
_OTHER_DEVICE = re.compile(r"cpu|neuron|tpu|rocm|xpu|hpu|gaudi")


def agents(cluster: Cluster) -> Iterator[Workload]:
    """The DaemonSets that have to be on every node with GPUs."""
    for workload in cluster.workloads_like(("DaemonSet",)):
        if any(part in image(each) for _, each in workload.containers() for part in _AGENTS):
            yield workload


def exporters(cluster: Cluster) -> Iterator[tuple[Workload, Path, dict[str, Any]]]:
    """The containers of DaemonSets that publish DCGM's metrics."""
    for workload in cluster.workloads_like(("DaemonSet",)):
        for path, container in workload.containers():
            if any(part in image(container) for part in _EXPORTERS):
                yield workload, path, container


def servers(cluster: Cluster) -> Iterator[tuple[Workload, Path, dict[str, Any]]]:
    """The containers whose image serves models on NVIDIA GPUs."""
    for workload in cluster.workloads:
        for path, container in workload.containers():
            name = image(container)
            if any(part in name for part in _SERVERS) and not _OTHER_DEVICE.search(name):
                yield workload, path, container


def is_vllm(container: dict[str, Any]) -> bool:
    return "vllm/vllm-openai" in image(container)

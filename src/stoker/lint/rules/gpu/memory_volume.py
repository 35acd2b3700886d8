"""A volume in memory is as large as the memory of its container, or has no limit.

What is written to an `emptyDir` with `medium: Memory` counts as memory of the container that writes it. If the volume
may be as large as the memory limit, the container is killed before the volume is full. Without `sizeLimit` it may
grow to the limit of the pod, or to half of the node's memory.

Symptom: OOMKilled while the program itself uses little

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 1, memory: 16Gi}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes:
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: 16Gi}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 1, memory: 32Gi}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes:
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: 8Gi}

Source: Kubernetes documentation, concepts/storage/volumes (emptyDir)
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import amounts
from stoker.manifests.objects import is_open, look, sections
from stoker.manifests.quantities import format_bytes
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for i, volume in sections(workload.spec.get("volumes")):
            if look(volume, "emptyDir", "medium") != "Memory":
                continue
            written = look(volume, "emptyDir", "sizeLimit")
            path: Path = (*workload.path, "volumes", i, "emptyDir", "sizeLimit")
            size = amounts({"memory": written}).get("memory")
            limits = _limits(workload, volume.get("name"))
            if written is None:
                yield Problem(
                    workload.manifest,
                    path,
                    "a volume in memory without sizeLimit may fill the pod's memory, or half of the node's",
                    hint="sizeLimit: 8Gi, below the memory limit",
                    severity=Severity.INFO,
                )
            elif size and limits and size >= max(limits) and not is_open(workload.manifest, written):
                yield Problem(
                    workload.manifest,
                    path,
                    f"the volume may hold {written} and its container {format_bytes(max(limits))} of memory: "
                    "the container is killed before the volume is full",
                    hint="a sizeLimit well below the memory limit",
                )


def _limits(workload: Workload, name: Any) -> list[int]:
    """The memory limits of the containers that mount a volume; none where one of them has no limit."""
    found = []
    for _, container in workload.containers(init=True):
        if any(mount.get("name") == name for _, mount in sections(container.get("volumeMounts"))):
            limit = amounts(look(container, "resources", "limits")).get("memory")
            if limit is None:
                return []
            found.append(limit)
    return found


RULE = Rule(
    "STK-GPU-013", Severity.WARNING, "A volume in memory is as large as its container's memory", check, __name__
)

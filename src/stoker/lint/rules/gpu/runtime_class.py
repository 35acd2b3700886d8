"""A runtime class for GPUs is named, and is not in sight.

`runtimeClassName: nvidia` needs a RuntimeClass of that name; NVIDIA's operator makes one, and so does its device
plugin's chart when told to. On EKS's own images the NVIDIA runtime is the default, and no class is needed. Without
the class the pod is refused.

Symptom: "pod rejected: RuntimeClass \"nvidia\" not found"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      runtimeClassName: nvidia
      containers: [{name: server, image: "example.com/chat:v1"}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      runtimeClassName: nvidia
      containers: [{name: server, image: "example.com/chat:v1"}]
    ---
    apiVersion: node.k8s.io/v1
    kind: RuntimeClass
    metadata: {name: nvidia}
    handler: nvidia

Source: Kubernetes documentation, concepts/containers/runtime-class
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    if any(cluster.of("ClusterPolicy", group="nvidia.com")):
        return
    for workload in cluster.workloads:
        name = workload.spec.get("runtimeClassName")
        if isinstance(name, str) and name.startswith("nvidia") and not cluster.exists("RuntimeClass", name):
            yield Problem(
                workload.manifest,
                (*workload.path, "runtimeClassName"),
                f"no RuntimeClass {name} in sight: without it the pod is refused",
                hint="the class of NVIDIA's operator, or leave it out on EKS images, where it is the default runtime",
            )


RULE = Rule("STK-GPU-017", Severity.INFO, "A runtime class for GPUs is not in sight", check, __name__)

"""A part of a GPU is asked for.

Devices are counted in whole numbers. To share one, the device plugin has to be told: time-slicing and MPS make one
GPU look like several, MIG divides it in hardware. Each pod then asks for one of those.

Symptom: "must be an integer"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 500m}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Source: Kubernetes documentation, concepts/configuration/manage-resources-containers (extended resources)
Source: NVIDIA/k8s-device-plugin@v0.17.1 README.md (shared access to GPUs)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu.request_without_limit import DEVICES
from stoker.manifests.objects import look
from stoker.manifests.quantities import parse
from stoker.spec.faults import shown


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            for part in ("limits", "requests"):
                tree = look(container, "resources", part)
                for name, value in tree.items() if isinstance(tree, dict) else ():
                    if isinstance(name, str) and name.startswith(DEVICES) and _is_part(value):
                        yield Problem(
                            workload.manifest,
                            (*path, "resources", part, name),
                            f"{name}: {shown(value)} is no whole number, and devices are counted",
                            hint="a whole number; GPUs are shared by the device plugin: time-slicing, MPS or MIG",
                        )


def _is_part(value: object) -> bool:
    try:
        return not isinstance(parse(value), int)
    except ValueError:
        return False


RULE = Rule("STK-GPU-007", Severity.ERROR, "A part of a GPU is asked for", check, __name__)

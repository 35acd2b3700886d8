"""A share of a GPU is asked for in a way that does not give it.

The device plugin offers `nvidia.com/gpu.shared` for time-slicing and MPS, and `nvidia.com/mig-1g.10gb` and the like
for MIG. Two shares are not twice the GPU: with MPS the request is refused, with time-slicing it gives the same GPU. A
MIG profile that is not spelt as the plugin spells it, or that no GPU of the pools can make, is never offered.

Symptom: "Insufficient nvidia.com/mig-1g.5g"
Symptom: UnexpectedAdmissionError, with "maximum request size for shared resources is 1"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: embed}
    spec:
      containers:
      - name: server
        image: example.com/embed:v1
        resources: {limits: {nvidia.com/gpu.shared: 2}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: embed}
    spec:
      containers:
      - name: server
        image: example.com/embed:v1
        resources: {limits: {nvidia.com/gpu.shared: 1}}

Source: NVIDIA/k8s-device-plugin@v0.17.1 README.md (shared access to GPUs, MIG strategy)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import container_requests
from stoker.manifests.objects import look
from stoker.manifests.workloads import Workload

_SHARED = "nvidia.com/gpu.shared"
_MIG = "nvidia.com/mig-"
_PROFILE = re.compile(r"(\d+c\.)?\d+g\.\d+gb(\.me(\.all)?|\.gfx|\.shared)?(\.shared)?")
_WITH_MIG = frozenset({"a100", "h100", "h200", "b200", "b300", "rtx-pro-server-6000"})


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            asked = container_requests(container)
            for name, amount in asked.items():
                message, hint = _fault(cluster, workload, name, amount, asked)
                if message:
                    part = "limits" if look(container, "resources", "limits", name) is not None else "requests"
                    yield Problem(workload.manifest, (*path, "resources", part, name), message, hint=hint)


def _fault(cluster: Cluster, workload: Workload, name: str, amount: int, asked: dict[str, int]) -> tuple[str, str]:
    if not name.startswith((_SHARED, _MIG)):
        return "", ""
    if asked.get("nvidia.com/gpu"):
        return f"{name} beside nvidia.com/gpu: no node offers a GPU both whole and shared", "one of the two"
    if name == _SHARED:
        message = f"{amount} shares are no larger part of a GPU: MPS refuses them, time-slicing gives the same one"
        return (message, f"{_SHARED}: 1") if amount > 1 else ("", "")
    if not _PROFILE.fullmatch(name.removeprefix(_MIG)):
        return f"{name} is no MIG profile, so no node ever offers it", "such as nvidia.com/mig-1g.10gb"
    models = {each.gpu_name for pool in pools(cluster).of(workload) for each in pool.gpu_types}
    if models and not models & _WITH_MIG:
        return (
            f"no GPU of the pools in sight ({', '.join(sorted(models))}) can be divided by MIG",
            "A100, H100 or later",
        )
    return "", ""


RULE = Rule("STK-GPU-014", Severity.WARNING, "A share of a GPU is asked for in a way that gives none", check, __name__)

"""GPUs of one node are told not to talk directly.

`NCCL_P2P_DISABLE=1` sends what one GPU has for its neighbour through the memory of the host, past NVLink, and
`NCCL_SHM_DISABLE=1` even through the network. They are for finding faults. On types with NVLink (p3, p4, p5, p6) they
cost most of the bandwidth; on others, less.

Symptom: all-reduce in one node at PCIe's speed or below

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: NCCL_P2P_DISABLE, value: "1"}]
        resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi}}

Source: NVIDIA NCCL user guide, environment variables (NCCL_P2P_DISABLE, NCCL_SHM_DISABLE)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment, gpus
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity

_NAMES = ("NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE")
_NVLINK = frozenset({"v100", "a100", "h100", "h200", "b200", "b300"})


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers():
            if gpus(container) < 2:
                continue
            known = environment(container)
            for name in _NAMES:
                i, value = known.get(name, (0, None))
                if value != "1":
                    continue
                models = {each.gpu_name for each in pools(cluster).types_of(workload)}
                slower = bool(models) and not models & _NVLINK
                yield Problem(
                    workload.manifest,
                    (*path, "env", i, "value"),
                    f"{name}=1 sends what goes between the {gpus(container)} GPUs through the host",
                    hint=f"leave {name} out",
                    severity=Severity.INFO if slower else None,
                )


RULE = Rule("STK-TRAINING-007", Severity.WARNING, "GPUs of one node are told not to talk directly", check, __name__)

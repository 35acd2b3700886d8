"""NCCL is told not to use the fast network.

`NCCL_IB_DISABLE=1` keeps NCCL from InfiniBand and RoCE, and `NCCL_NET=Socket` from every plugin: what is left is TCP.
On EFA the aws-ofi-nccl plugin does the work, and the first variable is of no use at best; where the plugin is missing
it makes sure that nobody notices.

Symptom: NCCL logs "NET/Socket" where "NET/OFI" should stand
Symptom: all-reduce over nodes at a few GB/s

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: NCCL_IB_DISABLE, value: "1"}]
        resources:
          limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4, hugepages-2Mi: 5120Mi}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: NCCL_DEBUG, value: INFO}]
        resources:
          limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4, hugepages-2Mi: 5120Mi}

Source: NVIDIA NCCL user guide, environment variables (NCCL_IB_DISABLE, NCCL_NET)
Source: aws/aws-ofi-nccl@v1.14.0 README.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment
from stoker.lint.pools import EFA
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import nccl_of_nodes, requests_device, trains_over_nodes

_OFF = {("NCCL_IB_DISABLE", "1"), ("NCCL_NET", "Socket"), ("NCCL_NET_PLUGIN", "none")}


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if not requests_device(workload, EFA) and not trains_over_nodes(cluster, workload):
            continue
        for path, container in workload.containers():
            for name, (i, value) in environment(container).items():
                if isinstance(value, str) and (name, value) in _OFF:
                    yield Problem(workload.manifest, (*path, "env", i, "value"), *_said(name, value))
    for manifest, set_there in nccl_of_nodes(cluster):
        for name, value in set_there.items():
            if (name, value) in _OFF:
                yield Problem(manifest, ("spec", "userData"), *_said(name, value))


def _said(name: str, value: str) -> tuple[str, str]:
    message = f"{name}={value} keeps NCCL off the fast network: what goes between nodes goes over TCP"
    return message, f"leave {name} out; the log then says NET/OFI"


RULE = Rule(
    "STK-TRAINING-005",
    Severity.WARNING,
    "NCCL is told not to use the fast network",
    check,
    __name__,
    guide=("S19",),
)

"""NCCL is told to use an interface that the node does not have.

In a pod the VPC CNI names the interface eth0. On the host it is ens5, enp39s0 and the like since AL2023, so `eth0` in
user data or in a pod with `hostNetwork` matches nothing. On types with several network cards one name also leaves the
other cards out. `^docker,lo,veth` says what not to use instead.

Symptom: "Bootstrap : no socket interface found"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      hostNetwork: true
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: NCCL_SOCKET_IFNAME, value: eth0}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      hostNetwork: true
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: NCCL_SOCKET_IFNAME, value: "^docker,lo,veth"}]

Source: NVIDIA NCCL user guide, environment variables (NCCL_SOCKET_IFNAME)
Source: awsdocs/amazon-linux-2023-user-guide@main (network interface names)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import nccl_of_nodes

_NAMES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
_OLD = re.compile(r"=?eth\d+(,eth\d+)*")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if workload.spec.get("hostNetwork") is not True:
            continue
        for path, container in workload.containers():
            for name, (i, value) in environment(container).items():
                if name in _NAMES and isinstance(value, str) and _OLD.fullmatch(value):
                    yield Problem(workload.manifest, (*path, "env", i, "value"), *_said(name, value))
    for manifest, set_there in nccl_of_nodes(cluster):
        for name, value in set_there.items():
            if name in _NAMES and _OLD.fullmatch(value):
                yield Problem(manifest, ("spec", "userData"), *_said(name, value))


def _said(name: str, value: str) -> tuple[str, str]:
    message = f"{name}={value}, and the host's interfaces are ens5 and the like since AL2023: none is found"
    return message, f"leave {name} out, or ^docker,lo,veth"


RULE = Rule(
    "STK-TRAINING-006",
    Severity.WARNING,
    "NCCL is told to use an interface that is not there",
    check,
    __name__,
    ("S19",),
)

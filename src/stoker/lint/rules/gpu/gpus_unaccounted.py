"""A container takes all GPUs of its node without asking for one.

`NVIDIA_VISIBLE_DEVICES=all` gives a container every GPU of the node, past the scheduler: others that have been
promised a GPU share theirs with it. Where the runtime is told not to listen to the variable, the container has no GPU
at all.

Symptom: CUDA out of memory in a pod that has a GPU to itself
Symptom: nvidia-smi in a pod lists more GPUs than its limit

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: embed}
    spec:
      containers:
      - name: server
        image: example.com/embed:v1
        env: [{name: NVIDIA_VISIBLE_DEVICES, value: all}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: embed}
    spec:
      containers:
      - name: server
        image: example.com/embed:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Source: NVIDIA container toolkit documentation, docker-specialized (GPU enumeration)
Source: NVIDIA/k8s-device-plugin@v0.17.1 README.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment, has_device
from stoker.lint.rule import Problem, Rule, Severity

_NAME = "NVIDIA_VISIBLE_DEVICES"


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if workload.kind == "DaemonSet":  # agents of the node are to see all of it
            continue
        for path, container in workload.containers():
            index, value = environment(container).get(_NAME, (0, None))
            if value == "all" and not has_device(container):
                yield Problem(
                    workload.manifest,
                    (*path, "env", index, "value"),
                    f"{_NAME}=all without a GPU limit: it uses GPUs that the scheduler gives to others",
                    hint="resources.limits: {nvidia.com/gpu: 1}, without the variable",
                )


RULE = Rule("STK-GPU-008", Severity.WARNING, "A container takes all GPUs without asking for one", check, __name__)

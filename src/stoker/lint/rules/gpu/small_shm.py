"""A container with several GPUs has 64 MiB of shared memory.

Processes of one container exchange data through /dev/shm: NCCL between GPUs, PyTorch's data loaders, vLLM between its
workers. A container runtime gives it 64 MiB. An `emptyDir` in memory, mounted there, gives what is needed; it counts
as memory of the container.

Symptom: "Bus error" or "unable to open shared memory object", in NCCL or a DataLoader worker
Symptom: NCCL error "Error while creating shared memory segment"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 8, memory: 1000Gi}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 8, memory: 1000Gi}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes:
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: 64Gi}

Source: PyTorch documentation, multiprocessing (shared memory); NVIDIA NCCL user guide, troubleshooting
Source: vLLM documentation, deployment/k8s (shared memory)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import gpus
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if workload.spec.get("hostIPC") is True:
            continue
        for path, container in workload.containers():
            held = gpus(container)
            mounts = [str(each.get("mountPath")).rstrip("/") for _, each in sections(container.get("volumeMounts"))]
            if held > 1 and "/dev/shm" not in mounts:  # noqa: S108  - the name of a mount, not a file that is written
                yield Problem(
                    workload.manifest,
                    (*path, "volumeMounts"),
                    f"{held} GPUs share 64 MiB in /dev/shm: NCCL and data loaders fail when it is full",
                    hint="a volume emptyDir: {medium: Memory, sizeLimit: 64Gi}, mounted at /dev/shm",
                )


RULE = Rule(
    "STK-GPU-012", Severity.WARNING, "A container with several GPUs has 64 MiB of shared memory", check, __name__
)

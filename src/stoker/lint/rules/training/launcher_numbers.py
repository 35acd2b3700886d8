"""The launcher is told other numbers than the job has.

torchrun's `--nproc-per-node` is the number of processes in each pod, one for each GPU; `--nnodes` is the number of
pods. More processes than GPUs fail on the first that has none, fewer leave GPUs idle. With a wrong number of nodes
the launcher waits for pods that never come.

Symptom: "CUDA error: invalid device ordinal"
Symptom: the rendezvous times out though all pods run

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command: [torchrun, --nproc-per-node=8, train.py]
        resources: {limits: {nvidia.com/gpu: 4, memory: 100Gi}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command: [torchrun, --nproc-per-node=4, train.py]
        resources: {limits: {nvidia.com/gpu: 4, memory: 100Gi}}

Source: PyTorch documentation, elastic/run (torchrun)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import Command, commands, gpus
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import KUBEFLOW_KINDS, RUNTIME_KINDS, pods_of_job
from stoker.manifests.objects import is_open
from stoker.spec.faults import Path

_PROCESSES = re.compile(r"--nproc[-_]per[-_]node[= ]\"?(\d{1,4})\b")
_NODES = re.compile(r"--nnodes[= ]\"?(\d{1,4})(?![\d:])\b")
_LAUNCHERS = ("torchrun", "torch.distributed.run", "torch.distributed.launch")


def check(cluster: Cluster) -> Iterator[Problem]:
    for command in commands(cluster):
        text = command.text
        if command.place != "main" or command.workload is None or is_open(command.manifest, text):
            continue
        if not any(each in text for each in _LAUNCHERS):
            continue
        held, found = gpus(command.container), _PROCESSES.search(text)
        if held and found and int(found[1]) != held:
            result = "the others find no GPU" if int(found[1]) > held else "the rest is idle"
            message = f"{found[1]} processes in each pod, which has {held} GPUs: {result}"
            yield Problem(command.manifest, _place(command, "nproc"), message, hint=f"--nproc-per-node={held}")
        found = _NODES.search(text)
        if found and command.workload.kind in (*KUBEFLOW_KINDS, *RUNTIME_KINDS, "LeaderWorkerSet"):
            pods = pods_of_job(cluster, command.workload)
            if int(found[1]) != pods and held:
                message = (
                    f"--nnodes {found[1]}, and the job has {pods} pods with GPUs: the rendezvous is never complete"
                )
                yield Problem(command.manifest, _place(command, "nnodes"), message, hint=f"--nnodes={pods}")


def _place(command: Command, option: str) -> Path:
    return next(path for path, word in command.words if option in word)


RULE = Rule(
    "STK-TRAINING-019", Severity.WARNING, "The launcher is told other numbers than the job has", check, __name__
)

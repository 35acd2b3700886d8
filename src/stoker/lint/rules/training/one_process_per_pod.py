"""A PyTorchJob with several GPUs for each pod does not say so.

`spec.nprocPerNode` is the number of processes in each pod, and the operator multiplies it by the replicas to get
WORLD_SIZE. Unset, it counts as one: eight GPUs, one rank. With torchrun the number can stand in the command instead.

Symptom: one of eight GPUs is busy
Symptom: WORLD_SIZE is 2 on two nodes with 16 GPUs

Wrong:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      pytorchReplicaSpecs:
        Master:
          replicas: 1
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources: {limits: {nvidia.com/gpu: 8}}

Right:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Master:
          replicas: 1
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources: {limits: {nvidia.com/gpu: 8}}

Source: kubeflow/trainer@v1.9.4 pkg/controller.v1/pytorch/envvar.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import commands
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("PyTorchJob", group="kubeflow.org"):
        elastic = manifest.get("spec", "elasticPolicy", "nProcPerNode")
        if manifest.get("spec", "nprocPerNode") is not None or elastic is not None:
            continue
        held = max((pools(cluster).gpus(each) for each in cluster.workloads if each.manifest is manifest), default=0)
        said = any(
            each.manifest is manifest and "nproc" in each.text.replace("_", "").replace("-", "")
            for each in commands(cluster)
        )
        if held > 1 and not said:
            yield Problem(
                manifest,
                ("spec", "nprocPerNode"),
                f"nprocPerNode is not set, so each pod is one rank and {held - 1} of its {held} GPUs are idle",
                hint=f'nprocPerNode: "{held}"',
            )


RULE = Rule(
    "STK-TRAINING-010",
    Severity.WARNING,
    "A PyTorchJob with several GPUs for each pod does not say so",
    check,
    __name__,
    guide=("S21",),
)

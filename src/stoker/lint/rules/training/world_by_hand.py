"""A PyTorchJob sets by hand what the operator sets.

The training operator adds WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT to every container, after what is written: of
two entries with one name the later counts. WORLD_SIZE is the number of replicas times `nprocPerNode`. A number
written by hand is ignored while it is there, and wrong as soon as the replicas change.

Symptom: the world has another size than the manifest says
Symptom: init_process_group waits for ranks that do not exist

Wrong:

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
                env: [{name: WORLD_SIZE, value: "16"}]
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
from stoker.lint.containers import environment
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.edits import Remove
from stoker.manifests.objects import Manifest
from stoker.spec.faults import Path

OPERATORS = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("PyTorchJob",)):
        for path, container in workload.containers():
            known = environment(container)
            for name in OPERATORS:
                if name in known:
                    i, value = known[name]
                    place: Path = (*path, "env", i)
                    yield Problem(
                        workload.manifest,
                        place,
                        f"{name}{f'={value}' if isinstance(value, str) else ''} is overwritten by the operator"
                        + (_world(workload.manifest) if name == "WORLD_SIZE" else ""),
                        hint='leave it out, and set spec.nprocPerNode: "8", the GPUs of one pod',
                        edits=(Remove(place),),
                    )


def _world(manifest: Manifest) -> str:
    """What the operator makes of it; empty where that cannot be read."""
    replicas = 0
    specs = manifest.get("spec", "pytorchReplicaSpecs")
    for role in specs if isinstance(specs, dict) else ():
        number = manifest.get("spec", "pytorchReplicaSpecs", role, "replicas", default=1)
        replicas += number if isinstance(number, int) else 0
    per_node = manifest.get("spec", "nprocPerNode")
    if per_node is not None and not (isinstance(per_node, str) and per_node.isdecimal() and len(per_node) < 6):
        return ""
    each = int(per_node) if per_node else 1
    return f", which makes it {replicas * each} ({replicas} replicas, nprocPerNode {per_node or 'unset'})"


RULE = Rule(
    "STK-TRAINING-009",
    Severity.WARNING,
    "A PyTorchJob sets by hand what the operator sets",
    check,
    __name__,
    guide=("S21",),
)

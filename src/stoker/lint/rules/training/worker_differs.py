"""The workers of a PyTorchJob lack what its master has.

Master and workers run the same program. Nothing is inherited from one to the other: a worker without the master's
variables, volumes, service account or tolerations cannot read the data, writes no checkpoint, or is never scheduled;
the master waits for it.

Symptom: the master runs, a worker is Pending, and after half an hour NCCL or the store times out

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
              serviceAccountName: trainer
              containers:
              - name: pytorch
                image: example.com/train:v1
                env: [{name: CHECKPOINT_S3, value: "s3://checkpoints/train/"}]
        Worker:
          replicas: 1
          template:
            spec:
              containers: [{name: pytorch, image: "example.com/train:v1"}]

Right:

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
                env: [{name: CHECKPOINT_S3, value: "s3://checkpoints/train/"}]
        Worker:
          replicas: 1
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                env: [{name: CHECKPOINT_S3, value: "s3://checkpoints/train/"}]

Source: kubeflow/trainer@v1.9.4 pkg/apis/kubeflow.org/v1/pytorch_types.go
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import names
from stoker.lint.rules.training.world_by_hand import OPERATORS
from stoker.manifests.node_pools import pod_view
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    masters = {id(each.manifest): each for each in cluster.workloads_like(("PyTorchJob",)) if each.role == "Master"}
    for worker in cluster.workloads_like(("PyTorchJob",)):
        master = masters.get(id(worker.manifest))
        if worker.role != "Worker" or master is None or not _trains(worker):
            continue
        missing = _missing(master, worker)
        if missing:
            yield Problem(
                worker.manifest,
                worker.path,
                f"the Worker lacks what the Master has: {'; '.join(missing)}",
                hint="the same pod spec for both (a YAML anchor does)",
            )


def _missing(master: Workload, worker: Workload) -> list[str]:
    found = []
    variables = names(_trains(master).get("env")) - names(_trains(worker).get("env")) - set(OPERATORS)
    if variables:
        found.append(f"env {', '.join(sorted(variables))}")
    volumes = names(master.spec.get("volumes")) - names(worker.spec.get("volumes"))
    if volumes:
        found.append(f"volumes {', '.join(sorted(volumes))}")
    account = master.spec.get("serviceAccountName")
    if account and not worker.spec.get("serviceAccountName"):
        found.append(f"serviceAccountName {account}")
    own = pod_view(worker).tolerations
    tolerations = [each.key or "everything" for each in pod_view(master).tolerations if each not in own]
    if tolerations:
        found.append(f"toleration of {', '.join(tolerations)}")
    return found


def _trains(workload: Workload) -> dict[str, Any]:
    """The container that trains: the operator's own name for it, or else the first."""
    containers = [each for _, each in workload.containers()]
    return next((each for each in containers if each.get("name") == "pytorch"), containers[0] if containers else {})


RULE = Rule(
    "STK-TRAINING-011",
    Severity.WARNING,
    "The workers of a PyTorchJob lack what its master has",
    check,
    __name__,
    guide=("S21",),
)

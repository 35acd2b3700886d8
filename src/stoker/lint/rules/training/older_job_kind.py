"""A kind of training job that a newer one has taken the place of.

Kubeflow's first generation has a kind for each framework. PyTorchJob is still mended on the line v1.9; new work goes
into TrainJob, which names a runtime and leaves ranks, ports and the restart of all pods to it. TFJob, XGBoostJob,
PaddleJob and MXJob get little or no work any more.

Symptom: the operator's documentation no longer describes the kind

Wrong:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      pytorchReplicaSpecs:
        Worker:
          template:
            spec:
              containers: [{name: pytorch, image: "example.com/train:v1"}]

Right:

    apiVersion: trainer.kubeflow.org/v1alpha1
    kind: TrainJob
    metadata: {name: train}
    spec:
      runtimeRef: {apiGroup: trainer.kubeflow.org, kind: ClusterTrainingRuntime, name: torch-distributed}
      trainer: {image: "example.com/train:v1", numNodes: 2}

Source: kubeflow/trainer@v2.3.0 README.md
Source: kubeflow/trainer@v1.9.4 README.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_SAID = {
    "PyTorchJob": "is maintained on the line v1.9 only",
    "TFJob": "gets no new work",
    "XGBoostJob": "gets no new work",
    "PaddleJob": "gets no new work",
    "MXJob": "was removed from the operator with MXNet's end",
    "JAXJob": "is maintained on the line v1.9 only",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of(*_SAID, group="kubeflow.org"):
        yield Problem(
            manifest,
            ("kind",),
            f"{manifest.kind} {_SAID[manifest.kind]}; TrainJob has taken its place",
            hint="apiVersion: trainer.kubeflow.org/v1alpha1, kind: TrainJob",
        )


RULE = Rule(
    "STK-TRAINING-013", Severity.INFO, "A kind of training job that a newer one has replaced", check, __name__, ("W04",)
)

"""A TrainJob names a runtime that is not in sight.

`runtimeRef` names a ClusterTrainingRuntime unless its `kind` says TrainingRuntime, which has to be in the job's
namespace. A job whose runtime is not there is refused. The runtimes that Kubeflow brings along are taken to be
installed.

Symptom: "ClusterTrainingRuntime.trainer.kubeflow.org \"finetune\" not found"

Wrong:

    apiVersion: trainer.kubeflow.org/v1alpha1
    kind: TrainJob
    metadata: {name: train, namespace: training}
    spec:
      runtimeRef: {name: finetune}
    ---
    apiVersion: trainer.kubeflow.org/v1alpha1
    kind: TrainingRuntime
    metadata: {name: finetune, namespace: training}
    spec:
      template:
        spec:
          replicatedJobs:
          - name: node
            template:
              spec:
                template:
                  spec:
                    containers: [{name: node, image: "example.com/train:v1"}]

Right:

    apiVersion: trainer.kubeflow.org/v1alpha1
    kind: TrainJob
    metadata: {name: train, namespace: training}
    spec:
      runtimeRef: {name: torch-distributed}

Source: kubeflow/trainer@v2.3.0 pkg/apis/trainer/v1alpha1/trainjob_types.go (RuntimeRef)
Source: kubeflow/trainer@v2.3.0 manifests/base/runtimes
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import is_open

_CLUSTER = "ClusterTrainingRuntime"
_OWN = "TrainingRuntime"
_SHIPPED = re.compile(r"(torch|deepspeed|mlx|jax|xgboost|mpi)-distributed(-.+)?|torchtune-.+")


def check(cluster: Cluster) -> Iterator[Problem]:
    for job in cluster.of("TrainJob", group="trainer.kubeflow.org"):
        name = job.get("spec", "runtimeRef", "name")
        kind = job.get("spec", "runtimeRef", "kind", default=_CLUSTER)
        if not isinstance(name, str) or kind not in (_CLUSTER, _OWN) or is_open(job, name):
            continue
        if cluster.exists(kind, name, job.namespace if kind == _OWN else ""):
            continue
        other = _OWN if kind == _CLUSTER else _CLUSTER
        path = ("spec", "runtimeRef", "name")
        if cluster.find(other, name, job.namespace or None) is not None:
            yield Problem(job, path, f"no {kind} {name}, but a {other} of that name", hint=f"kind: {other}")
        elif kind == _OWN and cluster.find(kind, name) is not None:
            yield Problem(job, path, f"{kind} {name} is in another namespace: it must be in that of the job")
        elif kind == _OWN or not _SHIPPED.fullmatch(name):
            yield Problem(job, path, f"{kind} {name} is not in sight", severity=Severity.INFO)


RULE = Rule("STK-TRAINING-017", Severity.WARNING, "A TrainJob names a runtime that is not in sight", check, __name__)

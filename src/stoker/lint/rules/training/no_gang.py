"""Pods that train together are scheduled one by one.

If only some of them find room, those hold their GPUs and wait for the others. Two such jobs can hold half of the GPUs
each, for ever. Gang scheduling starts all or none: Kueue (the label of a queue), `schedulingPolicy` of a Kubeflow
job, `podGroupPolicy` of a TrainingRuntime, or a scheduler such as Volcano.

Symptom: one pod of two runs, idle, and is paid for by the hour
Symptom: two jobs wait for each other

Wrong:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Worker:
          replicas: 2
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources: {limits: {nvidia.com/gpu: 8}}

Right:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata:
      name: train
      labels: {kueue.x-k8s.io/queue-name: training}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Worker:
          replicas: 2
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources: {limits: {nvidia.com/gpu: 8}}

Source: kubernetes-sigs/kueue@v0.14.0 site/content/en/docs/tasks/run/kubeflow
Source: kubeflow/trainer@v2.3.0 docs, gang scheduling
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import KUBEFLOW_KINDS, RUNTIME_KINDS, pods_of_job, train_jobs
from stoker.manifests.objects import Manifest
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_QUEUE = "kueue.x-k8s.io/queue-name"
_GROUPS = ("scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io/name", "scheduling.k8s.io/group-name")


def check(cluster: Cluster) -> Iterator[Problem]:
    said: set[int] = set()
    for workload in cluster.workloads_like((*KUBEFLOW_KINDS, "JobSet", *RUNTIME_KINDS)):
        number = pods_of_job(cluster, workload)
        if id(workload.manifest) in said or number < 2 or not pools(cluster).gpus(workload) or _is_grouped(workload):
            continue
        said.add(id(workload.manifest))
        for manifest, path, hint in _ungrouped(cluster, workload):
            if not _has_queue(cluster, manifest):
                yield Problem(
                    manifest,
                    path,
                    f"{number} pods with GPUs train together, scheduled one by one: some may hold theirs and wait",
                    hint=hint,
                )


def _ungrouped(cluster: Cluster, workload: Workload) -> Iterator[tuple[Manifest, Path, str]]:
    """The object that would have to say it, where, and what."""
    manifest = workload.manifest
    label = f"the label {_QUEUE}"
    if workload.kind in RUNTIME_KINDS:
        if manifest.get("spec", "podGroupPolicy") is None:
            for job in train_jobs(cluster, manifest):
                yield job, ("metadata", "labels", _QUEUE), f"{label}, or podGroupPolicy in {manifest}"
    elif workload.kind == "JobSet":
        yield manifest, ("metadata", "labels", _QUEUE), label
    elif manifest.get("spec", "elasticPolicy") is not None:
        return  # it begins with the pods that there are
    elif manifest.get("spec", "runPolicy", "schedulingPolicy") is None:
        yield manifest, ("spec", "runPolicy", "schedulingPolicy"), f"{label}, or runPolicy.schedulingPolicy"


def _is_grouped(workload: Workload) -> bool:
    """Whether its pods name a scheduler of their own, or a group."""
    scheduler = workload.spec.get("schedulerName")
    named = {**workload.labels, **workload.annotations}
    return (scheduler is not None and scheduler != "default-scheduler") or any(each in named for each in _GROUPS)


def _has_queue(cluster: Cluster, manifest: Manifest) -> bool:
    """By its label, or because Kueue takes every job of a namespace with a LocalQueue of the name `default`."""
    return _QUEUE in manifest.labels or cluster.find("LocalQueue", "default", manifest.namespace or None) is not None


RULE = Rule(
    "STK-TRAINING-012",
    Severity.WARNING,
    "Pods that train together are scheduled one by one",
    check,
    __name__,
    guide=("S21",),
)

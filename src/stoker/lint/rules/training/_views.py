"""How many pods train together, and what user data says of NCCL."""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import gpus
from stoker.lint.pools import pools
from stoker.manifests.objects import Manifest, look, sections
from stoker.manifests.workloads import Workload

KUBEFLOW_KINDS = ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob", "MXJob")
RUNTIME_KINDS = ("TrainingRuntime", "ClusterTrainingRuntime")
TRAINING_KINDS = (*KUBEFLOW_KINDS, "JobSet", *RUNTIME_KINDS)
_ASSIGNED = re.compile(r"\b((?:NCCL|GLOO)_[A-Z0-9_]+)\s*=\s*[\"']?([^\s\"';|>]*)")


def pods_of_job(cluster: Cluster, workload: Workload) -> int:
    """The pods with GPUs that train together with these, themselves included; 1 where that is not known."""
    manifest = workload.manifest
    if workload.kind in KUBEFLOW_KINDS or workload.kind == "JobSet":
        together = [each for each in cluster.workloads if each.manifest is manifest and pools(cluster).gpus(each)]
        return max(1, sum(each.replicas or 1 for each in together))
    if workload.kind in RUNTIME_KINDS:
        numbers = [manifest.get("spec", "mlPolicy", "numNodes")]
        numbers += [each.get("spec", "trainer", "numNodes") for each in train_jobs(cluster, manifest)]
        return max([1, *(each for each in numbers if isinstance(each, int))])
    if workload.kind == "LeaderWorkerSet":
        size = manifest.get("spec", "leaderWorkerTemplate", "size")
        return size if isinstance(size, int) and size > 0 else 1
    if workload.kind == "Job" and manifest.get("spec", "completionMode") == "Indexed":
        return max(1, workload.replicas or 1)
    return 1


def train_jobs(cluster: Cluster, runtime: Manifest) -> Iterator[Manifest]:
    """The TrainJobs that name a runtime."""
    for job in cluster.of("TrainJob", group="trainer.kubeflow.org"):
        kind = job.get("spec", "runtimeRef", "kind", default="ClusterTrainingRuntime")
        if job.get("spec", "runtimeRef", "name") == runtime.name and kind == runtime.kind:
            yield job


def requests_device(workload: Workload, resource: str) -> bool:
    return any(
        resource in tree
        for _, container in workload.containers()
        for part in ("limits", "requests")
        if isinstance(tree := look(container, "resources", part), dict)
    )


def nccl_of_nodes(cluster: Cluster) -> Iterator[tuple[Manifest, dict[str, str]]]:
    """What the user data of node classes sets for NCCL and Gloo."""
    for manifest in cluster.of("EC2NodeClass"):
        text = manifest.get("spec", "userData")
        found = dict(_ASSIGNED.findall(text)) if isinstance(text, str) else {}
        if found:
            yield manifest, found


def trains_over_nodes(cluster: Cluster, workload: Workload) -> bool:
    return bool(pools(cluster).gpus(workload)) and pods_of_job(cluster, workload) > 1


def gpu_container(workload: Workload) -> tuple[tuple[str | int, ...], dict[str, object]] | None:
    """The first container with GPUs, with its path."""
    return next(((path, each) for path, each in workload.containers() if gpus(each)), None)


def names(tree: object) -> set[str]:
    """The names in a list of named sections: of env, volumes, mounts."""
    return {each["name"] for _, each in sections(tree) if isinstance(each.get("name"), str)}

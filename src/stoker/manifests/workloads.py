"""Whatever makes pods, seen alike: Deployment, Job, PyTorchJob, an Argo template, a kro graph's Deployment.

`workloads_of` finds the pod specs of one object. It reads broken objects, too: what is not of the right type is
not there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.manifests.objects import Manifest, look, sections, texts, whole
from stoker.spec.faults import Path


@dataclass(frozen=True, eq=False)
class Workload:
    """The pods of one template. `path` is where the pod spec stands in the manifest, `meta` where its metadata does."""

    manifest: Manifest
    path: Path
    meta: Path
    replicas: int | None
    """Pods at once, as written; None where nothing says a number (a DaemonSet; a Deployment that is scaled)."""
    role: str = ""
    """`Master` or `Worker` of a PyTorchJob, the template of a Workflow, the replicated job of a JobSet."""

    @property
    def spec(self) -> dict[str, Any]:
        found = self.manifest.get(*self.path)
        return found if isinstance(found, dict) else {}

    @property
    def labels(self) -> dict[str, str]:
        return texts(self.manifest.get(*self.meta, "labels"))

    @property
    def annotations(self) -> dict[str, str]:
        return texts(self.manifest.get(*self.meta, "annotations"))

    @property
    def namespace(self) -> str:
        return self.manifest.namespace or "default"

    @property
    def kind(self) -> str:
        return self.manifest.kind

    def containers(self, *, init: bool = False) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Each container with its path in the manifest; those of `initContainers` too when asked."""
        for key in ("containers", "initContainers") if init else ("containers",):
            for i, container in sections(self.spec.get(key)):
                yield (*self.path, key, i), container
        if self.kind in _ARGO:
            # A template of a Workflow has its container beside the rest of the pod's spec, or a set of them.
            for key in ("container", "script"):
                single = self.spec.get(key)
                if isinstance(single, dict):
                    yield (*self.path, key), single
            for i, container in sections(look(self.spec, "containerSet", "containers")):
                yield (*self.path, "containerSet", "containers", i), container

    def __str__(self) -> str:
        return f"{self.manifest} ({self.role})" if self.role else str(self.manifest)


_TEMPLATE = ("spec", "template")
_TEMPLATES: dict[str, tuple[str | int, ...]] = {
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "ReplicationController": _TEMPLATE,
    "Rollout": _TEMPLATE,
}
_JOBS: dict[str, tuple[str | int, ...]] = {
    "Job": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec"),
    "ScaledJob": ("spec", "jobTargetRef"),
}
_ARGO = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
_KUBEFLOW = ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob")


def workloads_of(manifest: Manifest) -> list[Workload]:
    """The pod templates of an object, in the order they are written; none for an object that makes no pods."""
    kind = manifest.kind
    if kind == "Pod":
        return [Workload(manifest, ("spec",), ("metadata",), 1)]
    if kind in _TEMPLATES:
        if kind == "Rollout" and manifest.get("spec", "workloadRef") is not None:
            return []  # its pods are those of the Deployment that it names
        return [_of_template(manifest, _TEMPLATES[kind], manifest.get("spec", "replicas"))]
    if kind == "Job" and manifest.group == "batch.volcano.sh":
        return [
            _of_template(manifest, ("spec", "tasks", i, "template"), task.get("replicas", 1), str(task.get("name", i)))
            for i, task in sections(manifest.get("spec", "tasks"))
        ]
    if kind in _JOBS:
        path = _JOBS[kind]
        pods = None if kind == "ScaledJob" else manifest.get(*path, "parallelism", default=1)
        return [_of_template(manifest, (*path, "template"), pods)]
    if kind in _KUBEFLOW:
        return _kubeflow(manifest)
    if kind in _ARGO:
        return _argo(manifest)
    if kind == "JobSet":
        base: Path = ("spec", "replicatedJobs")
        return [
            _of_template(
                manifest,
                (*base, i, "template", "spec", "template"),
                _product(job.get("replicas", 1), look(job, "template", "spec", "parallelism", default=1)),
                str(job.get("name", i)),
            )
            for i, job in sections(manifest.get(*base))
        ]
    if kind in ("TrainingRuntime", "ClusterTrainingRuntime"):
        base = ("spec", "template", "spec", "replicatedJobs")
        return [
            _of_template(manifest, (*base, i, "template", "spec", "template"), None, str(job.get("name", i)))
            for i, job in sections(manifest.get(*base))
        ]
    if kind == "LeaderWorkerSet":
        return _leader_worker(manifest)
    return []


def _of_template(manifest: Manifest, path: Path, replicas: Any, role: str = "") -> Workload:
    return Workload(manifest, (*path, "spec"), (*path, "metadata"), whole(replicas), role)


def _kubeflow(manifest: Manifest) -> list[Workload]:
    spec = manifest.get("spec", default={})
    found = []
    for key in spec if isinstance(spec, dict) else ():
        if isinstance(key, str) and key.endswith("ReplicaSpecs") and isinstance(spec[key], dict):
            for role, each in spec[key].items():
                replicas = look(each, "replicas", default=1)
                found.append(_of_template(manifest, ("spec", key, role, "template"), replicas, str(role)))
    return found


def _argo(manifest: Manifest) -> list[Workload]:
    base: Path = ("spec", "workflowSpec", "templates") if manifest.kind == "CronWorkflow" else ("spec", "templates")
    return [
        Workload(manifest, (*base, i), (*base, i, "metadata"), 1, str(template.get("name", i)))
        for i, template in sections(manifest.get(*base))
        if "container" in template or "script" in template or "containerSet" in template
    ]


def _leader_worker(manifest: Manifest) -> list[Workload]:
    base: Path = ("spec", "leaderWorkerTemplate")
    groups = manifest.get("spec", "replicas", default=1)
    size = whole(manifest.get(*base, "size", default=1))
    leader = manifest.get(*base, "leaderTemplate") is not None
    workers = _product(groups, size - 1 if leader and size is not None else size)
    found = [_of_template(manifest, (*base, "leaderTemplate"), groups, "leader")] if leader else []
    return [*found, _of_template(manifest, (*base, "workerTemplate"), workers, "worker")]


def _product(a: Any, b: Any) -> int | None:
    return a * b if whole(a) is not None and whole(b) is not None else None

"""Checkpoints are written where they go with the pod.

A path inside the container is gone when the container starts again, an `emptyDir` when the pod goes, a `hostPath`
when the node does. On spot nodes that is what a checkpoint is for. It belongs into object storage, or on a volume
that stays: a PersistentVolumeClaim on EFS or FSx for Lustre. Where nothing at all says where checkpoints go, a note
is made.

Symptom: after an interruption training starts at step 0

Wrong:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          terminationGracePeriodSeconds: 110
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers:
          - name: train
            image: example.com/train:v1
            args: [--checkpoint-dir, /scratch/run1]
            resources: {limits: {nvidia.com/gpu: 1}}
            volumeMounts: [{name: scratch, mountPath: /scratch}]
          volumes: [{name: scratch, emptyDir: {}}]

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          terminationGracePeriodSeconds: 110
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers:
          - name: train
            image: example.com/train:v1
            args: [--checkpoint-dir, "s3://checkpoints/run1"]
            resources: {limits: {nvidia.com/gpu: 1}}

Source: Kubernetes documentation, concepts/storage/volumes (emptyDir, hostPath)
"""

import re
from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment, gpus, has_open_environment
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import TRAINING_KINDS
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_KINDS = (*TRAINING_KINDS, "Job", "CronJob", "Workflow", "WorkflowTemplate", "CronWorkflow")
_VARIABLE = re.compile(r"(.*_)?(CHECKPOINTS?|CKPTS?|OUTPUT|SAVE)(_(DIR|PATH|ROOT|FOLDER|URI|URL|S3|BUCKET))?")
_OPTION = re.compile(r"--(checkpoints?|ckpts?|output|save)[-_]?(dir|path|root|folder)?")
_STAYS = ("persistentVolumeClaim", "nfs", "csi", "awsElasticBlockStore", "ephemeral", "flexVolume", "image")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(_KINDS):
        if not pools(cluster).gpus(workload) or pools(cluster).spot(workload) == "never":
            continue
        for path, container in workload.containers():
            if not gpus(container):
                continue
            named = [*_variables(path, container), *_options(path, container)]
            for place, value in named:
                why = _why_lost(workload, container, value)
                if why:
                    yield Problem(
                        workload.manifest,
                        place,
                        f"{value} is {why}, and the pods can be on spot nodes: checkpoints go with them",
                        hint="s3://..., or a PersistentVolumeClaim on EFS or FSx for Lustre",
                    )
            if not named and workload.kind in TRAINING_KINDS and _has_none(workload, container):
                yield Problem(
                    workload.manifest,
                    path,
                    "nothing says where checkpoints go, and the pods can be on spot nodes",
                    hint="a checkpoint path in object storage, or a volume that stays",
                    severity=Severity.INFO,
                )


def _variables(path: Path, container: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for name, (i, value) in environment(container).items():
        if _VARIABLE.fullmatch(name) and isinstance(value, str):
            yield (*path, "env", i, "value"), value


def _options(path: Path, container: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for key in ("command", "args"):
        words = container.get(key)
        for i, word in enumerate(words) if isinstance(words, list) else ():
            name, given, value = word.partition("=") if isinstance(word, str) else ("", "", "")
            if not _OPTION.fullmatch(name) or not isinstance(words, list):
                continue
            if given:
                yield (*path, key, i), value
            elif i + 1 < len(words) and isinstance(words[i + 1], str):
                yield (*path, key, i + 1), words[i + 1]


def _why_lost(workload: Workload, container: dict[str, Any], value: str) -> str:
    """Why what is written at a path does not outlive the node; empty where it does, or where it is not known."""
    if not value.startswith("/"):
        return ""
    mounts = [
        (mount["mountPath"].rstrip("/"), mount.get("name"))
        for _, mount in sections(container.get("volumeMounts"))
        if isinstance(mount.get("mountPath"), str)
    ]
    inside = [each for each in mounts if value.rstrip("/") == each[0] or value.startswith(f"{each[0]}/")]
    if not inside:
        return "a path inside the container"
    name = max(inside, key=lambda each: len(each[0]))[1]
    volume = next((each for _, each in sections(workload.spec.get("volumes")) if each.get("name") == name), {})
    if "emptyDir" in volume:
        return f"on {name}, an emptyDir"
    return f"on {name}, a hostPath" if "hostPath" in volume else ""


def _has_none(workload: Workload, container: dict[str, Any]) -> bool:
    volumes = [each for _, each in sections(workload.spec.get("volumes"))]
    if has_open_environment(container) or any(key in each for each in volumes for key in _STAYS):
        return False
    text = f"{container.get('env')} {container.get('command')} {container.get('args')}".lower()
    mounted = look(container, "volumeMounts")
    said = any(each in text for each in ("s3://", "checkpoint", "ckpt", "gs://"))
    return not said and not (mounted and workload.kind == "MPIJob")


RULE = Rule("STK-TRAINING-015", Severity.WARNING, "Checkpoints are written where they go with the pod", check, __name__)

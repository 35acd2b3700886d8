"""Training by Kubeflow: the runtime and the job, or a PyTorchJob; who they run as, what they read."""

from collections.abc import Iterator
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.render import training_queue
from stoker.render.facts import TRAINING_ACCOUNT
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata, usual_labels
from stoker.render.plan import Plan
from stoker.render.training_pods import (
    CLAIM,
    DO_NOT_DISRUPT,
    INTERRUPTED,
    RUN,
    RUN_CONFIG,
    checkpoints,
    meant,
    pod_spec,
    run_text,
)

COMPONENT = "training"
_RESTARTS = 3
_HELD = (
    "Applying this starts nothing: its queue is held. It starts with\n"
    "kubectl -n {namespace} label {kind} {name} kueue.x-k8s.io/queue-name={queue} --overwrite"
)


def render(plan: Plan) -> Iterator[Item]:
    training = plan.spec.training
    if not training.enabled or not training.kubeflow:
        return
    checkpoints(plan)
    yield Resource("training/service-account.yaml", service_account(plan))
    yield Resource(
        "training/run.yaml", run_config(plan), "The run file, the same as for `stoker train` on one machine."
    )
    if training.storage.enabled:
        check_file_system(plan)
        if training.storage.file_system is not None:
            yield Resource("training/data.yaml", volume(plan), "The file system is not deleted with the claim.")
            yield Resource("training/data.yaml", claim(plan))
        else:
            yield Resource("training/data.yaml", claim(plan), _WHY_NO_VOLUME)
    yield from training_queue.render(plan)
    if training.legacy_pytorch_job:
        yield Resource("training/job.yaml", pytorch_job(plan), _job_comment(plan, "pytorchjob"))
    else:
        yield Resource("training/runtime.yaml", runtime(plan), _lines(_RUNTIME_COMMENT, *meant(plan)))
        yield Resource("training/job.yaml", train_job(plan), _job_comment(plan, "trainjob"))


_RUNTIME_COMMENT = (
    f"A node that is taken away (DisruptionTarget, or exit code {INTERRUPTED} when the trainer saw the notice first) "
    f"restarts all pods and does not count; whatever else fails counts against {_RESTARTS} restarts. "
    "All pods end before the first begins again: one that is left would hang in NCCL."
)


_WHY_NO_VOLUME = """\
Terraform makes the file system. Its volume is written once training.storage.fileSystem and mountName are those of the \
module's output training_file_system; stoker deploy fills them in."""


def check_file_system(plan: Plan) -> None:
    """Raises InvalidInput for one that nobody makes."""
    if plan.spec.training.storage.file_system is None and plan.aws != "terraform":
        raise InvalidInput(
            "training.storage.fileSystem is null, and enabled: only the root module of Terraform makes one",
            param="training.storage.fileSystem",
            hint="write the id of the FSx for Lustre file system, or make it by stoker deploy (render --terraform)",
        )


def _job_comment(plan: Plan, kind: str) -> str:
    held = _HELD.format(namespace=plan.training_namespace, kind=kind, name=RUN, queue=training_queue.QUEUE)
    return _lines(held, *pytorch_job_ignores(plan)) if kind == "pytorchjob" else held


def pytorch_job_ignores(plan: Plan) -> tuple[str, ...]:
    older = "stoker:ignore STK-TRAINING-013 training.legacyPytorchJob asks for the Training Operator v1"
    return (older, *meant(plan))


def _lines(*parts: str) -> str:
    return "\n".join(parts)


def service_account(plan: Plan) -> Object:
    """Its AWS role comes by EKS Pod Identity, so it has no annotation; no pod of it talks to the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, TRAINING_ACCOUNT, COMPONENT, namespace=plan.training_namespace),
        "automountServiceAccountToken": False,
    }


def run_config(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, RUN_CONFIG, COMPONENT, namespace=plan.training_namespace),
        "data": {"run.yaml": run_text(plan)},
    }


def volume(plan: Plan) -> Object:
    """Source: kubernetes-sigs/aws-fsx-csi-driver, examples/kubernetes/static_provisioning."""
    said = plan.spec.training.storage
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": metadata(plan, f"{plan.training_namespace}-{CLAIM}", COMPONENT),
        "spec": {
            "capacity": {"storage": said.size},
            "volumeMode": "Filesystem",
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": plan.training_namespace, "name": CLAIM},
            "mountOptions": ["flock"],
            "csi": {
                "driver": "fsx.csi.aws.com",
                "volumeHandle": said.file_system,
                "volumeAttributes": {
                    "dnsname": f"{said.file_system}.fsx.{plan.region}.{_DOMAINS.get(plan.partition, _DOMAIN)}",
                    "mountname": said.mount_name,
                },
            },
        },
    }


_DOMAIN = "amazonaws.com"
_DOMAINS = {"aws-cn": "amazonaws.com.cn"}


def claim(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(plan, CLAIM, COMPONENT, namespace=plan.training_namespace),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": f"{plan.training_namespace}-{CLAIM}",
            "resources": {"requests": {"storage": plan.spec.training.storage.size}},
        },
    }


def _pod(plan: Plan, container: str, of_one_job: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": usual_labels(COMPONENT), "annotations": dict(DO_NOT_DISRUPT)},
        "spec": pod_spec(plan, container, of_one_job),
    }


def runtime(plan: Plan) -> Object:
    """Trainer finds the job and its container by the names `node` and the label of its step. How often the set begins
    again is the JobSet's: the Job inside fails at once, with the reason PodFailurePolicy for a disruption and for a run
    that was interrupted.

    Source: kubeflow/trainer@v2.3.0 pkg/runtime/framework/plugins/torch/torch.go;
    kubernetes-sigs/jobset@v0.12.0 site/content/en/docs/tasks/failure_policy.md.
    """
    pod = _pod(plan, "node", "jobset.sigs.k8s.io/jobset-name")
    pod["spec"]["restartPolicy"] = "Never"
    interrupted = {
        "action": "FailJob",
        "onExitCodes": {"containerName": "node", "operator": "In", "values": [INTERRUPTED]},
    }
    disrupted = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    job = {
        "name": "node",
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {"backoffLimit": 0, "podFailurePolicy": {"rules": [interrupted, disrupted]}, "template": pod},
        },
    }
    labels = {"trainer.kubeflow.org/framework": "torch"}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": metadata(plan, RUN, COMPONENT, namespace=plan.training_namespace, labels=labels),
        "spec": {
            "mlPolicy": {"numNodes": plan.spec.training.nodes, "torch": {}},
            "template": {
                "spec": {
                    "failurePolicy": {
                        "maxRestarts": _RESTARTS,
                        "restartStrategy": "BlockingRecreate",
                        "rules": [
                            {
                                "name": "disrupted",
                                "action": "RestartJobSetAndIgnoreMaxRestarts",
                                "onJobFailureReasons": ["PodFailurePolicy"],
                            }
                        ],
                    },
                    "replicatedJobs": [job],
                }
            },
        },
    }


def train_job_spec(plan: Plan) -> dict[str, Any]:
    """Suspended until Kueue admits it. `trainer` is written out: without it Trainer sets no PET_* variables."""
    return {
        "suspend": True,
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": RUN},
        "trainer": {"numNodes": plan.spec.training.nodes, "numProcPerNode": plan.training_pods.gpus},
    }


def train_job(plan: Plan) -> Object:
    labels = training_queue.labels(training_queue.HELD)
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata(plan, RUN, COMPONENT, namespace=plan.training_namespace, labels=labels),
        "spec": train_job_spec(plan),
    }


def pytorch_job_spec(plan: Plan) -> dict[str, Any]:
    """The workers are the master's equals. WORLD_SIZE is the operator's: replicas times nprocPerNode.

    Source: kubeflow/trainer@v1.9.4 pkg/controller.v1/pytorch/envvar.go.
    """
    label = "training.kubeflow.org/job-name"
    spec: dict[str, Any] = {
        "nprocPerNode": str(plan.training_pods.gpus),
        "runPolicy": {"suspend": True, "cleanPodPolicy": "Running", "backoffLimit": _RESTARTS},
        "pytorchReplicaSpecs": {
            "Master": {"replicas": 1, "restartPolicy": "OnFailure", "template": _pod(plan, "pytorch", label)}
        },
    }
    if plan.spec.training.nodes > 1:
        workers = plan.spec.training.nodes - 1
        spec["pytorchReplicaSpecs"]["Worker"] = {
            "replicas": workers,
            "restartPolicy": "OnFailure",
            "template": _pod(plan, "pytorch", label),
        }
    return spec


def pytorch_job(plan: Plan) -> Object:
    labels = training_queue.labels(training_queue.HELD)
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": metadata(plan, RUN, COMPONENT, namespace=plan.training_namespace, labels=labels),
        "spec": pytorch_job_spec(plan),
    }

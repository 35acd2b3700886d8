"""`training`: fine-tuning in the cluster. The first three keys are the guide's."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.guide import BucketName, FileSystemId, Image
from stoker.spec.section import Expected, Quantity, Section

_OF_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?"
_ON_FSX = r"/fsx(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+"
_DATA = f"^({_OF_S3}|{_ON_FSX})$"


class Checkpointing(Section):
    s3_bucket: BucketName | None = None
    """S3 bucket of checkpoints. null keeps them in the state directory, which a spot node takes with it; in the cluster
    it is CLUSTER-checkpoints-ACCOUNT."""


class Storage(Section):
    enabled: bool = False
    """Mount FSx for Lustre in training jobs at /fsx, for data that S3 alone does not bring fast enough: training.data
    says which file of it is read."""

    file_system: FileSystemId | None = None
    """Id of the file system. null: Terraform makes one (`stoker deploy`, `stoker render --terraform`); objects alone
    cannot be rendered without it."""

    mount_name: Annotated[str, StringConstraints(pattern="^[a-z0-9]{1,32}$"), Expected("its mount name")] = "fsx"
    """Mount name of the file system, as FSx says it."""

    size: Quantity = "1200Gi"
    """Its size; FSx has it in steps of 1200 or 2400 GiB."""


class Batch(Section):
    enabled: bool = False
    """Render AWS Batch definitions too (`terraform/batch.tf`). Only with training.enabled."""

    spot: bool = False
    """Run Batch jobs on spot. Only with `training.nodes` 1: Batch has no multi-node jobs on spot."""


_Data = Annotated[
    str,
    StringConstraints(pattern=_DATA, max_length=1024),
    Expected("a place in S3 or on the file system, such as s3://bucket/train.jsonl or /fsx/train.jsonl"),
]


class Pipeline(Section):
    enabled: bool = True
    """Render the Argo Workflow prepare, train, evaluate, register, deploy."""

    least_score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.8
    """Score of the evaluation below which nothing is registered and deployed."""

    exam: _Data | None = None
    """Questions with checked answers, as JSON lines, by which the model is evaluated: in S3 or, with storage.enabled,
    on that file system below /fsx. null: exam.jsonl in the bucket of checkpoints."""


class Training(Section):
    enabled: bool = False
    """Render the training stack into the cluster; off by default because it installs operators that run always."""

    kubeflow: bool = True
    """Run training as Kubeflow TrainJobs; false leaves AWS Batch."""

    checkpointing: Checkpointing = Checkpointing()
    """Where checkpoints are kept."""

    image: Image | None = None
    """Container image of training. null: Stoker's own trainer."""

    nodes: Annotated[int, Field(ge=1, le=64)] = 2
    """Nodes of one training job."""

    gpus: Annotated[int, Field(ge=1, le=16)] = 8
    """GPUs of each."""

    efa: bool = True
    """Use EFA between nodes, where the instances have it."""

    data: _Data | None = None
    """Training data, in S3 or, with storage.enabled, on that file system below /fsx. null: data.jsonl in the bucket of
    checkpoints."""

    legacy_pytorch_job: bool = False
    """Render a PyTorchJob (Training Operator v1) instead of TrainJob, for clusters that still have it."""

    storage: Storage = Storage()
    """A file system for training data."""

    batch: Batch = Batch()
    """Training by AWS Batch, without Kubernetes."""

    pipeline: Pipeline = Pipeline()
    """From data to a model in service."""

    @property
    def is_on_file_system(self) -> bool:
        return self.data is not None and self.data.startswith("/")

    def broken_rules(self) -> Iterator[Fault]:
        if self.batch.enabled and not self.enabled:
            yield Fault(
                ("batch", "enabled"),
                "true, and training.enabled is false, so that nothing is rendered; write training.enabled true, and "
                "training.kubeflow false where AWS Batch alone trains",
            )
        if self.is_on_file_system and not self.storage.enabled:
            yield Fault(
                ("data",),
                f"{self.data} is on a file system that nothing mounts; write storage.enabled true and its fileSystem, "
                "or a place in S3",
            )
        exam = self.pipeline.exam
        if exam is not None and exam.startswith("/") and not self.storage.enabled:
            yield Fault(
                ("pipeline", "exam"),
                f"{exam} is on a file system that nothing mounts; write storage.enabled true and its fileSystem, or a "
                "place in S3",
            )
        if self.is_on_file_system and (self.batch.enabled or not self.kubeflow):
            yield Fault(("data",), f"{self.data}, and AWS Batch mounts no file system; write a place in S3")
        if self.batch.enabled and self.batch.spot and self.nodes > 1:
            yield Fault(
                ("batch", "spot"),
                f"AWS Batch does not run multi-node jobs on spot, and nodes is {self.nodes}; write nodes 1, or false",
            )

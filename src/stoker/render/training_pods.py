"""The pod that trains, and the commands of training: the same for TrainJob, PyTorchJob, the pipeline and AWS Batch.

The commands stand here alone, so that they are changed in one place.
"""

from typing import Any

from stoker.base.errors import InvalidInput
from stoker.catalog.labels import ZONE
from stoker.manifests.quantities import bytes_of
from stoker.manifests.writing import to_yaml
from stoker.render.facts import GPU, METRICS_PORT, TRAINER_METRICS_PORT, TRAINING_ACCOUNT, WEIGHTS, Served
from stoker.render.models_weights import streamed_from
from stoker.render.objects import resources, restricted_container, restricted_pod
from stoker.render.plan import Plan

Object = dict[str, Any]

RUN = "finetune"
"""The name of the run that the platform brings: of its runtime, its job and its prefix of checkpoints."""
RUN_CONFIG = "training-run"
RUN_FOLDER, RUN_FILE = "/etc/stoker", "/etc/stoker/run.yaml"
SCORE_FILE = "/tmp/score"  # noqa: S108 - the container's own, a volume of the pod

# Our own launcher, since torchrun ends with 1 whatever its processes ended with, and what was saved before its machine
# went could not be told from what failed. Like torchrun it has the number of nodes and the address from PET_* in its
# environment: Trainer v2 and the Training Operator both set them.
TRAIN = ("stoker", "train")
"""Before the run file."""
INTERRUPTED = 75
"""What it ends with when it saved and is not finished: begin again. As in `stoker.train.exits`, which render does not
know; a test holds them together."""
PREPARE = ("stoker", "train", RUN_FILE, "--check")
EVALUATE = ("stoker", "evaluate", RUN_FILE, "--score-file", SCORE_FILE)
REGISTER = ("stoker", "register", RUN_FILE)

EFA = "vpc.amazonaws.com/efa"
PRIORITY_CLASS = "stoker-training"
"""Of component `base`: after everything that serves."""
GRACE_S = 110
"""Ten seconds less than the notice of a spot interruption."""
DO_NOT_DISRUPT = {"karpenter.sh/do-not-disrupt": "true"}
CLAIM = "training-data"
MOUNT = "/fsx"
"""Of the file system, below which `training.data` may be."""
_GIB = 1024**3
_SHM_AT_MOST = 64
_WHOLE_NODE = 8
"""GPUs of the types that have EFA and that nobody shares."""


def checkpoints(plan: Plan) -> str:
    """The bucket of checkpoints. Raises InvalidInput where none is known: its name is needed in the pods."""
    bucket = plan.bucket("checkpoints")
    if bucket is None:
        raise InvalidInput(
            "training.enabled is true, and no bucket for checkpoints is known: training.checkpointing.s3Bucket is null",
            param="training.checkpointing.s3Bucket",
            hint="write the name of a bucket there, or global.cluster.account, which names one",
        )
    return bucket


def run_folder(plan: Plan, run: str = RUN) -> str:
    return f"s3://{checkpoints(plan)}/runs/{run}/"


def image(plan: Plan) -> str:
    return plan.spec.training.image or plan.image("trainer")


def run_text(plan: Plan) -> str:
    """The run file: the same for one machine, TrainJob, PyTorchJob and AWS Batch. On several nodes nothing is begun
    again within the pods: JobSet makes all of them anew, and two who do that would be in each other's way."""
    training, model = plan.spec.training, tuned(plan)
    relaunches = {"relaunches": 0} if training.nodes > 1 else {}
    return to_yaml(
        {
            "name": RUN,
            "base": base(plan),
            "data": data(plan),
            "checkpoints": run_folder(plan),
            "nodes": training.nodes,
            "gpus": training.gpus,
            "prices": {"region": plan.region},
            **relaunches,
            "evaluation": {
                "suites": [{"name": "exam", "data": exam(plan)}],
                "leastScore": training.pipeline.least_score,
            },
            "registerAs": RUN if model is None else model.name,
            "publish": f"s3://{checkpoints(plan)}/registry/",
        }
    )


def data(plan: Plan) -> str:
    return plan.spec.training.data or f"s3://{checkpoints(plan)}/data.jsonl"


def exam(plan: Plan) -> str:
    return plan.spec.training.pipeline.exam or f"s3://{checkpoints(plan)}/exam.jsonl"


def base(plan: Plan) -> str:
    """The weights that are tuned: those of the model that the pipeline puts into service. A cluster that has them in S3
    for its replicas reads them there, unless the pipeline replaces what lies there: a run goes on only from what it
    began with. AWS Batch alone may have no cluster beside it that would bring them there."""
    model = tuned(plan)
    if model is None:
        return WEIGHTS["general"]
    is_there = plan.spec.training.kubeflow and not is_replaced(plan)
    return (streamed_from(plan, model) if is_there else None) or model.weights


def is_replaced(plan: Plan) -> bool:
    """Whether the pipeline puts what it registers where the replicas of the tuned model load it: they stream what lies
    under their name in the bucket of models, unless their weights are a place in S3 of their own."""
    model, training = tuned(plan), plan.spec.training
    if model is None or not model.is_on_gpu or model.weights.startswith("s3://"):
        return False
    runs = training.kubeflow and training.pipeline.enabled
    return runs and plan.cache == "s3" and plan.bucket("models") is not None


def tuned(plan: Plan) -> Served | None:
    """The model that is tuned: the first on a GPU, or else the first at all. None where the cluster serves none."""
    on_gpu = [each for each in plan.served if each.is_on_gpu]
    return next(iter((*on_gpu, *plan.served)), None)


def devices(plan: Plan, *, efa: bool = True) -> dict[str, int | str]:
    pods = plan.training_pods
    found: dict[str, int | str] = {GPU: pods.gpus}
    if efa and pods.efa:
        found[EFA] = pods.efa
    return found


def environment(plan: Plan) -> dict[str, str]:
    """NCCL_SOCKET_IFNAME and NCCL_IB_DISABLE are unset on purpose: NCCL finds the interface of the pod, and EFA comes
    by the plugin of libfabric (guide-errors S19). WORLD_SIZE and RANK are the operator's (S21).

    The provider of EFA takes its buffers from huge pages unless it is told not to, and a pod that requests none may use
    none. It requests none, because Karpenter counts none on any type and launches no node for who asks (but with an
    alpha gate); and with them fork() of data loaders can fail. Ordinary pages are a little slower. Source:
    ofiwg/libfabric, man/fi_efa.7.md; awsome-distributed-training, efa-cheatsheet; aws/karpenter-provider-aws,
    pkg/providers/instancetype/types.go (computeCapacity).
    """
    found = {
        "AWS_REGION": plan.region,
        "AWS_DEFAULT_REGION": plan.region,
        "CHECKPOINT_S3": run_folder(plan),
        "HOME": "/tmp",  # noqa: S108 - the root file system is read-only
        # At its start NCCL says which network it uses, and little else.
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
        "STOKER_STATE": "/tmp/stoker",  # noqa: S108 - a volume of the pod: what has to last is in S3
    }
    if plan.training_pods.efa:
        found |= {"FI_PROVIDER": "efa", "FI_EFA_USE_HUGE_PAGE": "0"}
    return found


def shared_memory_gib(plan: Plan) -> int:
    """Of /dev/shm, which counts as memory of the pod: data loaders and NCCL use it."""
    return max(1, min(_SHM_AT_MOST, bytes_of(plan.training_pods.memory) // _GIB // 8))


def container(plan: Plan, name: str, command: tuple[str, ...]) -> Object:
    """The container of a pod that uses the GPUs."""
    pods = plan.training_pods
    mounts = [
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - as NCCL looks for it
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod
    ]
    if plan.spec.training.storage.enabled:
        mounts.append({"name": "data", "mountPath": MOUNT})
    return {
        "name": name,
        "image": image(plan),
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in environment(plan).items()],
        "resources": resources(pods.cpu, pods.memory, devices=devices(plan)),
        "securityContext": restricted_container(),
        "volumeMounts": mounts,
    }


def volumes(plan: Plan) -> list[Object]:
    found: list[Object] = [
        {"name": "run", "configMap": {"name": RUN_CONFIG}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shared_memory_gib(plan)}Gi"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "50Gi"}},
    ]
    if plan.spec.training.storage.enabled:
        found.append({"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}})
    return found


def pod_spec(plan: Plan, container_name: str, of_one_job: str) -> Object:
    """`of_one_job`: the label whose value the pods of one job share, and no others have."""
    return {
        **plan.training_placement(),
        **_together(plan, of_one_job),
        "serviceAccountName": TRAINING_ACCOUNT,
        "priorityClassName": PRIORITY_CLASS,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": restricted_pod(),
        "containers": [_measured(container(plan, container_name, (*TRAIN, RUN_FILE)))],
        "volumes": volumes(plan),
    }


def _measured(container: Object) -> Object:
    """With a place for /metrics, at which the process of rank 0 answers."""
    where = {"name": "STOKER_TRAIN_METRICS", "value": f"0.0.0.0:{TRAINER_METRICS_PORT}"}
    port = {"name": METRICS_PORT, "containerPort": TRAINER_METRICS_PORT}
    return {**container, "env": [*container["env"], where], "ports": [port]}


def meant(plan: Plan) -> tuple[str, ...]:
    """Comments that say to the linter what is meant, where it would ask."""
    training = plan.spec.training
    found = []
    if not training.efa and training.nodes > 1 and _nodes_have_efa(plan):
        found.append("stoker:ignore STK-TRAINING-001 training.efa is false")
    return tuple(found)


def _nodes_have_efa(plan: Plan) -> bool:
    """As far as is known: of nodes of somebody else, by the GPUs that are asked for."""
    pools = [pool for pool in plan.pools if pool.use == "training"]
    if not pools:
        return plan.spec.training.gpus >= _WHOLE_NODE
    return any(each.efa_count for pool in pools for each in pool.types)


def _together(plan: Plan, of_one_job: str) -> Object:
    """One zone for all pods of a job, where the nodes could be in several: EFA does not cross zones, and traffic that
    does is paid for. Source: Amazon EC2 user guide, Elastic Fabric Adapter (limitations)."""
    zones = [zone for pool in plan.pools if pool.use == "training" for zone in pool.zones]
    if plan.spec.training.nodes == 1 or len(zones) == 1:
        return {}
    term = {
        "topologyKey": ZONE,
        "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "training"}},
        "matchLabelKeys": [of_one_job],
    }
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}

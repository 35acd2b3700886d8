"""STK-TRAINING: the edges of its rules, beside the examples in their docstrings."""

from typing import Any

import pytest
from linted import container, job, messages, node_class, pod, pool, pytorch_job, said

from stoker.spec.faults import written

SPOT = {"karpenter.sh/capacity-type": "spot"}
EFA = "vpc.amazonaws.com/efa"


def trainer(gpus: int = 8, efa: int = 0, **more: Any) -> dict[str, Any]:
    """The pod spec of one role."""
    return {"containers": [container("pytorch", gpus=gpus, efa=efa, **more)]}


def test_efa_by_what_the_types_have() -> None:
    two = pytorch_job(worker=trainer(), workers=2)
    path = written(("spec", "pytorchReplicaSpecs", "Worker", "template", "spec", "containers", 0, "resources"))
    place = f"{path}{written(('x', 'limits', EFA))[1:]}"
    assert said("STK-TRAINING-001", two, pool(types=("p4d.24xlarge", "p5.48xlarge"))) == [
        ("PyTorchJob ai/train", place, "warning")
    ]
    assert said("STK-TRAINING-001", pytorch_job(worker=trainer(1), workers=2), pool(types=("g5.2xlarge",))) == []
    assert said("STK-TRAINING-001", pytorch_job(worker=trainer(), workers=1), pool(types=("p5.48xlarge",))) == []
    assert said("STK-TRAINING-001", two) == [("PyTorchJob ai/train", place, "info")]  # no pool says what the nodes are


@pytest.mark.parametrize(
    ("efa", "types", "severity"),
    [
        (4, ("p4d.24xlarge",), ""),
        (1, ("p4d.24xlarge",), "info"),
        (4, ("p4d.24xlarge", "p5.48xlarge"), ""),  # as many as both have
        (33, ("p5.48xlarge",), "error"),
    ],
)
def test_how_many_efa_devices(efa: int, types: tuple[str, ...], severity: str) -> None:
    found = said("STK-TRAINING-002", pytorch_job(worker=trainer(8, efa), workers=2), pool(types=types))
    assert [how for _, _, how in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("path", "is_said"), [("/opt/amazon/efa", True), ("/opt/amazon/", True), ("/opt/amazon-cloudwatch", False)]
)
def test_software_of_the_host(path: str, is_said: bool) -> None:
    mounted = pod(container(), volumes=[{"name": "a", "hostPath": {"path": path}}])
    assert (said("STK-TRAINING-004", mounted) != []) is is_said


def test_nccl_in_a_pod_of_one_node() -> None:
    """Which has no network between nodes to be kept off."""
    env = [{"name": "NCCL_IB_DISABLE", "value": "1"}]
    assert said("STK-TRAINING-005", pod(container(gpus=8, env=env))) == []
    two = pytorch_job(worker=trainer(env=env), workers=2)
    assert [how for _, _, how in said("STK-TRAINING-005", two)] == ["warning"]
    env[0]["value"] = "0"
    assert said("STK-TRAINING-005", two) == []


def test_eth0_is_right_in_a_pod_and_wrong_on_the_host() -> None:
    env = [{"name": "NCCL_SOCKET_IFNAME", "value": "eth0"}]
    assert said("STK-TRAINING-006", pod(container(gpus=8, env=env))) == []
    assert said("STK-TRAINING-006", pod(container(gpus=8, env=env), hostNetwork=True)) == [
        ("Pod ai/chat", "spec.containers[0].env[0].value", "warning")
    ]
    assert len(said("STK-TRAINING-006", node_class(userData="export NCCL_SOCKET_IFNAME='eth0'\n"))) == 1
    assert said("STK-TRAINING-006", node_class(userData="export NCCL_SOCKET_IFNAME=^docker,lo\n")) == []


def test_p2p_off_without_nvlink_is_a_note() -> None:
    slow = pod(container(gpus=4, env=[{"name": "NCCL_P2P_DISABLE", "value": "1"}]))
    assert [how for _, _, how in said("STK-TRAINING-007", slow)] == ["warning"]
    assert [how for _, _, how in said("STK-TRAINING-007", slow, pool(types=("g5.12xlarge",)))] == ["info"]
    assert [how for _, _, how in said("STK-TRAINING-007", slow, pool(types=("p4d.24xlarge",)))] == ["warning"]


@pytest.mark.parametrize(
    ("user_data", "is_said"),
    [
        ('echo "NCCL_DEBUG=INFO" >> /etc/environment', True),
        ("export NCCL_DEBUG=INFO\n./warm-up", False),  # for the script itself
        ('echo "HTTP_PROXY=http://proxy:3128" >> /etc/environment', False),  # for services of the node
    ],
)
def test_variables_of_the_node(user_data: str, is_said: bool) -> None:
    assert (said("STK-TRAINING-008", node_class(userData=user_data)) != []) is is_said


def test_the_world_that_the_operator_makes() -> None:
    env = [{"name": "WORLD_SIZE", "value": "16"}]
    assert messages("STK-TRAINING-009", pytorch_job(master=trainer(env=env), worker=trainer())) == [
        "WORLD_SIZE=16 is overwritten by the operator, which makes it 2 (2 replicas, nprocPerNode unset)"
    ]
    assert messages("STK-TRAINING-009", pytorch_job(master=trainer(env=env), worker=trainer(), nprocPerNode="8")) == [
        "WORLD_SIZE=16 is overwritten by the operator, which makes it 16 (2 replicas, nprocPerNode 8)"
    ]
    assert messages("STK-TRAINING-009", pytorch_job(master=trainer(env=env), nprocPerNode="auto")) == [
        "WORLD_SIZE=16 is overwritten by the operator"
    ]
    assert messages("STK-TRAINING-009", pod(container(env=env))) == []


def test_processes_that_the_command_names() -> None:
    assert said("STK-TRAINING-010", pytorch_job(worker=trainer())) == [
        ("PyTorchJob ai/train", "spec.nprocPerNode", "warning")
    ]
    assert said("STK-TRAINING-010", pytorch_job(worker=trainer(1))) == []
    told = trainer(command=["torchrun", "--nproc_per_node=8", "train.py"])
    assert said("STK-TRAINING-010", pytorch_job(worker=told)) == []


def test_what_a_worker_lacks() -> None:
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists"}
    master = {**trainer(env=[{"name": "A", "value": "1"}, {"name": "RANK", "value": "0"}]), "tolerations": [toleration]}
    assert messages("STK-TRAINING-011", pytorch_job(master=master, worker=trainer())) == [
        "the Worker lacks what the Master has: env A; toleration of nvidia.com/gpu"
    ]
    assert messages("STK-TRAINING-011", pytorch_job(master=trainer(), worker=master)) == []


def test_a_gang_by_any_of_its_names() -> None:
    def found(**labels: str) -> list[str]:
        two = pytorch_job(worker=trainer(), workers=2)
        two["metadata"]["labels"] = labels
        return [path for _, path, _ in said("STK-TRAINING-012", two)]

    assert found() == ["spec.runPolicy.schedulingPolicy"]
    assert found(**{"kueue.x-k8s.io/queue-name": "training"}) == []
    policy = pytorch_job(worker=trainer(), workers=2, runPolicy={"schedulingPolicy": {"minAvailable": 2}})
    assert said("STK-TRAINING-012", policy) == []
    volcano = pytorch_job(worker={**trainer(), "schedulerName": "volcano"}, workers=2)
    assert said("STK-TRAINING-012", volcano) == []
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "LocalQueue",
        "metadata": {"name": "default", "namespace": "ai"},
    }
    assert said("STK-TRAINING-012", pytorch_job(worker=trainer(), workers=2), queue) == []
    assert said("STK-TRAINING-012", pytorch_job(worker=trainer(), workers=1)) == []
    elastic = pytorch_job(worker=trainer(), workers=2, elasticPolicy={"minReplicas": 1, "maxReplicas": 2})
    assert said("STK-TRAINING-012", elastic) == []


def _runtime(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"template": {"spec": {"containers": [container("node", gpus=8)]}}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": "finetune"},
        "spec": {"template": {"spec": {"replicatedJobs": [{"name": "node", "template": template}]}}, **spec},
    }


def _train_job(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "train", "namespace": "ai"},
        "spec": {"runtimeRef": {"name": "finetune"}, **spec},
    }


def test_a_gang_of_a_train_job() -> None:
    path = written(("metadata", "labels", "kueue.x-k8s.io/queue-name"))
    job_of_two = _train_job(trainer={"numNodes": 2})
    assert said("STK-TRAINING-012", _runtime(), job_of_two) == [("TrainJob ai/train", path, "warning")]
    assert said("STK-TRAINING-012", _runtime(podGroupPolicy={"coscheduling": {}}), job_of_two) == []
    assert said("STK-TRAINING-012", _runtime(), _train_job()) == []


@pytest.mark.parametrize(
    ("env", "volumes", "is_said"),
    [
        ({"CHECKPOINT_DIR": "s3://a/b"}, [], False),
        ({"CHECKPOINT_DIR": "/ckpt"}, [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}], False),
        ({"CHECKPOINT_DIR": "/ckpt/run"}, [{"name": "v", "emptyDir": {}}], True),
        ({"CHECKPOINT_DIR": "/ckpt"}, [{"name": "v", "hostPath": {"path": "/mnt"}}], True),
        ({"CHECKPOINT_DIR": "/elsewhere"}, [{"name": "v", "emptyDir": {}}], True),
        ({"CHECKPOINT_INTERVAL": "100"}, [], False),
        ({"OUTPUT_DIR": "out"}, [], False),  # below a directory that is not known
    ],
)
def test_where_checkpoints_go(env: dict[str, str], volumes: list[Any], is_said: bool) -> None:
    mounts = [{"name": "v", "mountPath": "/ckpt"}] if volumes else []
    writer = container(gpus=1, env=[{"name": k, "value": v} for k, v in env.items()], volumeMounts=mounts)
    assert (said("STK-TRAINING-015", job(writer, volumes=volumes, nodeSelector=SPOT)) != []) is is_said
    assert said("STK-TRAINING-015", job(writer, volumes=volumes)) == []  # not on spot nodes


def test_parts_of_a_pytorch_job() -> None:
    odd = pytorch_job(master=trainer(), worker={"containers": [container("main")]})
    odd["spec"]["pytorchReplicaSpecs"]["Master"]["replicas"] = 2
    odd["spec"]["pytorchReplicaSpecs"]["Chief"] = {"template": {"spec": trainer()}}
    assert [path for _, path, _ in said("STK-TRAINING-016", odd)] == [
        "spec.pytorchReplicaSpecs.Master.replicas",
        "spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].name",
        "spec.pytorchReplicaSpecs.Chief",
    ]


def test_a_runtime_of_the_other_kind() -> None:
    assert said("STK-TRAINING-017", _train_job(), _runtime()) == []
    assert said("STK-TRAINING-017", _train_job()) == [("TrainJob ai/train", "spec.runtimeRef.name", "info")]
    named = {"runtimeRef": {"name": "finetune", "kind": "TrainingRuntime"}}
    assert messages("STK-TRAINING-017", _train_job(**named), _runtime()) == [
        "no TrainingRuntime finetune, but a ClusterTrainingRuntime of that name"
    ]


@pytest.mark.parametrize(
    ("zones", "severity"), [((), "info"), (("us-west-2b",), ""), (("us-west-2a", "us-west-2b"), "warning")]
)
def test_efa_and_zones(zones: tuple[str, ...], severity: str) -> None:
    two = pytorch_job(worker=trainer(8, 4), workers=2)
    training = pool(types=("p4d.24xlarge",), zones=zones)
    assert [how for _, _, how in said("STK-TRAINING-018", two, training)] == ([severity] if severity else [])
    group = node_class(placementGroupSelector={"name": "training"})
    assert said("STK-TRAINING-018", two, training, group) == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["torchrun", "--nproc-per-node=8", "--nnodes=2", "train.py"], []),
        (
            ["torchrun", "--nproc_per_node", "16", "train.py"],
            ["16 processes in each pod, which has 8 GPUs: the others find no GPU"],
        ),
        (
            ["torchrun", "--nnodes", "4", "a.py"],
            ["--nnodes 4, and the job has 2 pods with GPUs: the rendezvous is never complete"],
        ),
        (["torchrun", "--nnodes=1:4", "--nproc-per-node=gpu", "a.py"], []),
        (["python", "--nproc-per-node=1", "train.py"], []),
    ],
)
def test_numbers_of_the_launcher(command: list[str], expected: list[str]) -> None:
    assert messages("STK-TRAINING-019", pytorch_job(worker=trainer(command=command), workers=2)) == expected

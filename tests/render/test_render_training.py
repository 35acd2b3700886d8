"""Training by Kubeflow: what the job's pods ask for, how a lost node counts, and what the queue admits."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.base.errors import InvalidInput
from stoker.render import training, training_queue
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.spec import Mode, loads
from stoker.spec.loading import run_of
from stoker.train import exits, hub, launching

ACCOUNT = 'global: {cluster: {account: "111122223333"}}'
BUCKET = "agentic-ai-cluster-checkpoints-111122223333"


def plan(said: str = "", more: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(f"{ACCOUNT}\ntraining: {{enabled: true, {said}}}\n{more}"), mode)


def rendered(made: Plan) -> dict[str, dict[str, Any]]:
    """Objects by kind and name."""
    items = [each for each in training.render(made) if isinstance(each, Resource)]
    found = {f"{each.object['kind']}/{each.object['metadata']['name']}": each.object for each in items}
    assert len(found) == len(items)
    return found


def pod_of(runtime: dict[str, Any]) -> dict[str, Any]:
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    found: dict[str, Any] = job["template"]["spec"]["template"]
    return found


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}


def test_nothing_without_training_or_where_batch_does_it() -> None:
    assert list(training.render(Plan(loads(ACCOUNT), "karpenter"))) == []
    assert list(training.render(plan("kubeflow: false"))) == []


def test_a_bucket_for_checkpoints_has_to_be_known() -> None:
    with pytest.raises(InvalidInput, match=r"training\.checkpointing\.s3Bucket is null") as caught:
        list(training.render(Plan(loads("training: {enabled: true}"), "karpenter")))
    assert caught.value.param == "training.checkpointing.s3Bucket"
    written = rendered(Plan(loads("training: {enabled: true, checkpointing: {s3Bucket: mine}}"), "karpenter"))
    assert environment(pod_of(written["TrainingRuntime/finetune"]))["CHECKPOINT_S3"] == "s3://mine/runs/finetune/"


def test_all_that_is_rendered() -> None:
    assert list(rendered(plan())) == [
        "ServiceAccount/training",
        "ConfigMap/training-run",
        "ResourceFlavor/agentic-ai-training",
        "ClusterQueue/agentic-ai-training",
        "LocalQueue/training",
        "LocalQueue/held",
        "WorkloadPriorityClass/training",
        "WorkloadPriorityClass/training-urgent",
        "TrainingRuntime/finetune",
        "TrainJob/finetune",
    ]


def test_a_pod_takes_a_node_with_its_network() -> None:
    pod = pod_of(rendered(plan())["TrainingRuntime/finetune"])
    (container,) = pod["spec"]["containers"]
    assert container["resources"] == {
        "requests": {
            "cpu": "93",
            "memory": "1035Gi",
            "nvidia.com/gpu": 8,
            "vpc.amazonaws.com/efa": 4,
        },
        "limits": {
            "memory": "1035Gi",
            "nvidia.com/gpu": 8,
            "vpc.amazonaws.com/efa": 4,
        },
    }
    assert pod["spec"]["nodeSelector"] == {"stoker.dev/serves": "training"}
    assert pod["spec"]["priorityClassName"] == "stoker-training"
    assert pod["spec"]["volumes"][1]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}


def test_without_efa_no_devices_of_it_and_no_provider() -> None:
    pod = pod_of(rendered(plan("efa: false, gpus: 4"))["TrainingRuntime/finetune"])
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 4
    assert set(limits) == {"memory", "nvidia.com/gpu"}
    assert not {"FI_PROVIDER", "FI_EFA_USE_HUGE_PAGE"} & set(environment(pod))
    assert environment(pod_of(rendered(plan())["TrainingRuntime/finetune"]))["FI_PROVIDER"] == "efa"


def test_ranks_and_interfaces_are_left_to_those_who_know_them() -> None:
    """Guide-errors S19 and S21."""
    found = environment(pod_of(rendered(plan())["TrainingRuntime/finetune"]))
    assert not {"WORLD_SIZE", "RANK", "NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE"} & set(found)


def test_a_pod_has_time_for_a_last_checkpoint_and_is_not_moved() -> None:
    pod = pod_of(rendered(plan())["TrainingRuntime/finetune"])
    assert pod["spec"]["terminationGracePeriodSeconds"] == 110
    (command,) = [each["command"] for each in pod["spec"]["containers"]]
    assert command == ["stoker", "train", "/etc/stoker/run.yaml"]
    assert inspect.signature(launching.launch).parameters["grace_s"].default < 110
    assert pod["metadata"]["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}


def test_a_lost_node_and_a_run_that_was_interrupted_restart_all_and_do_not_count() -> None:
    spec = rendered(plan())["TrainingRuntime/finetune"]["spec"]["template"]["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    (container,) = job["template"]["spec"]["containers"]
    assert job["podFailurePolicy"]["rules"] == [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [exits.PREEMPTED]},
        },
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    assert spec["failurePolicy"] == {
        "maxRestarts": 3,
        "restartStrategy": "BlockingRecreate",
        "rules": [
            {
                "name": "disrupted",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["PodFailurePolicy"],
            }
        ],
    }


def test_applying_the_job_starts_nothing() -> None:
    made = rendered(plan())
    job = made["TrainJob/finetune"]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "held"
    assert made["LocalQueue/held"]["spec"]["stopPolicy"] == "Hold"
    assert "stopPolicy" not in made["LocalQueue/training"]["spec"]


def test_nodes_and_processes_of_the_job() -> None:
    made = rendered(plan("nodes: 3, gpus: 4"))
    assert made["TrainingRuntime/finetune"]["spec"]["mlPolicy"] == {"numNodes": 3, "torch": {}}
    assert made["TrainJob/finetune"]["spec"]["trainer"] == {"numNodes": 3, "numProcPerNode": 4}


def test_quotas_are_what_the_pool_holds() -> None:
    (group,) = rendered(plan("nodes: 3"))["ClusterQueue/agentic-ai-training"]["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert {each["name"]: each["nominalQuota"] for each in flavor["resources"]} == {
        "cpu": "279",
        "memory": f"{3 * 1035 * 1024}Mi",
        "nvidia.com/gpu": "24",
        "vpc.amazonaws.com/efa": "12",
    }
    assert group["coveredResources"] == [each["name"] for each in flavor["resources"]]


@pytest.mark.parametrize("said", ["", "efa: false, gpus: 4", "nodes: 1, gpus: 2, efa: false"])
def test_a_job_fits_its_quota_in_every_resource(said: str) -> None:
    """A resource that no quota covers keeps a job waiting for ever."""
    made = rendered(plan(said))
    covered = made["ClusterQueue/agentic-ai-training"]["spec"]["resourceGroups"][0]["coveredResources"]
    asked = pod_of(made["TrainingRuntime/finetune"])["spec"]["containers"][0]["resources"]["requests"]
    assert sorted(covered) == sorted(asked)


def test_pods_share_nodes_where_they_leave_room_and_the_quota_knows() -> None:
    made = plan("gpus: 4, efa: false, nodes: 2")
    (pool,) = [each for each in made.pools if each.use == "training"]
    gpus = int(pool.limits["nvidia.com/gpu"])
    found = training_queue.quotas(made)
    assert found["nvidia.com/gpu"] == str(gpus)
    assert found["cpu"] == str(gpus // 4 * int(made.training_pods.cpu))


def test_one_zone_for_a_job_where_the_nodes_have_several() -> None:
    pool = "karpenter: {{nodePools: {{gpu: {{}}, t: {{use: training, instanceFamilies: [p4d], zones: [{}]}}}}}}"
    one = plan(more=pool.format("us-west-2a"))
    assert "affinity" not in pod_of(rendered(one)["TrainingRuntime/finetune"])["spec"]
    two = plan(more=pool.format("us-west-2a, us-west-2b"))
    (term,) = pod_of(rendered(two)["TrainingRuntime/finetune"])["spec"]["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term == {
        "topologyKey": "topology.kubernetes.io/zone",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "training"}},
        "matchLabelKeys": ["jobset.sigs.k8s.io/jobset-name"],
    }
    single = plan("nodes: 1", pool.format("us-west-2a, us-west-2b"))
    assert "affinity" not in pod_of(rendered(single)["TrainingRuntime/finetune"])["spec"]


def test_nodes_of_somebody_else_have_no_labels_of_ours() -> None:
    made = rendered(plan(more="karpenter: {enabled: false}"))
    assert "nodeLabels" not in made["ResourceFlavor/agentic-ai-training"]["spec"]
    assert "nodeSelector" not in pod_of(made["TrainingRuntime/finetune"])["spec"]
    ours = rendered(plan())["ResourceFlavor/agentic-ai-training"]["spec"]
    assert ours["nodeLabels"] == {"stoker.dev/serves": "training"}


def test_the_run_file() -> None:
    text = rendered(plan("nodes: 1"))["ConfigMap/training-run"]["data"]["run.yaml"]
    assert yaml.safe_load(text) == {
        "name": "finetune",
        "base": "Qwen/Qwen3-8B",
        "data": f"s3://{BUCKET}/data.jsonl",
        "checkpoints": f"s3://{BUCKET}/runs/finetune/",
        "nodes": 1,
        "gpus": 8,
        "prices": {"region": "us-west-2"},
        "evaluation": {"suites": [{"name": "exam", "data": f"s3://{BUCKET}/exam.jsonl"}], "leastScore": 0.8},
        "registerAs": "general",
        "publish": f"s3://{BUCKET}/registry/",
    }
    own = rendered(plan('data: "s3://corpus/a.jsonl"'))["ConfigMap/training-run"]["data"]["run.yaml"]
    assert yaml.safe_load(own)["data"] == "s3://corpus/a.jsonl"


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*/*/training/run.yaml"))


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.parts[-4])
def test_the_run_file_of_each_example_is_one_that_train_takes(file: Path, tmp_path: Path) -> None:
    run = run_of(yaml.safe_load(file.read_text())["data"]["run.yaml"], "run.yaml")
    assert run.name == "finetune"
    assert run.base.startswith("s3://") or hub.is_meant(run.base, tmp_path)
    for place in (*run.data, run.checkpoints, run.publish):
        assert str(place).startswith("s3://")


def test_there_are_examples_with_a_run_file() -> None:
    assert len(GOLDEN) >= 2


@pytest.mark.parametrize(
    ("said", "more", "base"),
    [
        ("", "", "Qwen/Qwen3-8B"),  # the pipeline replaces what lies in S3
        ("pipeline: {enabled: false}", "", "s3://agentic-ai-cluster-models-111122223333/general/"),
        ("pipeline: {enabled: false}", "llm: {inference: {cache: {kind: node}}}", "Qwen/Qwen3-8B"),
    ],
)
def test_weights_that_lie_in_s3_are_read_there(said: str, more: str, base: str) -> None:
    text = rendered(plan(said, more))["ConfigMap/training-run"]["data"]["run.yaml"]
    assert run_of(text, "run.yaml").base == base


def test_on_several_nodes_only_the_job_set_begins_again() -> None:
    def relaunches(said: str) -> int:
        return run_of(rendered(plan(said))["ConfigMap/training-run"]["data"]["run.yaml"], "run.yaml").relaunches

    assert relaunches("nodes: 2") == 0
    assert relaunches("nodes: 1") == 3


def test_the_run_tunes_the_first_model_on_a_gpu() -> None:
    models = "llm: {models: {tiny: {serving: {gpu: {count: 0}}}, big: {task: code}}}\ngateway: {defaultModel: big}"
    text = rendered(plan(more=models))["ConfigMap/training-run"]["data"]["run.yaml"]
    assert yaml.safe_load(text)["base"] == "Qwen/Qwen2.5-Coder-7B-Instruct"


def test_the_image() -> None:
    def image(made: Plan) -> str:
        found: str = pod_of(rendered(made)["TrainingRuntime/finetune"])["spec"]["containers"][0]["image"]
        return found

    assert image(plan()) == plan().image("trainer")
    assert image(plan("image: 'mine/trainer:v1'")) == "mine/trainer:v1"


def test_a_file_system_is_mounted_where_it_is_asked_for() -> None:
    assert not [each for each in rendered(plan()) if each.startswith("PersistentVolume")]
    storage = "storage: {enabled: true, fileSystem: fs-0123abcd, mountName: abcdef, size: 2400Gi}"
    made = rendered(plan(storage))
    volume, claim = (
        made["PersistentVolume/agentic-ai-training-training-data"],
        made["PersistentVolumeClaim/training-data"],
    )
    assert volume["spec"]["csi"] == {
        "driver": "fsx.csi.aws.com",
        "volumeHandle": "fs-0123abcd",
        "volumeAttributes": {"dnsname": "fs-0123abcd.fsx.us-west-2.amazonaws.com", "mountname": "abcdef"},
    }
    assert volume["spec"]["capacity"] == claim["spec"]["resources"]["requests"] == {"storage": "2400Gi"}
    assert volume["spec"]["claimRef"] == {"namespace": "agentic-ai-training", "name": "training-data"}
    assert volume["spec"]["mountOptions"] == ["flock"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = pod_of(made["TrainingRuntime/finetune"])["spec"]
    assert {"name": "data", "mountPath": "/fsx"} in spec["containers"][0]["volumeMounts"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "training-data"}} in spec["volumes"]


ON_FSX = "storage: {enabled: true, fileSystem: fs-0123abcd}, data: /fsx/corpus/train.jsonl"


def test_data_on_the_file_system_is_what_the_run_reads() -> None:
    text = rendered(plan(ON_FSX))["ConfigMap/training-run"]["data"]["run.yaml"]
    assert yaml.safe_load(text)["data"] == "/fsx/corpus/train.jsonl"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("data: /fsx/train.jsonl", "a file system that nothing mounts; write storage.enabled true"),
        (ON_FSX + ", batch: {enabled: true}", "AWS Batch mounts no file system"),
        (ON_FSX + ", kubeflow: false", "AWS Batch mounts no file system"),
        (ON_FSX.replace("/fsx/corpus", "/fsx/.."), "such as s3://bucket/train.jsonl or /fsx/train.jsonl"),
        (ON_FSX.replace("/fsx/corpus", "/home"), "such as s3://bucket/train.jsonl or /fsx/train.jsonl"),
    ],
)
def test_data_that_no_job_could_read_is_refused(said: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(why)):
        plan(said)


def test_aws_batch_without_training_is_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidInput, match=r"write training\.enabled true, and training\.kubeflow false") as caught:
        loads("training: {batch: {enabled: true}}")
    assert "training.batch.enabled" in str(caught.value)


def test_in_china_the_file_system_has_another_domain() -> None:
    text = "global: {cluster: {region: cn-north-1}}\ntraining: {enabled: true, checkpointing: {s3Bucket: mine}, "
    made = rendered(Plan(loads(text + "storage: {enabled: true, fileSystem: fs-0123abcd}}"), "karpenter"))
    attributes = made["PersistentVolume/agentic-ai-training-training-data"]["spec"]["csi"]["volumeAttributes"]
    assert attributes["dnsname"] == "fs-0123abcd.fsx.cn-north-1.amazonaws.com.cn"


def test_a_pytorch_job_for_clusters_that_have_the_older_operator() -> None:
    made = rendered(plan("legacyPytorchJob: true, nodes: 3"))
    assert "TrainJob/finetune" not in made
    spec = made["PyTorchJob/finetune"]["spec"]
    assert spec["nprocPerNode"] == "8"
    assert spec["runPolicy"] == {"suspend": True, "cleanPodPolicy": "Running", "backoffLimit": 3}
    master, worker = spec["pytorchReplicaSpecs"]["Master"], spec["pytorchReplicaSpecs"]["Worker"]
    assert (master["replicas"], worker["replicas"]) == (1, 2)
    assert master["template"] == worker["template"]
    assert master["template"]["spec"]["containers"][0]["name"] == "pytorch"
    assert "WORLD_SIZE" not in environment(master["template"])


def test_a_pytorch_job_of_one_node_has_no_workers() -> None:
    spec = rendered(plan("legacyPytorchJob: true, nodes: 1"))["PyTorchJob/finetune"]["spec"]
    assert list(spec["pytorchReplicaSpecs"]) == ["Master"]


@pytest.mark.parametrize(
    ("said", "more", "comment"),
    [
        ("efa: false", "", True),
        ("efa: false, nodes: 1", "", False),
        ("", "", False),
        ("efa: false", "karpenter: {enabled: false}", True),
        ("efa: false, gpus: 4", "karpenter: {enabled: false}", False),
        ("efa: false, gpus: 1", "karpenter: {nodePools: {t: {use: training, instanceFamilies: [g4dn], "
         "maxUsdPerHourPerNode: 1}}}\nllm: {inference: {enabled: false}}", False),
    ],
)  # fmt: skip
def test_the_linter_is_told_that_no_efa_is_meant_only_where_it_would_ask(said: str, more: str, comment: bool) -> None:
    items = [each for each in training.render(plan(said, more)) if isinstance(each, Resource)]
    (runtime,) = [each for each in items if each.object["kind"] == "TrainingRuntime"]
    assert ("stoker:ignore STK-TRAINING-001" in runtime.comment) is comment


@pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
def test_efa_takes_ordinary_pages_since_no_node_is_launched_for_huge_ones(mode: Mode) -> None:
    pod = pod_of(rendered(plan(mode=mode))["TrainingRuntime/finetune"])

    assert environment(pod)["FI_EFA_USE_HUGE_PAGE"] == "0"
    assert set(pod["spec"]["containers"][0]["resources"]["limits"]) == {
        "memory", "nvidia.com/gpu", "vpc.amazonaws.com/efa"
    }  # fmt: skip


def test_the_region_has_the_name_that_boto3_reads_and_the_one_that_others_read() -> None:
    found = environment(pod_of(rendered(plan())["TrainingRuntime/finetune"]))

    assert (found["AWS_REGION"], found["AWS_DEFAULT_REGION"]) == ("us-west-2", "us-west-2")

"""AWS Batch: where it runs, what a job asks for, and what its shell does on which node."""

import email
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.render import batch
from stoker.render.hcl import Block, Raw
from stoker.render.items import Terraform, Variable
from stoker.render.plan import Plan
from stoker.render.writing import files
from stoker.spec import loads
from stoker.train import exits

ACCOUNT = 'global: {cluster: {account: "111122223333"}}'
SPOT = "batch: {enabled: true, spot: true}, nodes: 1"


def plan(said: str = "kubeflow: false", more: str = "", first: str = ACCOUNT) -> Plan:
    return Plan(loads(f"{first}\ntraining: {{enabled: true, {said}}}\n{more}"), "karpenter")


def blocks(made: Plan) -> dict[str, Block]:
    return {".".join(each.block.labels): each.block for each in batch.render(made) if isinstance(each, Terraform)}


def inside(block: Block, kind: str) -> list[Block]:
    return [each for each in block.blocks if each.type == kind]


def resources_of(made: Plan) -> Any:
    (found,) = inside(blocks(made)["aws_batch_compute_environment.training"], "compute_resources")
    return found.attributes


def container_of(made: Plan) -> dict[str, Any]:
    attributes = blocks(made)["aws_batch_job_definition.training"].attributes
    if "container_properties" in attributes:
        single: dict[str, Any] = attributes["container_properties"].value
        return single
    (group,) = attributes["node_properties"].value["nodeRangeProperties"]
    found: dict[str, Any] = group["container"]
    return found


def environment(made: Plan) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container_of(made)["environment"]}


def test_when_it_is_rendered() -> None:
    assert list(batch.render(Plan(loads(ACCOUNT), "karpenter"))) == []
    assert list(batch.render(plan("kubeflow: true"))) == []
    assert "aws_batch_job_queue.training" in blocks(plan("kubeflow: false"))
    assert "aws_batch_job_queue.training" in blocks(plan("batch: {enabled: true}"))


def test_several_nodes_run_on_demand_of_one_type_close_together() -> None:
    found = resources_of(plan())
    assert found["type"] == "EC2"
    assert found["instance_type"] == ["p4d.24xlarge"]
    assert found["max_vcpus"] == 192
    assert found["placement_group"] == Raw("aws_placement_group.training.name")
    assert blocks(plan())["aws_placement_group.training"].attributes["strategy"] == "cluster"


def test_several_nodes_are_never_on_spot_though_a_spec_said_so() -> None:
    """The spec refuses it; what is rendered does not depend on that."""
    spec = plan("batch: {enabled: true}").spec
    training = spec.training.model_copy(update={"batch": spec.training.batch.model_copy(update={"spot": True})})
    assert resources_of(Plan(spec.model_copy(update={"training": training}), "karpenter"))["type"] == "EC2"


def test_one_node_may_be_on_spot() -> None:
    found = resources_of(plan(SPOT))
    assert (found["type"], found["allocation_strategy"]) == ("SPOT", "SPOT_PRICE_CAPACITY_OPTIMIZED")
    (pool,) = [each for each in plan(SPOT).pools if each.use == "training"]
    assert found["instance_type"] == [each.name for each in pool.types]
    assert len(found["instance_type"]) > 1
    assert "placement_group" not in found
    assert resources_of(plan("kubeflow: false, nodes: 1"))["type"] == "EC2"


def test_security_groups_stand_in_one_place() -> None:
    """An interface of a launch template has its own, and the environment must then have none."""
    groups = Raw("var.training_security_group_ids")
    assert "security_group_ids" not in resources_of(plan())
    interfaces = inside(blocks(plan())["aws_launch_template.training"], "network_interfaces")
    assert [each.attributes["security_groups"] for each in interfaces] == [groups] * 4
    for without in (plan("kubeflow: false, efa: false"), plan("kubeflow: false, nodes: 1")):
        assert resources_of(without)["security_group_ids"] == groups
        assert inside(blocks(without)["aws_launch_template.training"], "network_interfaces") == []


def test_an_efa_interface_for_each_card_and_its_device_in_the_container() -> None:
    interfaces = [
        each.attributes for each in inside(blocks(plan())["aws_launch_template.training"], "network_interfaces")
    ]
    assert [each["network_card_index"] for each in interfaces] == [0, 1, 2, 3]
    assert [each["device_index"] for each in interfaces] == [0, 1, 1, 1]
    assert [each["interface_type"] for each in interfaces] == ["efa", "efa-only", "efa-only", "efa-only"]
    devices = container_of(plan())["linuxParameters"]["devices"]
    assert [each["hostPath"] for each in devices] == [f"/dev/infiniband/uverbs{number}" for number in range(4)]
    assert environment(plan())["FI_PROVIDER"] == "efa"
    assert environment(plan())["FI_EFA_USE_HUGE_PAGE"] == "0"
    assert "devices" not in container_of(plan("kubeflow: false, nodes: 1"))["linuxParameters"]
    assert not [each for each in environment(plan("kubeflow: false, nodes: 1")) if each.startswith("FI_")]


def test_the_first_card_of_a_p6_b300_has_no_efa() -> None:
    made = plan(more="karpenter: {nodePools: {gpu: {}, t: {use: training, instanceFamilies: [p6-b300]}}}")
    first, *others = [
        each.attributes for each in inside(blocks(made)["aws_launch_template.training"], "network_interfaces")
    ]
    assert (first["network_card_index"], first["device_index"], "interface_type" in first) == (0, 0, False)
    assert [each["network_card_index"] for each in others] == list(range(1, 17))
    assert {(each["device_index"], each["interface_type"]) for each in others} == {(0, "efa-only")}


def test_the_keys_of_the_pool() -> None:
    pool = "karpenter: {nodePools: {gpu: {}, t: {use: training, instanceFamilies: [p5], volume: 500Gi, "
    made = plan(more=pool + "placementGroup: near, capacityReservation: cr-0123abcd}}}")
    assert resources_of(made)["placement_group"] == "near"
    assert "aws_placement_group.training" not in blocks(made)
    template = blocks(made)["aws_launch_template.training"]
    (disk,) = inside(template, "block_device_mappings")
    assert disk.blocks[0].attributes["volume_size"] == 500
    (reservation,) = inside(template, "capacity_reservation_specification")
    assert reservation.blocks[0].attributes == {"capacity_reservation_id": "cr-0123abcd"}
    assert container_of(made)["instanceType"] == "p5.48xlarge"


def test_a_multi_node_job() -> None:
    attributes = blocks(plan("kubeflow: false, nodes: 3"))["aws_batch_job_definition.training"].attributes
    assert attributes["type"] == "multinode"
    properties = attributes["node_properties"].value
    assert (properties["numNodes"], properties["mainNode"]) == (3, 0)
    assert [each["targetNodes"] for each in properties["nodeRangeProperties"]] == ["0:2"]
    assert blocks(plan(SPOT))["aws_batch_job_definition.training"].attributes["type"] == "container"


def test_what_the_container_asks_for() -> None:
    made = plan("kubeflow: false, image: 'mine/trainer:v1'")
    found = container_of(made)
    assert {each["type"]: each["value"] for each in found["resourceRequirements"]} == {
        "GPU": "8",
        "VCPU": "93",
        "MEMORY": str(1035 * 1024),
    }
    assert found["image"] == "mine/trainer:v1"
    assert found["linuxParameters"]["sharedMemorySize"] == 64 * 1024
    assert not {"vcpus", "memory"} & set(found)
    four = container_of(plan("kubeflow: false, gpus: 4, efa: false"))
    assert {"type": "GPU", "value": "4"} in four["resourceRequirements"]


def test_only_what_the_host_did_and_what_was_saved_before_it_went_is_tried_again() -> None:
    (retry,) = inside(blocks(plan(SPOT))["aws_batch_job_definition.training"], "retry_strategy")
    assert [each.attributes for each in retry.blocks] == [
        {"action": "RETRY", "on_status_reason": "Host EC2*"},
        {"action": "RETRY", "on_exit_code": str(exits.PREEMPTED)},
        {"action": "EXIT", "on_reason": "*"},
    ]
    assert retry.attributes == {"attempts": 5}


def test_a_host_that_goes_takes_no_new_job() -> None:
    """The next attempt would begin on it, and be told at once to end."""
    said = blocks(plan(SPOT))["aws_launch_template.training"].attributes["user_data"]
    assert isinstance(said, Raw)
    text = json.loads(said.text.removeprefix("base64encode(").removesuffix(")"))
    message = email.message_from_string(text)
    (script,) = message.walk() if not message.is_multipart() else message.get_payload()
    assert script.get_content_type() == "text/x-shellscript"
    assert "echo ECS_ENABLE_SPOT_INSTANCE_DRAINING=true >> /etc/ecs/ecs.config" in script.get_payload()
    assert "${" not in text
    assert "user_data" not in blocks(plan())["aws_launch_template.training"].attributes


def test_a_job_may_read_the_data_and_write_checkpoints_and_nothing_else() -> None:
    mine = "arn:aws:s3:::agentic-ai-cluster-checkpoints-111122223333"
    read, listed, kept = batch.job_policy(plan('kubeflow: false, data: "s3://corpus/a/"'))["Statement"]
    assert (read["Action"], read["Resource"]) == (["s3:GetObject"], ["arn:aws:s3:::corpus/a/*"])
    assert (listed["Action"], listed["Resource"]) == (["s3:ListBucket"], [mine, "arn:aws:s3:::corpus"])
    assert kept["Resource"] == [f"{mine}/runs/*"]
    assert not [action for each in (read, listed, kept) for action in each["Action"] if "*" in action]
    assert batch.job_policy(plan())["Statement"][0]["Resource"] == [f"{mine}/data.jsonl"]
    assert batch.job_policy(plan('kubeflow: false, data: "s3://corpus"'))["Statement"][0]["Resource"] == [
        "arn:aws:s3:::corpus/*"
    ]
    own = plan(more='llm: {models: {own: {serving: {weights: "s3://weights/own"}}}}\ngateway: {defaultModel: own}')
    assert batch.job_policy(own)["Statement"][0]["Resource"] == [f"{mine}/data.jsonl", "arn:aws:s3:::weights/own/*"]
    assert batch.job_policy(own)["Statement"][1]["Resource"] == [mine, "arn:aws:s3:::weights"]


def test_arns_are_of_the_partition() -> None:
    china = 'global: {cluster: {account: "111122223333", region: cn-north-1}}'
    found = blocks(plan(first=china))["aws_iam_role_policy_attachment.batch_instance"].attributes["policy_arn"]
    assert found == "arn:aws-cn:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"


@pytest.mark.parametrize(
    ("node", "address", "expected"), [("0", None, "10.0.0.7"), ("1", "10.0.0.5", "10.0.0.5")], ids=["main", "child"]
)
def test_the_shell_finds_the_main_node(tmp_path: Path, node: str, address: str | None, expected: str) -> None:
    """The variable with its address is set on the other nodes only."""
    (tmp_path / "stoker").write_text('#!/bin/sh\necho "$PET_NODE_RANK $PET_MASTER_ADDR $PET_NNODES $*"\n')
    (tmp_path / "hostname").write_text("#!/bin/sh\necho 10.0.0.7 172.17.0.1\n")
    for name in ("stoker", "hostname"):
        (tmp_path / name).chmod(0o755)
    shell, flags, script = container_of(plan())["command"]
    env = {**environment(plan()), "PATH": f"{tmp_path}:/usr/bin:/bin", "AWS_BATCH_JOB_NODE_INDEX": node}
    if address is not None:
        env["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = address
    here = script.replace("/tmp/run.yaml", str(tmp_path / "run.yaml"))
    done = subprocess.run([shell, flags, here], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{node} {expected} 2 train {tmp_path / 'run.yaml'}\n"
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["name"] == "finetune"


def test_the_shell_has_nothing_that_terraform_would_take_for_its_own() -> None:
    for said in ("kubeflow: false", SPOT):
        assert "${" not in json.dumps(container_of(plan(said))["command"])


def test_what_whoever_applies_it_has_to_give() -> None:
    variables = {each.name: each for each in batch.render(plan()) if isinstance(each, Variable)}
    assert list(variables) == ["training_subnet_ids", "training_security_group_ids", "training_image_id"]
    assert "all in one zone" in variables["training_subnet_ids"].description
    assert variables["training_image_id"].default == ""


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
@pytest.mark.parametrize("said", ["kubeflow: false", SPOT, "kubeflow: false, efa: false"])
def test_it_is_written_as_terraform_would(tmp_path: Path, said: str) -> None:
    for name, text in files(batch.render(plan(said))).items():
        (tmp_path / Path(name).name).write_text(text)
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")

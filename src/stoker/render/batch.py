"""Training by AWS Batch, without Kubernetes: `terraform/batch.tf`.

One job definition: a container on one node, or a multi-node job. Multi-node jobs run on demand: Batch has none on spot.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.manifests.quantities import bytes_of
from stoker.render import types
from stoker.render.facts import FIRST_CARD_WITHOUT_EFA, Pool, short
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Terraform, Variable
from stoker.render.plan import Plan
from stoker.render.surroundings import Around
from stoker.render.training_pods import (
    INTERRUPTED,
    RUN,
    TRAIN,
    base,
    checkpoints,
    data,
    environment,
    image,
    run_text,
    shared_memory_gib,
)

_FILE = "terraform/batch.tf"
_MIB, _GIB = 1024**2, 1024**3
_RUN_FILE = "/tmp/run.yaml"  # noqa: S108 - the container's own
_LONGEST_S = 7 * 86400
_PORT = 29500
_AMI = "ECS_AL2023_NVIDIA"

# The shell is called by name: Batch hands a command to the container as it is, and expands nothing in it. The address
# of the main node is known to the others only (guide-errors E18). No ${...}: that is Terraform's own.
_WRITE_RUN = f"""printf '%s' "$STOKER_RUN" > {_RUN_FILE}"""
_RENDEZVOUS = """\
export PET_NODE_RANK="$AWS_BATCH_JOB_NODE_INDEX" PET_MASTER_ADDR="$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
if [ -z "$PET_MASTER_ADDR" ]; then export PET_MASTER_ADDR="$(hostname -i | cut -d' ' -f1)"; fi"""

# A host that has two minutes left takes no more jobs: the next attempt would begin there, and be told to end at once.
# ECS' agent does that only when it is told to; Batch takes user data in this form alone. Source: Amazon ECS developer
# guide, spot-instance-draining-linux-container; AWS Batch user guide, launch-templates.
_DRAINS = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: text/x-shellscript; charset="us-ascii"

#!/bin/bash
echo ECS_ENABLE_SPOT_INSTANCE_DRAINING=true >> /etc/ecs/ecs.config
--//--
"""


def render(plan: Plan) -> Iterator[Item]:
    training = plan.spec.training
    if not training.enabled or (training.kubeflow and not training.batch.enabled):
        return
    pool = types.training_pool(plan)
    yield from _variables(plan)
    yield from (Terraform(_FILE, block) for block in _roles(plan))
    if _is_multi_node(plan) and pool.said.placement_group is None:
        placement = {"name": _name(plan), "strategy": "cluster", "tags": plan.tags}
        yield Terraform(_FILE, Block("resource", ("aws_placement_group", "training"), placement))
    yield Terraform(_FILE, launch_template(plan, pool), _network_comment(plan))
    yield Terraform(_FILE, compute_environment(plan, pool), _capacity_comment(plan))
    yield Terraform(_FILE, job_queue(plan))
    yield Terraform(
        _FILE,
        job_definition(plan, pool),
        f"A run is started by\naws batch submit-job --job-name {RUN} \\\n"
        f"--job-queue {_name(plan)} \\\n--job-definition {_name(plan)}",
    )


def _is_multi_node(plan: Plan) -> bool:
    return plan.spec.training.nodes > 1


def _is_on_spot(plan: Plan) -> bool:
    """The spec refuses spot with several nodes; the node is asked again so that no file can say otherwise."""
    return plan.spec.training.batch.spot and not _is_multi_node(plan)


def _has_efa(plan: Plan) -> bool:
    return _is_multi_node(plan) and plan.training_pods.efa > 0


def _name(plan: Plan) -> str:
    return short(plan.cluster, "training")


def _types(plan: Plan, pool: Pool) -> list[str]:
    """All nodes of a multi-node job are of one type: the cheapest."""
    return [each.name for each in pool.types[: 1 if _is_multi_node(plan) else None]]


def _network_comment(plan: Plan) -> str:
    return "An EFA interface on each network card; the image of the node needs EFA's driver." if _has_efa(plan) else ""


def _capacity_comment(plan: Plan) -> str:
    if _is_multi_node(plan):
        return "On demand: AWS Batch does not run multi-node jobs on spot."
    return ""


def _variables(plan: Plan) -> Iterator[Variable]:
    yield from _subnets(plan).asked(plan)
    yield from _GROUPS.asked(plan)
    yield Variable("training_image_id", "string", f"AMI of the nodes that train. Empty: AWS Batch's own ({_AMI})", "")


def _subnets(plan: Plan) -> Around:
    """Multi-node jobs are in one zone: that of the pool, or the first that the cluster has."""
    if not _is_multi_node(plan):
        said, made = "Private subnets of the nodes that train", "values(aws_subnet.private)[*].id"
    else:
        zone = next(iter(types.training_pool(plan).zones), plan.zones[0])
        said, made = "Private subnets of the nodes that train, all in one zone", f'[aws_subnet.private["{zone}"].id]'
    return Around(Variable("training_subnet_ids", "list(string)", said), made)


_GROUPS = Around(
    Variable(
        "training_security_group_ids",
        "list(string)",
        "Security groups of the nodes that train; with EFA they allow all traffic among themselves, in and out",
    ),
    "[aws_security_group.nodes.id]",
)


def _roles(plan: Plan) -> Iterator[Block]:
    """The node's role is the one of ECS; what the job may read and write is the job's own.

    Source: AWS Batch user guide, instance_IAM_role.
    """
    managed = f"arn:{plan.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
    yield _role(plan, "batch_instance", "batch-instance", "ec2.amazonaws.com")
    attached = {"role": Raw("aws_iam_role.batch_instance.name"), "policy_arn": managed}
    yield Block("resource", ("aws_iam_role_policy_attachment", "batch_instance"), attached)
    profile = {"name": _role_name(plan, "batch-instance"), "role": Raw("aws_iam_role.batch_instance.name")}
    yield Block("resource", ("aws_iam_instance_profile", "batch_instance"), {**profile, "tags": plan.tags})
    yield _role(plan, "batch_job", "batch-job", "ecs-tasks.amazonaws.com")
    policy = {"name": "data", "role": Raw("aws_iam_role.batch_job.id"), "policy": Json(job_policy(plan))}
    yield Block("resource", ("aws_iam_role_policy", "batch_job"), policy)


def _role(plan: Plan, label: str, name: str, service: str) -> Block:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
    trust = {"Version": "2012-10-17", "Statement": [statement]}
    attributes = {"name": _role_name(plan, name), "assume_role_policy": Json(trust), "tags": plan.tags}
    return Block("resource", ("aws_iam_role", label), attributes)


def _role_name(plan: Plan, name: str) -> str:
    return short(plan.cluster, plan.region, name)


def job_policy(plan: Plan) -> dict[str, Any]:
    """Read the data and the base model; read, write and delete (old ones) below the prefix of checkpoints."""
    bucket = f"arn:{plan.partition}:s3:::{checkpoints(plan)}"
    places = [data(plan), *([f"{base(plan).rstrip('/')}/"] if base(plan).startswith("s3://") else [])]
    read, listed = [], [bucket]
    for place in places:
        name, _, key = place.removeprefix("s3://").partition("/")
        arn = f"arn:{plan.partition}:s3:::{name}"
        read.append(f"{arn}/{key}{'*' if key.endswith('/') or not key else ''}")
        listed.append(arn)
    kept = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": read},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": sorted(set(listed))},
            {"Effect": "Allow", "Action": kept, "Resource": [f"{bucket}/runs/*"]},
        ],
    }


def launch_template(plan: Plan, pool: Pool) -> Block:
    disk = {
        "volume_size": -(-bytes_of(pool.said.volume) // _GIB),
        "volume_type": "gp3",
        "encrypted": True,
        "delete_on_termination": True,
    }
    # A container on the bridge is one hop away: on spot the trainer asks for the notice there.
    metadata = {"http_tokens": "required", "http_put_response_hop_limit": 2 if _is_on_spot(plan) else 1}
    blocks = [
        Block("block_device_mappings", (), {"device_name": "/dev/xvda"}, [Block("ebs", (), disk)]),
        Block("metadata_options", (), metadata),
    ]
    if pool.said.capacity_reservation is not None:
        target = Block("capacity_reservation_target", (), {"capacity_reservation_id": pool.said.capacity_reservation})
        blocks.append(Block("capacity_reservation_specification", (), {}, [target]))
    if _has_efa(plan):
        blocks += _efa_interfaces(plan, _types(plan, pool)[0], plan.training_pods.efa)
    blocks.append(Block("tag_specifications", (), {"resource_type": "instance", "tags": plan.tags}))
    attributes: dict[str, Any] = {"name": _name(plan), "update_default_version": True}
    if _is_on_spot(plan):
        attributes["user_data"] = Raw(f"base64encode({json.dumps(_DRAINS)})")
    attributes["tags"] = plan.tags
    return Block("resource", ("aws_launch_template", "training"), attributes, blocks)


def _efa_interfaces(plan: Plan, instance_type: str, number: int) -> list[Block]:
    """The first carries IP as well, and the others need no address: a p5 has 32.

    Source: Amazon EC2 user guide, efa-acc-inst-types.
    """
    if instance_type.startswith(FIRST_CARD_WITHOUT_EFA):
        return [_interface(plan, 0, 0), *(_interface(plan, card, 0, "efa-only") for card in range(1, number + 1))]
    return [_interface(plan, 0, 0, "efa"), *(_interface(plan, card, 1, "efa-only") for card in range(1, number))]


def _interface(plan: Plan, card: int, device: int, kind: str | None = None) -> Block:
    attributes: dict[str, Any] = {
        "network_card_index": card,
        "device_index": device,
        **({"interface_type": kind} if kind else {}),
        "delete_on_termination": True,
        "security_groups": _GROUPS.value(plan),
    }
    return Block("network_interfaces", (), attributes)


def compute_environment(plan: Plan, pool: Pool) -> Block:
    """It has no name of its own: a change that needs a new one makes that first. With interfaces in the launch
    template, the security groups are theirs, as in aws-samples/aws-batch-efa and awsome-distributed-training."""
    on_spot = _is_on_spot(plan)
    vcpus = plan.spec.training.nodes * max(each.vcpu for each in pool.types)
    used: dict[str, Any] = {
        "type": "SPOT" if on_spot else "EC2",
        "allocation_strategy": "SPOT_PRICE_CAPACITY_OPTIMIZED" if on_spot else "BEST_FIT_PROGRESSIVE",
        "instance_role": Raw("aws_iam_instance_profile.batch_instance.arn"),
        "instance_type": _types(plan, pool),
        "min_vcpus": 0,
        "max_vcpus": vcpus,
        "subnets": _subnets(plan).value(plan),
    }
    if not _has_efa(plan):
        used["security_group_ids"] = _GROUPS.value(plan)
    if _is_multi_node(plan):
        used["placement_group"] = pool.said.placement_group or Raw("aws_placement_group.training.name")
    template = {
        "launch_template_id": Raw("aws_launch_template.training.id"),
        "version": Raw("aws_launch_template.training.latest_version"),
    }
    ami = {
        "image_type": _AMI,
        "image_id_override": Raw('var.training_image_id == "" ? null : var.training_image_id'),
    }
    inner = [Block("launch_template", (), template), Block("ec2_configuration", (), ami)]
    return Block(
        "resource",
        ("aws_batch_compute_environment", "training"),
        {
            "type": "MANAGED",
            "tags": plan.tags,
            "depends_on": [Raw("aws_iam_role_policy_attachment.batch_instance")],
        },
        [Block("compute_resources", (), used, inner), Block("lifecycle", (), {"create_before_destroy": True})],
    )


def job_queue(plan: Plan) -> Block:
    order = {"order": 1, "compute_environment": Raw("aws_batch_compute_environment.training.arn")}
    return Block(
        "resource",
        ("aws_batch_job_queue", "training"),
        {"name": _name(plan), "state": "ENABLED", "priority": 1, "tags": plan.tags},
        [Block("compute_environment_order", (), order)],
    )


def job_definition(plan: Plan, pool: Pool) -> Block:
    """A retry for what the host did, and for a run that saved and ended since its host goes; for nothing else: an
    outcome that no rule names is tried again, too.

    Source: AWS Batch user guide, job_retries and multi-node-parallel-jobs (of a multi-node job the main node's failure
    is what counts).
    """
    attributes: dict[str, Any] = {
        "name": _name(plan),
        "type": "multinode" if _is_multi_node(plan) else "container",
        "platform_capabilities": ["EC2"],
        "propagate_tags": True,
        "tags": plan.tags,
    }
    container = job_container(plan)
    if _is_multi_node(plan):
        nodes = plan.spec.training.nodes
        container["instanceType"] = _types(plan, pool)[0]
        group = {"targetNodes": f"0:{nodes - 1}", "container": container}
        attributes["node_properties"] = Json({"numNodes": nodes, "mainNode": 0, "nodeRangeProperties": [group]})
    else:
        attributes["container_properties"] = Json(container)
    rules = [
        Block("evaluate_on_exit", (), {"action": "RETRY", "on_status_reason": "Host EC2*"}),
        Block("evaluate_on_exit", (), {"action": "RETRY", "on_exit_code": str(INTERRUPTED)}),
        Block("evaluate_on_exit", (), {"action": "EXIT", "on_reason": "*"}),
    ]
    retry = Block("retry_strategy", (), {"attempts": 5 if _is_on_spot(plan) else 3}, rules)
    timeout = Block("timeout", (), {"attempt_duration_seconds": _LONGEST_S})
    return Block("resource", ("aws_batch_job_definition", "training"), attributes, [retry, timeout])


def job_container(plan: Plan) -> dict[str, Any]:
    """What is asked for is what a pod of Kubernetes asks for: it leaves room for the agents of either."""
    pods = plan.training_pods
    linux: dict[str, Any] = {"initProcessEnabled": True, "sharedMemorySize": shared_memory_gib(plan) * 1024}
    if _has_efa(plan):
        linux["devices"] = [_efa_device(number) for number in range(pods.efa)]
    return {
        "image": image(plan),
        "command": ["/bin/sh", "-ec", script(plan)],
        "user": "1000",
        "jobRoleArn": Raw("aws_iam_role.batch_job.arn"),
        "resourceRequirements": [
            {"type": "GPU", "value": str(pods.gpus)},
            {"type": "VCPU", "value": pods.cpu},
            {"type": "MEMORY", "value": str(bytes_of(pods.memory) // _MIB)},
        ],
        "environment": [{"name": key, "value": value} for key, value in _environment(plan).items()],
        "linuxParameters": linux,
        "ulimits": [{"name": "memlock", "hardLimit": -1, "softLimit": -1}],
        "volumes": [{"name": "scratch"}],
        "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/tmp", "readOnly": False}],  # noqa: S108
    }


def _efa_device(number: int) -> dict[str, Any]:
    """Source: AWS Batch user guide, efa."""
    path = f"/dev/infiniband/uverbs{number}"
    return {"hostPath": path, "containerPath": path, "permissions": ["READ", "WRITE", "MKNOD"]}


def script(plan: Plan) -> str:
    lines = [_WRITE_RUN, *([_RENDEZVOUS] if _is_multi_node(plan) else []), f"exec {' '.join(TRAIN)} {_RUN_FILE}"]
    return "\n".join(lines)


def _environment(plan: Plan) -> Mapping[str, str]:
    found = {key: value for key, value in environment(plan).items() if not key.startswith("FI_") or _has_efa(plan)}
    if _is_multi_node(plan):
        found |= {"PET_NNODES": str(plan.spec.training.nodes), "PET_MASTER_PORT": str(_PORT)}
    return {**found, "STOKER_RUN": run_text(plan)}

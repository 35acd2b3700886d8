"""What `stoker deploy` and people read of the module. No output is a secret."""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker.render import aws
from stoker.render.hcl import Block, Raw
from stoker.render.items import Item, Terraform
from stoker.render.plan import Plan
from stoker.render.root.cluster import has_auto_mode
from stoker.render.root.file_systems import makes_file_system
from stoker.render.root.nodes import has_karpenter
from stoker.spec import Platform

_FILE = "outputs.tf"


def render(plan: Plan) -> Iterator[Item]:
    for name, (said, value) in sorted(_outputs(plan).items()):
        yield Terraform(_FILE, Block("output", (name,), {"description": said, "value": value}))


def filled_in(platform: Platform, outputs: Mapping[str, Any]) -> Platform:
    """The spec with what only Terraform could know, by its outputs' values: the file system that it made. Whoever
    renders objects after the module was applied renders these."""
    made = outputs.get("training_file_system")
    if not made or made.get("id") is None:
        return platform
    said = {"file_system": made["id"], "mount_name": made["mount_name"]}
    storage = platform.training.storage.model_copy(update=said)
    return platform.model_copy(update={"training": platform.training.model_copy(update={"storage": storage})})


def _outputs(plan: Plan) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {
        "account_id": ("Account that everything is in.", Raw("data.aws_caller_identity.current.account_id")),
        "region": ("Region that everything is in.", plan.region),
        "cluster_name": ("Name of the cluster.", Raw("aws_eks_cluster.main.name")),
        "cluster_endpoint": ("URL of its API.", Raw("aws_eks_cluster.main.endpoint")),
        "cluster_certificate_authority": (
            "Certificate of its API's authority, in base64.",
            Raw("aws_eks_cluster.main.certificate_authority[0].data"),
        ),
        "vpc_id": ("VPC of the cluster.", Raw("aws_vpc.main.id")),
        "private_subnet_ids": ("Subnets of nodes and pods.", Raw("values(aws_subnet.private)[*].id")),
        "node_security_group_id": ("Security group of nodes.", Raw("aws_security_group.nodes.id")),
        "buckets": (
            "Buckets by what they are for.",
            {each.what: Raw(f"aws_s3_bucket.{each.what}.bucket") for each in aws.buckets(plan)},
        ),
        "repositories": (
            "Repositories of Stoker's images, by image.",
            {each: Raw(f"aws_ecr_repository.{each}.repository_url") for each in aws.repositories(plan)},
        ),
    }
    if has_karpenter(plan):
        found |= {
            "interruption_queue": ("Karpenter's settings.interruptionQueue.", Raw("aws_sqs_queue.interruption.name")),
            "karpenter_role_arn": ("Role of Karpenter's controller.", Raw("aws_iam_role.karpenter.arn")),
            "karpenter_node_role": ("Role of Karpenter's nodes, by name.", Raw("aws_iam_role.karpenter_node.name")),
        }
    if has_auto_mode(plan):
        found["auto_node_role"] = ("Role of Auto Mode's nodes, by name.", Raw("aws_iam_role.auto_node.name"))
    else:
        arn = Raw("aws_iam_role.load_balancer_controller.arn")
        found["load_balancer_controller_role_arn"] = ("Role of the AWS Load Balancer Controller.", arn)
    if makes_file_system(plan):
        made = "aws_fsx_lustre_file_system.training"
        found["training_file_system"] = (
            "What training.storage.fileSystem and mountName are.",
            {"id": Raw(f"{made}.id"), "mount_name": Raw(f"{made}.mount_name")},
        )
    return found

"""EKS: the cluster in the mode of the plan, its role, its key and its logs."""

from collections.abc import Iterator
from typing import Any

from stoker.render.hcl import Block, Raw
from stoker.render.iam import service_trust
from stoker.render.items import Item
from stoker.render.kms import ADMINISTER
from stoker.render.objects import Object
from stoker.render.plan import Plan
from stoker.render.root.parts import ACCOUNT, arn, attachments, document, resource, role

_FILE = "eks.tf"
_LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_LOGS_KEPT_DAYS = 365
_CLUSTER = ("AmazonEKSClusterPolicy",)
_AUTO_MODE = (
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
"""Source: EKS user guide, auto-cluster-iam-role."""


def render(plan: Plan) -> Iterator[Item]:
    yield from _key(plan)
    group = {
        "name": f"/aws/eks/{plan.cluster}/cluster",
        "retention_in_days": _LOGS_KEPT_DAYS,
        "kms_key_id": Raw("aws_kms_key.main.arn"),
    }
    why = "Made before EKS makes it, which would keep its lines for ever."
    yield resource(_FILE, "aws_cloudwatch_log_group", "cluster", group, comment=why)
    policies = _policies(plan)
    yield from role(
        plan,
        _FILE,
        "cluster",
        plan.name_in_region("cluster"),
        service_trust("eks.amazonaws.com", tag=True),
        statements=list(_tagging(plan)) if has_auto_mode(plan) else (),
        policies=policies,
        comment="What EKS itself does in the account.",
    )
    yield _cluster(plan, policies)


def has_auto_mode(plan: Plan) -> bool:
    return plan.mode != "karpenter"


def _policies(plan: Plan) -> tuple[str, ...]:
    return (*_CLUSTER, *(_AUTO_MODE if has_auto_mode(plan) else ()))


def _cluster(plan: Plan, policies: tuple[str, ...]) -> Item:
    public = list(plan.spec.deploy.network.public_access)
    network: dict[str, Any] = {
        "subnet_ids": Raw("values(aws_subnet.private)[*].id"),
        "security_group_ids": [Raw("aws_security_group.nodes.id")],
        "endpoint_private_access": True,
        "endpoint_public_access": bool(public),
        **({"public_access_cidrs": public} if public else {}),
    }
    attributes = {
        "name": plan.cluster,
        "version": Raw("var.kubernetes_version"),
        "role_arn": Raw("aws_iam_role.cluster.arn"),
        "enabled_cluster_log_types": list(_LOGS),
        "bootstrap_self_managed_addons": False,
        "depends_on": [*attachments("cluster", policies), Raw("aws_cloudwatch_log_group.cluster")],
    }
    access = {"authentication_mode": "API", "bootstrap_cluster_creator_admin_permissions": True}
    key = Block("provider", (), {"key_arn": Raw("aws_kms_key.main.arn")})
    blocks = [
        Block("access_config", (), access),
        Block("vpc_config", (), network),
        Block("encryption_config", (), {"resources": ["secrets"]}, [key]),
        *(_auto_mode() if has_auto_mode(plan) else ()),
        Block("upgrade_policy", (), {"support_type": "STANDARD"}),
    ]
    why = (
        "The API is reached from the ranges of deploy.network.publicAccess, and from the VPC."
        if public
        else "The API is reached from the VPC alone; deploy.network.publicAccess would let others in."
    )
    return resource(_FILE, "aws_eks_cluster", "main", attributes, *blocks, comment=why)


def _auto_mode() -> list[Block]:
    """EKS' two pools are for what comes before the platform's own NodePools: controllers. They hold no node while
    nothing waits."""
    pools = {
        "enabled": True,
        "node_pools": ["general-purpose", "system"],
        "node_role_arn": Raw("aws_iam_role.auto_node.arn"),
    }
    return [
        Block("compute_config", (), pools),
        Block("kubernetes_network_config", (), {}, [Block("elastic_load_balancing", (), {"enabled": True})]),
        Block("storage_config", (), {}, [Block("block_storage", (), {"enabled": True})]),
    ]


def _tagging(plan: Plan) -> Iterator[Object]:
    """The platform's tags on what Auto Mode makes: without these, NodeClasses with tags make no nodes.

    Source: EKS user guide, auto-cluster-iam-role, "Custom AWS tags for EKS Auto resources", with the cluster's name
    where that has the principal's tag, and the kinds of resources where it has all.
    """
    of_cluster = {"aws:RequestTag/eks:eks-cluster-name": plan.cluster}
    of_nodes = {
        "StringEquals": of_cluster,
        "StringLike": {
            "aws:RequestTag/eks:kubernetes-node-class-name": "*",
            "aws:RequestTag/eks:kubernetes-node-pool-name": "*",
        },
    }
    made = ("fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request")
    yield {
        "Sid": "TagNodes",
        "Effect": "Allow",
        "Action": ["ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateLaunchTemplate"],
        "Resource": [arn(plan, "ec2", f"{each}/*") for each in made],
        "Condition": of_nodes,
    }
    yield {
        "Sid": "TagVolumes",
        "Effect": "Allow",
        "Action": ["ec2:CreateVolume", "ec2:CreateSnapshot"],
        "Resource": [arn(plan, "ec2", "volume/*"), f"arn:{plan.partition}:ec2:{plan.region}::snapshot/*"],
        "Condition": {"StringEquals": of_cluster},
    }
    yield {
        "Sid": "TagInterfaces",
        "Effect": "Allow",
        "Action": ["ec2:CreateNetworkInterface"],
        "Resource": [arn(plan, "ec2", "network-interface/*")],
        "Condition": {
            "StringEquals": of_cluster,
            "StringLike": {"aws:RequestTag/eks:kubernetes-cni-node-name": "*"},
        },
    }
    balancers = ("loadbalancer/*", "targetgroup/*", "listener/*", "listener-rule/*")
    yield {
        "Sid": "TagLoadBalancers",
        "Effect": "Allow",
        "Action": [
            "elasticloadbalancing:CreateLoadBalancer",
            "elasticloadbalancing:CreateTargetGroup",
            "elasticloadbalancing:CreateListener",
            "elasticloadbalancing:CreateRule",
            "ec2:CreateSecurityGroup",
        ],
        "Resource": [
            *(arn(plan, "elasticloadbalancing", each) for each in balancers),
            arn(plan, "ec2", "security-group/*"),
        ],
        "Condition": {"StringEquals": of_cluster},
    }


def _key(plan: Plan) -> Iterator[Item]:
    """EKS works by a grant that whoever makes the cluster gives it.

    Source: EKS user guide, enable-kms; CloudWatch Logs user guide, encrypt-log-data-kms.
    """
    suffix = "amazonaws.com.cn" if plan.partition == "aws-cn" else "amazonaws.com"
    administer = {
        "Sid": "Administer",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:{plan.partition}:iam::{ACCOUNT}:root"},
        "Action": [f"kms:{each}" for each in ADMINISTER],
        "Resource": "*",
    }
    logs = {
        "Sid": "Logs",
        "Effect": "Allow",
        "Principal": {"Service": f"logs.{plan.region}.{suffix}"},
        "Action": [
            "kms:Encrypt",
            "kms:Decrypt",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
            *_DATA_KEYS,
            "kms:DescribeKey",
        ],
        "Resource": "*",
        "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": arn(plan, "logs", "log-group:*")}},
    }
    attributes = {
        "description": f"Secrets and logs of the cluster {plan.cluster}",
        "enable_key_rotation": True,
        "deletion_window_in_days": 7,
        "policy": document(administer, logs),
    }
    why = "What Kubernetes keeps as a Secret, and log groups. The * of a key's policy is the key itself."
    yield resource("kms.tf", "aws_kms_key", "main", attributes, comment=why)


_DATA_KEYS = ("kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext")

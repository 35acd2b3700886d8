"""Roles of nodes, who may join the cluster, and the small node group on which controllers start.

Source: EKS user guide, create-node-role, auto-create-node-role, access-entries; for Karpenter's nodes
aws/karpenter-provider-aws v1.14 getting-started-with-karpenter/cloudformation.yaml. Of the role of its own two pools
EKS makes the access entry itself, and NodeClasses that name the same role need no other.
"""

from collections.abc import Iterator

from stoker.catalog.labels import AWS
from stoker.render.hcl import Block, Raw
from stoker.render.iam import service_trust
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.cluster import has_auto_mode
from stoker.render.root.parts import attachments, resource, role

_FILE = "nodes.tf"
_OF_NODES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
)
_OF_AUTO_MODE = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")
_CONTROLLERS = "controllers"
CONTROLLER_TYPES = ("m7i.large", "m6i.large")
"""The first that there is. Karpenter cannot make the nodes that it runs on."""
CONTROLLER_NODES, MOST_CONTROLLER_NODES, CONTROLLER_DISK_GIB = 2, 3, 50


def has_karpenter(plan: Plan) -> bool:
    """Whether Karpenter of one's own makes nodes of this platform."""
    return any(pool.domain == AWS for pool in plan.pools)


def render(plan: Plan) -> Iterator[Item]:
    trust = service_trust("ec2.amazonaws.com")
    if has_auto_mode(plan):
        yield from role(plan, _FILE, "auto_node", plan.auto_node_role, trust, policies=_OF_AUTO_MODE)
    if has_karpenter(plan):
        yield from role(plan, _FILE, "karpenter_node", plan.node_role, trust, policies=_OF_NODES)
        entry = {
            "cluster_name": Raw("aws_eks_cluster.main.name"),
            "principal_arn": Raw("aws_iam_role.karpenter_node.arn"),
            "type": "EC2_LINUX",
        }
        yield resource(_FILE, "aws_eks_access_entry", "karpenter_node", entry)
    if not has_auto_mode(plan):
        yield from role(plan, _FILE, _CONTROLLERS, plan.name_in_region(_CONTROLLERS), trust, policies=_OF_NODES)
        yield _launch_template(plan)
        yield _group(plan)


def _launch_template(plan: Plan) -> Item:
    disk = {"volume_size": CONTROLLER_DISK_GIB, "volume_type": "gp3", "encrypted": True, "delete_on_termination": True}
    blocks = [
        Block("block_device_mappings", (), {"device_name": "/dev/xvda"}, [Block("ebs", (), disk)]),
        Block("metadata_options", (), {"http_tokens": "required", "http_put_response_hop_limit": 1}),
        *(
            Block(
                "tag_specifications",
                (),
                {"resource_type": kind, "tags": {"Name": f"{plan.cluster}-{_CONTROLLERS}", **plan.tags}},
            )
            for kind in ("instance", "volume")
        ),
    ]
    attributes = {
        "name": plan.name_in_region(_CONTROLLERS),
        "update_default_version": True,
        "vpc_security_group_ids": [Raw("aws_security_group.nodes.id")],
    }
    return resource(_FILE, "aws_launch_template", _CONTROLLERS, attributes, *blocks)


def _group(plan: Plan) -> Item:
    """Two, since Karpenter and the webhooks of others run in two copies; nobody signs in to them but by SSM."""
    attributes = {
        "cluster_name": Raw("aws_eks_cluster.main.name"),
        "node_group_name": _CONTROLLERS,
        "node_role_arn": Raw(f"aws_iam_role.{_CONTROLLERS}.arn"),
        "subnet_ids": Raw("values(aws_subnet.private)[*].id"),
        "ami_type": "AL2023_x86_64_STANDARD",
        "capacity_type": "ON_DEMAND",
        "instance_types": list(CONTROLLER_TYPES),
        "labels": {"stoker.dev/serves": _CONTROLLERS},
        "depends_on": [
            *attachments(_CONTROLLERS, _OF_NODES),
            *(Raw(f"aws_eks_addon.{each}") for each in ("vpc_cni", "kube_proxy")),
        ],
    }
    template = {
        "id": Raw(f"aws_launch_template.{_CONTROLLERS}.id"),
        "version": Raw(f"aws_launch_template.{_CONTROLLERS}.latest_version"),
    }
    blocks = [
        Block("launch_template", (), template),
        Block(
            "scaling_config",
            (),
            {"desired_size": CONTROLLER_NODES, "min_size": CONTROLLER_NODES, "max_size": MOST_CONTROLLER_NODES},
        ),
        Block("update_config", (), {"max_unavailable": 1}),
        Block("lifecycle", (), {"ignore_changes": [Raw("scaling_config[0].desired_size")]}),
    ]
    why = "What makes nodes needs some to run on: Karpenter and the other controllers start here."
    return resource(_FILE, "aws_eks_node_group", _CONTROLLERS, attributes, *blocks, comment=why)

"""EKS' add-ons by mode, and kro as a capability of EKS.

In the version that is EKS' default for the cluster's. Auto Mode brings the network, DNS, volumes and the agent of Pod
Identity with it; where it makes only the nodes of general use, Karpenter's need their own. Source: EKS user guide,
automode, workloads-add-ons-available-eks, create-kro-capability.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker.render import aws, iam
from stoker.render.facts import short
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.cluster import has_auto_mode
from stoker.render.root.parts import resource, role

_FILE = "addons.tf"
_CLUSTER = Raw("aws_eks_cluster.main.name")


def render(plan: Plan) -> Iterator[Item]:
    if plan.mode != "auto":
        cni = {"configuration_values": Json({"enableNetworkPolicy": "true"})}
        yield _addon("vpc-cni", cni, comment="Before the first node. It is what holds pods to NetworkPolicies.")
        yield _addon("kube-proxy")
    after = {} if has_auto_mode(plan) else {"depends_on": [Raw("aws_eks_node_group.controllers")]}
    for addon in aws.addons(plan):
        blocks = []
        if addon.account is not None:
            trust = iam.pod_trust(plan, "kube-system", addon.account)
            yield from role(plan, _FILE, "ebs_csi", plan.name_in_region(aws.EBS_ROLE), trust, policies=addon.policies)
            said = {"service_account": addon.account, "role_arn": Raw("aws_iam_role.ebs_csi.arn")}
            blocks.append(Block("pod_identity_association", (), said))
        yield _addon(addon.name, after, *blocks, comment=addon.why)
    if plan.mode != "auto":
        yield _addon("coredns", after)
    yield _addon("metrics-server", after, comment="What HorizontalPodAutoscalers ask; Auto Mode has none either.")
    yield from _kro(plan)


def _addon(name: str, more: Mapping[str, Any] | None = None, *blocks: Block, comment: str = "") -> Item:
    attributes = {
        "cluster_name": _CLUSTER,
        "addon_name": name,
        "resolve_conflicts_on_create": "OVERWRITE",
        "resolve_conflicts_on_update": "OVERWRITE",
        **(more or {}),
    }
    label = name.removeprefix("eks-").removeprefix("aws-").replace("-", "_")
    return resource(_FILE, "aws_eks_addon", label, attributes, *blocks, comment=comment)


def _kro(plan: Plan) -> Iterator[Item]:
    """By CloudFormation: version 5 of the provider has no resource for capabilities, and this module takes it.

    Source: AWS CloudFormation template reference, AWS::EKS::Capability.
    """
    if not plan.spec.composition.kro:
        return
    trust = iam.service_trust("capabilities.eks.amazonaws.com", tag=True)
    why = "kro calls nothing in AWS: the role has no rights."
    yield from role(plan, "kro.tf", "kro", plan.name_in_region("kro"), trust, comment=why)
    properties = {
        "CapabilityName": "kro",
        "ClusterName": _CLUSTER,
        "Type": "KRO",
        "RoleArn": Raw("aws_iam_role.kro.arn"),
        "DeletePropagationPolicy": "RETAIN",
    }
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"kro for {plan.cluster}",
        "Resources": {"Kro": {"Type": "AWS::EKS::Capability", "Properties": properties}},
    }
    attributes = {"name": short(plan.cluster, "kro"), "template_body": Json(template)}
    why = "By CloudFormation: version 5 of the provider has no resource for capabilities."
    yield resource("kro.tf", "aws_cloudformation_stack", "kro", attributes, comment=why)

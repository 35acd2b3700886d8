"""What Karpenter's controller may do, statement by statement as its own template has it.

Source: aws/karpenter-provider-aws v1.14, getting-started-with-karpenter/cloudformation.yaml and
reference/cloudformation. The queue and its events are `interruption.tf`.
"""

from collections.abc import Iterator
from typing import Any

from stoker.render import iam
from stoker.render.hcl import Raw
from stoker.render.items import Item
from stoker.render.objects import Object
from stoker.render.plan import Plan
from stoker.render.root.identities import association
from stoker.render.root.nodes import has_karpenter
from stoker.render.root.parts import arn, role

ACCOUNT = ("kube-system", "karpenter")
"""Namespace and ServiceAccount of its controller, as its chart and its own guide have them."""
_FILE = "karpenter.tf"
_MADE = ("fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request")
_POOL, _CLASS = "karpenter.sh/nodepool", "karpenter.k8s.aws/ec2nodeclass"
_REGION = "topology.kubernetes.io/region"


def render(plan: Plan) -> Iterator[Item]:
    if not has_karpenter(plan):
        return
    yield from role(
        plan,
        _FILE,
        "karpenter",
        plan.name_in_region("karpenter"),
        iam.pod_trust(plan, *ACCOUNT),
        statements=[*_nodes(plan), *_profiles(plan), *_reading(plan)],
        comment="It makes and ends only what has the cluster's tag; the * of Describe and List is all that these take.",
    )
    yield association(plan, _FILE, "karpenter", *ACCOUNT)


def _ec2(plan: Plan, *kinds: str) -> list[str]:
    return [arn(plan, "ec2", f"{kind}/*") for kind in kinds]


def _allow(sid: str, actions: list[str], resources: Any, condition: Object | None = None) -> Object:
    found: Object = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return found if condition is None else {**found, "Condition": condition}


def _nodes(plan: Plan) -> Iterator[Object]:
    owned = f"kubernetes.io/cluster/{plan.cluster}"
    ours = {"StringEquals": {f"aws:ResourceTag/{owned}": "owned"}, "StringLike": {f"aws:ResourceTag/{_POOL}": "*"}}
    asked = {f"aws:RequestTag/{owned}": "owned", "aws:RequestTag/eks:eks-cluster-name": plan.cluster}
    with_tags = {"StringEquals": asked, "StringLike": {f"aws:RequestTag/{_POOL}": "*"}}
    start = ["ec2:RunInstances", "ec2:CreateFleet"]
    public = [f"arn:{plan.partition}:ec2:{plan.region}::{kind}/*" for kind in ("image", "snapshot")]
    used = [*public, *_ec2(plan, "security-group", "subnet", "capacity-reservation", "placement-group")]
    yield _allow("StartFrom", start, used)
    yield _allow("StartFromOwnTemplates", start, _ec2(plan, "launch-template"), ours)
    yield _allow("StartTagged", [*start, "ec2:CreateLaunchTemplate"], _ec2(plan, *_MADE), with_tags)
    creating = {"ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"]}
    yield _allow(
        "TagWhatIsMade",
        ["ec2:CreateTags"],
        _ec2(plan, *_MADE),
        {**with_tags, "StringEquals": {**asked, **creating}},
    )
    keys = ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
    yield _allow(
        "TagOwnInstances",
        ["ec2:CreateTags"],
        _ec2(plan, "instance"),
        {
            **ours,
            "StringEqualsIfExists": {"aws:RequestTag/eks:eks-cluster-name": plan.cluster},
            "ForAllValues:StringEquals": {"aws:TagKeys": keys},
        },
    )
    end = ["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"]
    yield _allow("EndOwn", end, _ec2(plan, "instance", "launch-template"), ours)


def _profiles(plan: Plan) -> Iterator[Object]:
    """Karpenter makes an instance profile for each node class, with the node's role in it."""
    profiles = [arn(plan, "iam", "instance-profile/*", region="")]
    owned = f"kubernetes.io/cluster/{plan.cluster}"
    has = {f"aws:ResourceTag/{owned}": "owned", f"aws:ResourceTag/{_REGION}": plan.region}
    asks = {
        f"aws:RequestTag/{owned}": "owned",
        "aws:RequestTag/eks:eks-cluster-name": plan.cluster,
        f"aws:RequestTag/{_REGION}": plan.region,
    }
    of_class, for_class = {f"aws:ResourceTag/{_CLASS}": "*"}, {f"aws:RequestTag/{_CLASS}": "*"}
    services = ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]
    yield _allow(
        "GiveNodesTheirRole",
        ["iam:PassRole"],
        [Raw("aws_iam_role.karpenter_node.arn")],
        {"StringEquals": {"iam:PassedToService": services}},
    )
    yield _allow(
        "MakeProfiles", ["iam:CreateInstanceProfile"], profiles, {"StringEquals": asks, "StringLike": for_class}
    )
    yield _allow(
        "TagProfiles",
        ["iam:TagInstanceProfile"],
        profiles,
        {"StringEquals": {**has, **asks}, "StringLike": {**of_class, **for_class}},
    )
    change = ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile"]
    yield _allow("ChangeOwnProfiles", change, profiles, {"StringEquals": has, "StringLike": of_class})
    yield _allow("ReadProfiles", ["iam:GetInstanceProfile"], profiles)


def _reading(plan: Plan) -> Iterator[Object]:
    cluster = [arn(plan, "eks", f"cluster/{plan.cluster}")]
    yield _allow("FindTheCluster", ["eks:DescribeCluster"], cluster)
    queue = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
    yield _allow("HearOfInterruptions", queue, [Raw("aws_sqs_queue.interruption.arn")])
    images = [f"arn:{plan.partition}:ssm:{plan.region}::parameter/aws/service/*"]
    yield _allow("FindImages", ["ssm:GetParameter"], images)
    described = (
        "CapacityReservations",
        "Images",
        "Instances",
        "InstanceStatus",
        "InstanceTypeOfferings",
        "InstanceTypes",
        "LaunchTemplates",
        "PlacementGroups",
        "SecurityGroups",
        "SpotPriceHistory",
        "Subnets",
    )
    here = {"StringEquals": {"aws:RequestedRegion": plan.region}}
    yield _allow("Look", [f"ec2:Describe{each}" for each in described], "*", here)
    yield _allow("Prices", ["pricing:GetProducts"], "*")
    yield _allow("ListProfiles", ["iam:ListInstanceProfiles"], "*")

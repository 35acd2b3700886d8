"""What the AWS Load Balancer Controller may do. Auto Mode has its own, and needs none of this.

Source: kubernetes-sigs/aws-load-balancer-controller v2.14 docs/install/iam_policy.json, with the cluster's name where
that takes any cluster's tag, and without Cognito, which the platform does not use.
"""

from collections.abc import Iterator
from typing import Any

from stoker.render import iam
from stoker.render.items import Item
from stoker.render.objects import Object
from stoker.render.plan import Plan
from stoker.render.root.cluster import has_auto_mode
from stoker.render.root.identities import association
from stoker.render.root.parts import arn, role

ACCOUNT = ("kube-system", "aws-load-balancer-controller")
"""Namespace and ServiceAccount, as its chart and its own guide have them."""
_FILE = "load-balancing.tf"
_TAG = "elbv2.k8s.aws/cluster"
_ELB = "elasticloadbalancing"


def render(plan: Plan) -> Iterator[Item]:
    if has_auto_mode(plan):
        return
    yield from role(
        plan,
        _FILE,
        "load_balancer_controller",
        plan.name_in_region("load-balancers"),
        iam.pod_trust(plan, *ACCOUNT),
        statements=list(_statements(plan)),
        comment="It changes only load balancers and security groups that have the cluster's tag.",
    )
    yield association(plan, _FILE, "load_balancer_controller", *ACCOUNT)


def _allow(sid: str, actions: list[str], resources: Any, condition: Object | None = None) -> Object:
    found: Object = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return found if condition is None else {**found, "Condition": condition}


def _elb(plan: Plan, *kinds: str) -> list[str]:
    return [arn(plan, _ELB, kind) for kind in kinds]


_OF_BALANCERS = ("loadbalancer/net/*/*", "loadbalancer/app/*/*")
_OF_LISTENERS = ("listener/net/*/*/*", "listener/app/*/*/*")
_OF_RULES = ("listener-rule/net/*/*/*", "listener-rule/app/*/*/*")
_TARGETS = ("targetgroup/*/*",)


def _statements(plan: Plan) -> Iterator[Object]:
    asked = {"StringEquals": {f"aws:RequestTag/{_TAG}": plan.cluster}}
    ours = {"StringEquals": {f"aws:ResourceTag/{_TAG}": plan.cluster}}
    here = {"StringEquals": {"aws:RequestedRegion": plan.region}}
    groups = [arn(plan, "ec2", "security-group/*")]
    balancers, listeners = _elb(plan, *_OF_BALANCERS), _elb(plan, *_OF_LISTENERS)
    rules, targets = _elb(plan, *_OF_RULES), _elb(plan, *_TARGETS)
    service = "role/aws-service-role/elasticloadbalancing.amazonaws.com/*"
    yield _allow(
        "FirstLoadBalancerOfTheAccount",
        ["iam:CreateServiceLinkedRole"],
        [arn(plan, "iam", service, region="")],
        {"StringEquals": {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"}},
    )
    yield _allow("Look", [*_DESCRIBE_EC2, *_DESCRIBE_ELB], "*", here)
    yield _allow("LookAtCertificates", ["acm:ListCertificates", "acm:DescribeCertificate"], "*", here)
    yield _allow("LookAtShield", ["shield:GetSubscriptionState"], "*")
    protect = ["shield:DescribeProtection", "shield:CreateProtection", "shield:DeleteProtection"]
    yield _allow("Shield", protect, [arn(plan, "shield", "protection/*", region=""), *balancers])
    web = [f"wafv2:{each}" for each in ("GetWebACL", "GetWebACLForResource", "AssociateWebACL", "DisassociateWebACL")]
    acls = [arn(plan, "wafv2", "regional/webacl/*/*"), *_elb(plan, "loadbalancer/app/*/*")]
    yield _allow("WebAcl", [*web, f"{_ELB}:SetWebAcl"], acls)
    open_ = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
    nodes = {"StringEquals": {"aws:ResourceTag/karpenter.sh/discovery": plan.cluster}}
    yield _allow("LetBalancersIntoNodes", open_, groups, nodes)
    yield _allow("OwnSecurityGroups", [*open_, "ec2:DeleteSecurityGroup"], groups, ours)
    yield _allow("MakeSecurityGroups", ["ec2:CreateSecurityGroup"], [*groups, arn(plan, "ec2", "vpc/*")])
    creating = {"ec2:CreateAction": "CreateSecurityGroup"}
    yield _allow(
        "TagNewSecurityGroups",
        ["ec2:CreateTags"],
        groups,
        {"StringEquals": {**creating, **asked["StringEquals"]}},
    )
    untold = {"Null": {f"aws:RequestTag/{_TAG}": "true"}}
    yield _allow("TagOwnSecurityGroups", ["ec2:CreateTags", "ec2:DeleteTags"], groups, {**ours, **untold})
    make = [f"{_ELB}:CreateLoadBalancer", f"{_ELB}:CreateTargetGroup"]
    yield _allow("Make", make, [*balancers, *targets], asked)
    inner = [f"{_ELB}:{verb}{what}" for what in ("Listener", "Rule") for verb in ("Create", "Delete", "Modify")]
    certificates = [f"{_ELB}:{verb}ListenerCertificates" for verb in ("Add", "Remove")]
    yield _allow("Listeners", [*inner, *certificates], [*balancers, *listeners, *rules])
    at_creation = {f"{_ELB}:CreateAction": ["CreateTargetGroup", "CreateLoadBalancer"]}
    yield _allow(
        "TagNew",
        [f"{_ELB}:AddTags"],
        [*balancers, *targets],
        {"StringEquals": {**at_creation, **asked["StringEquals"]}},
    )
    tag = [f"{_ELB}:AddTags", f"{_ELB}:RemoveTags"]
    yield _allow("TagOwn", tag, [*balancers, *targets], {**ours, **untold})
    yield _allow("TagListeners", tag, [*listeners, *rules])
    changes = (
        *("ModifyLoadBalancerAttributes", "SetIpAddressType", "SetSecurityGroups", "SetSubnets", "DeleteLoadBalancer"),
        *("ModifyTargetGroup", "ModifyTargetGroupAttributes", "DeleteTargetGroup", "ModifyListenerAttributes"),
        *("ModifyCapacityReservation", "ModifyIpPools"),
    )
    yield _allow("ChangeOwn", [f"{_ELB}:{each}" for each in changes], [*balancers, *targets, *listeners], ours)
    yield _allow("Targets", [f"{_ELB}:RegisterTargets", f"{_ELB}:DeregisterTargets"], targets)


_DESCRIBE_EC2 = [
    f"ec2:{each}"
    for each in (
        *("DescribeAccountAttributes", "DescribeAddresses", "DescribeAvailabilityZones", "DescribeInternetGateways"),
        *("DescribeVpcs", "DescribeVpcPeeringConnections", "DescribeSubnets", "DescribeSecurityGroups"),
        *("DescribeInstances", "DescribeNetworkInterfaces", "DescribeTags", "DescribeRouteTables"),
        *("DescribeIpamPools", "GetCoipPoolUsage", "DescribeCoipPools", "GetSecurityGroupsForVpc"),
    )
]
_DESCRIBE_ELB = [
    f"{_ELB}:Describe{each}"
    for each in (
        *("LoadBalancers", "LoadBalancerAttributes", "Listeners", "ListenerCertificates", "ListenerAttributes"),
        *("SSLPolicies", "Rules", "TargetGroups", "TargetGroupAttributes", "TargetHealth", "Tags", "TrustStores"),
        "CapacityReservation",
    )
]

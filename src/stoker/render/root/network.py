"""The VPC: a private and a public subnet in each zone, the ways out of it, and the security group of nodes."""

from collections.abc import Iterator

from stoker.base.errors import InvalidInput
from stoker.render.hcl import Block, Raw
from stoker.render.items import Item, Terraform
from stoker.render.node_classes import DISCOVERY
from stoker.render.plan import Plan
from stoker.render.root.parts import resource, role

_FILE = "vpc.tf"
_VPC = Raw("aws_vpc.main.id")
_EVERYWHERE = "0.0.0.0/0"
_LOGS_KEPT_DAYS = 365
_LEAST_ZONES = 2
"""Of the subnets of a cluster. Source: EKS user guide, network-reqs."""


def check_zones(plan: Plan) -> None:
    """Raises InvalidInput for fewer zones than EKS takes."""
    if len(set(plan.zones)) < _LEAST_ZONES:
        raise InvalidInput(
            f"global.cluster.zones has {plan.zones[0]} alone; EKS takes subnets in at least {_LEAST_ZONES} zones",
            param="global.cluster.zones",
            hint=f"name another zone of {plan.region} beside it; nodes stay in one by karpenter.nodePools.*.zones",
        )


def nat_zones(plan: Plan) -> tuple[str, ...]:
    return plan.zones if plan.spec.deploy.network.nat_per_zone else plan.zones[:1]


def render(plan: Plan) -> Iterator[Item]:
    yield Terraform(
        _FILE,
        Block("locals", (), {"zones": {zone: number for number, zone in enumerate(plan.zones)}}),
        "Which sixteenth of the addresses is the private subnet of a zone; public ones are parts of the last. A zone "
        "that is added takes the next number, and none changes its own.",
    )
    vpc = {
        "cidr_block": Raw("var.vpc_cidr"),
        "enable_dns_support": True,
        "enable_dns_hostnames": True,
        "tags": {"Name": plan.cluster},
    }
    yield resource(_FILE, "aws_vpc", "main", vpc)
    closed = {"vpc_id": _VPC, "tags": {"Name": f"{plan.cluster} default, closed"}}
    yield resource(_FILE, "aws_default_security_group", "main", closed, comment="Without rules: nothing is to use it.")
    yield from _subnets(plan)
    yield from _ways_out(plan)
    yield from _flow_logs(plan)
    yield from _of_nodes(plan)


def _subnets(plan: Plan) -> Iterator[Item]:
    """Source of the tags: EKS user guide, network-load-balancing and alb-ingress (which subnets load balancers take);
    Karpenter, concepts/nodeclasses."""
    uses = {
        "private": {"kubernetes.io/role/internal-elb": "1", DISCOVERY: plan.cluster},
        "public": {"kubernetes.io/role/elb": "1"},
    }
    parts = {
        "private": "cidrsubnet(var.vpc_cidr, 4, each.value)",
        "public": "cidrsubnet(var.vpc_cidr, 8, 240 + each.value)",
    }
    for kind, tags in uses.items():
        attributes = {
            "for_each": Raw("local.zones"),
            "vpc_id": _VPC,
            "availability_zone": Raw("each.key"),
            "cidr_block": Raw(parts[kind]),
            "map_public_ip_on_launch": False,
            "tags": {"Name": f"{plan.cluster} {kind} ${{each.key}}", **tags},
        }
        yield resource(_FILE, "aws_subnet", kind, attributes)


def _ways_out(plan: Plan) -> Iterator[Item]:
    zones = Raw(f"toset([{', '.join(_quoted(zone) for zone in nat_zones(plan))}])")
    per_zone = plan.spec.deploy.network.nat_per_zone
    yield resource(_FILE, "aws_internet_gateway", "main", {"vpc_id": _VPC, "tags": {"Name": plan.cluster}})
    address = {"for_each": zones, "domain": "vpc", "tags": {"Name": f"{plan.cluster} nat ${{each.key}}"}}
    yield resource(_FILE, "aws_eip", "nat", address)
    nat = {
        "for_each": zones,
        "allocation_id": Raw("aws_eip.nat[each.key].id"),
        "subnet_id": Raw("aws_subnet.public[each.key].id"),
        "tags": {"Name": f"{plan.cluster} ${{each.key}}"},
        "depends_on": [Raw("aws_internet_gateway.main")],
    }
    why = (
        "One for each zone: the loss of one leaves the others their way out."
        if per_zone
        else "One for all zones, at a third of the price; deploy.network.natPerZone has one for each."
    )
    yield resource(_FILE, "aws_nat_gateway", "main", nat, comment=why)
    yield resource(_FILE, "aws_route_table", "public", {"vpc_id": _VPC, "tags": {"Name": f"{plan.cluster} public"}})
    out = {
        "route_table_id": Raw("aws_route_table.public.id"),
        "destination_cidr_block": _EVERYWHERE,
        "gateway_id": Raw("aws_internet_gateway.main.id"),
    }
    yield resource(_FILE, "aws_route", "public", out)
    private = {
        "for_each": Raw("local.zones"),
        "vpc_id": _VPC,
        "tags": {"Name": f"{plan.cluster} private ${{each.key}}"},
    }
    yield resource(_FILE, "aws_route_table", "private", private)
    gateway = "each.key" if per_zone else _quoted(plan.zones[0])
    out = {
        "for_each": Raw("local.zones"),
        "route_table_id": Raw("aws_route_table.private[each.key].id"),
        "destination_cidr_block": _EVERYWHERE,
        "nat_gateway_id": Raw(f"aws_nat_gateway.main[{gateway}].id"),
    }
    yield resource(_FILE, "aws_route", "private", out)
    for kind, table in (("public", "aws_route_table.public.id"), ("private", "aws_route_table.private[each.key].id")):
        attributes = {
            "for_each": Raw("local.zones"),
            "subnet_id": Raw(f"aws_subnet.{kind}[each.key].id"),
            "route_table_id": Raw(table),
        }
        yield resource(_FILE, "aws_route_table_association", kind, attributes)
    endpoint = {
        "vpc_id": _VPC,
        "service_name": f"com.amazonaws.{plan.region}.s3",
        "vpc_endpoint_type": "Gateway",
        "route_table_ids": Raw("values(aws_route_table.private)[*].id"),
        "tags": {"Name": f"{plan.cluster} s3"},
    }
    why = "Weights and layers of images come by it, and cost nothing on the way; by a NAT gateway each GB would."
    yield resource(_FILE, "aws_vpc_endpoint", "s3", endpoint, comment=why)


def _flow_logs(plan: Plan) -> Iterator[Item]:
    """Source: Amazon VPC user guide, flow-logs-iam-role."""
    group = {
        "name": f"/aws/vpc/{plan.cluster}/flow-logs",
        "retention_in_days": _LOGS_KEPT_DAYS,
        "kms_key_id": Raw("aws_kms_key.main.arn"),
    }
    yield resource(_FILE, "aws_cloudwatch_log_group", "flow_logs", group)
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": "${data.aws_caller_identity.current.account_id}"}},
    }
    write = {
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
        "Resource": ["${aws_cloudwatch_log_group.flow_logs.arn}:*"],
    }
    yield from role(plan, _FILE, "flow_logs", plan.name_in_region("flow-logs"), trust, statements=[write])
    attributes = {
        "vpc_id": _VPC,
        "traffic_type": "REJECT",
        "log_destination": Raw("aws_cloudwatch_log_group.flow_logs.arn"),
        "iam_role_arn": Raw("aws_iam_role.flow_logs.arn"),
        "tags": {"Name": plan.cluster},
    }
    yield resource(
        _FILE, "aws_flow_log", "main", attributes, comment="What was refused; all traffic would cost by the GB."
    )


def _of_nodes(plan: Plan) -> Iterator[Item]:
    """Nodes of every kind are in it, and so are the interfaces of the control plane. EFA wants both directions among
    itself said by the group, and not by addresses (EC2 user guide, efa-start)."""
    attributes = {
        "name": f"{plan.cluster}-nodes",
        "description": f"Nodes of {plan.cluster}",
        "vpc_id": _VPC,
        "tags": {"Name": f"{plan.cluster}-nodes", DISCOVERY: plan.cluster},
    }
    yield resource(_FILE, "aws_security_group", "nodes", attributes)
    nodes = Raw("aws_security_group.nodes.id")
    among = {"security_group_id": nodes, "referenced_security_group_id": nodes, "ip_protocol": "-1"}
    yield resource(
        _FILE, "aws_vpc_security_group_ingress_rule", "nodes", {**among, "description": "Nodes and the control plane"}
    )
    yield resource(_FILE, "aws_vpc_security_group_egress_rule", "nodes", {**among, "description": "EFA among nodes"})
    out = {
        "security_group_id": nodes,
        "cidr_ipv4": _EVERYWHERE,
        "ip_protocol": "-1",
        "description": "Out: images, models and AWS; pods are held by NetworkPolicies",
    }
    yield resource(_FILE, "aws_vpc_security_group_egress_rule", "nodes_out", out)
    own = Raw("aws_eks_cluster.main.vpc_config[0].cluster_security_group_id")
    for name, to, source in (("nodes_from_cluster", nodes, own), ("cluster_from_nodes", own, nodes)):
        rule = {
            "security_group_id": to,
            "referenced_security_group_id": source,
            "ip_protocol": "-1",
            "description": "Nodes that EKS puts into its own group, and the others",
        }
        yield resource(_FILE, "aws_vpc_security_group_ingress_rule", name, rule)


def _quoted(text: str) -> str:
    return f'"{text}"'

"""What is around the parts of Terraform that components write: variables where somebody else has made the cluster, and
the root module's own resources where that makes it (`Plan.aws`)."""

from collections.abc import Iterator
from dataclasses import dataclass

from stoker.render.hcl import Raw
from stoker.render.items import Variable
from stoker.render.plan import Plan


@dataclass(frozen=True)
class Around:
    """`made`: the expression in the root module."""

    variable: Variable
    made: str

    def value(self, plan: Plan) -> Raw:
        return Raw(self.made if plan.aws == "terraform" else f"var.{self.variable.name}")

    def asked(self, plan: Plan) -> Iterator[Variable]:
        """The variable, where there is one."""
        if plan.aws != "terraform":
            yield self.variable


VPC = Around(Variable("vpc_id", "string", "VPC of the cluster."), "aws_vpc.main.id")
SUBNETS = Around(
    Variable("private_subnet_ids", "list(string)", "Private subnets of the cluster, in at least two zones."),
    "values(aws_subnet.private)[*].id",
)
NODES_GROUP = Around(
    Variable("node_security_group_id", "string", "Security group of the cluster's nodes."),
    "aws_security_group.nodes.id",
)


def cluster_name(plan: Plan) -> Raw | str:
    """For what is made in the cluster, and so after it."""
    return Raw("aws_eks_cluster.main.name") if plan.aws == "terraform" else plan.cluster


RECOVERY_DAYS = 7


def recovery(plan: Plan) -> dict[str, Raw]:
    """How long a secret can still be brought back after it was deleted; not at all where `var.delete_data` says so."""
    if plan.aws != "terraform":
        return {}
    return {"recovery_window_in_days": Raw(f"var.delete_data ? 0 : {RECOVERY_DAYS}")}

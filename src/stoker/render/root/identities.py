"""Roles of ServiceAccounts: `iam.identities`, which is the one list of who may do what, as Terraform."""

from collections.abc import Iterator

from stoker.render import iam
from stoker.render.hcl import Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.parts import resource, role

_FILE = "identities.tf"


def render(plan: Plan) -> Iterator[Item]:
    for who in iam.identities(plan):
        label = who.account.replace("-", "_")
        yield from role(
            plan,
            _FILE,
            label,
            plan.name_in_region(who.account),
            iam.pod_trust(plan, who.namespace, who.account),
            statements=who.statements,
            comment=who.why,
        )
        yield association(plan, _FILE, label, who.namespace, who.account)


def association(plan: Plan, file: str, label: str, namespace: str, account: str) -> Item:
    """The role of that label, for pods of this ServiceAccount."""
    attributes = {
        "cluster_name": Raw("aws_eks_cluster.main.name"),
        "namespace": namespace,
        "service_account": account,
        "role_arn": Raw(f"aws_iam_role.{label}.arn"),
    }
    return resource(file, "aws_eks_pod_identity_association", label, attributes)

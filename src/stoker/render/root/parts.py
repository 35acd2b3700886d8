"""What the modules of this folder write with: resources, roles, and the account's part of an ARN."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Terraform
from stoker.render.objects import Object
from stoker.render.plan import Plan

ACCOUNT = "${data.aws_caller_identity.current.account_id}"


def resource(
    file: str, kind: str, name: str, attributes: Mapping[str, Any], *blocks: Block, comment: str = ""
) -> Terraform:
    return Terraform(file, Block("resource", (kind, name), attributes, blocks), comment)


def document(*statements: Mapping[str, Any]) -> Json:
    """A policy of IAM."""
    return Json({"Version": "2012-10-17", "Statement": list(statements)})


def arn(plan: Plan, service: str, rest: str, *, region: str | None = None) -> str:
    """In the cluster's region and in the account that is signed in to, which `allowed_account_ids` holds to the file's.
    `region` "": services that have none."""
    return f"arn:{plan.partition}:{service}:{plan.region if region is None else region}:{ACCOUNT}:{rest}"


def managed(plan: Plan, policy: str) -> str:
    """The ARN of a policy of AWS' own."""
    return f"arn:{plan.partition}:iam::aws:policy/{policy}"


def role(
    plan: Plan,
    file: str,
    label: str,
    name: str,
    trust: Object,
    *,
    statements: Sequence[Object] = (),
    policies: Sequence[str] = (),
    comment: str = "",
) -> Iterator[Terraform]:
    """A role with its own rights inline, so that they live and die with it, and those of AWS' own policies."""
    attributes = {"name": name, "assume_role_policy": document(trust)}
    yield resource(file, "aws_iam_role", label, attributes, comment=comment)
    of_role = Raw(f"aws_iam_role.{label}.name")
    if statements:
        inline = {"name": label.replace("_", "-"), "role": of_role, "policy": document(*statements)}
        yield resource(file, "aws_iam_role_policy", label, inline)
    for policy in policies:
        attached = {"role": of_role, "policy_arn": managed(plan, policy)}
        yield resource(file, "aws_iam_role_policy_attachment", f"{label}_{_snake(policy)}", attached)


def attachments(label: str, policies: Sequence[str]) -> list[Raw]:
    """For `depends_on`: what needs the role needs its rights, until it is destroyed."""
    return [Raw(f"aws_iam_role_policy_attachment.{label}_{_snake(policy)}") for policy in policies]


def _snake(policy: str) -> str:
    """AmazonEKS_CNI_Policy -> cni, AmazonEKSWorkerNodePolicy -> worker_node."""
    bare = policy.rpartition("/")[2].removeprefix("Amazon").removeprefix("EKS")
    words: list[str] = []
    for each in bare.replace("_", " ").split():
        start = 0
        for at in range(1, len(each)):
            if each[at].isupper() and (not each[at - 1].isupper() or each[at + 1 : at + 2].islower()):
                words.append(each[start:at])
                start = at
        words.append(each[start:])
    return "_".join(word.lower() for word in words if word.lower() != "policy")

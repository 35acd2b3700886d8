"""Terraform itself: versions, where its state is, the provider, and the variables that no part has to itself."""

from collections.abc import Iterator

from stoker.render.hcl import Block, Raw
from stoker.render.items import Item, Terraform, Variable
from stoker.render.plan import Plan
from stoker.render.root.without import PARTS

_FILE = "providers.tf"


def backend(plan: Plan) -> Block:
    """S3 locks the state by an object beside it, since Terraform 1.10. A file otherwise, beside the module or where
    `terraform init -backend-config=path=...` says."""
    bucket = plan.spec.deploy.state_bucket
    if bucket is None:
        return Block("backend", ("local",))
    where = {"bucket": bucket, "key": f"{plan.cluster}/terraform.tfstate", "region": plan.region}
    return Block("backend", ("s3",), {**where, "encrypt": True, "use_lockfile": True})


def render(plan: Plan) -> Iterator[Item]:
    accounts = {"allowed_account_ids": [plan.account]} if plan.account is not None else {}
    provider = Block(
        "provider", ("aws",), {"region": plan.region, **accounts}, [Block("default_tags", (), {"tags": plan.tags})]
    )
    yield Terraform(_FILE, provider, "" if accounts else "Any account: global.cluster.account is not said.")
    yield Terraform(_FILE, Block("data", ("aws_caller_identity", "current")))
    yield Variable("kubernetes_version", "string", "Version of EKS.", plan.spec.deploy.kubernetes_version)
    yield Variable("vpc_cidr", "string", "Addresses of the VPC, a /16 to /18.", plan.spec.deploy.network.cidr)
    yield Variable(
        "delete_data",
        "bool",
        "Whether destroy takes data with it: what is in buckets and repositories, the database without a last "
        "snapshot, secrets without days of grace. Applied before it counts.",
        Raw("false"),
    )
    said = "; ".join(f"{name} ({what.said})" for name, what in PARTS.items())
    yield Variable(
        "without",
        "set(string)",
        f"Parts that are left out, for accounts and stand-ins of AWS that lack them: {said}.",
        Raw("[]"),
    )

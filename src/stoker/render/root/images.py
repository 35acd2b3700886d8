"""Repositories of Stoker's own images, as `aws` has them for ACK."""

from collections.abc import Iterator

from stoker.render import aws
from stoker.render.hcl import Block, Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.parts import resource

_FILE = "ecr.tf"


def render(plan: Plan) -> Iterator[Item]:
    for part in aws.repositories(plan):
        attributes = {
            "name": aws.repository(part),
            "image_tag_mutability": "IMMUTABLE",
            "force_delete": Raw("var.delete_data"),
        }
        blocks = [
            Block("image_scanning_configuration", (), {"scan_on_push": True}),
            Block("encryption_configuration", (), {"encryption_type": "KMS"}),
        ]
        yield resource(_FILE, "aws_ecr_repository", part, attributes, *blocks)
        kept = {"repository": Raw(f"aws_ecr_repository.{part}.name"), "policy": aws.kept_images()}
        yield resource(_FILE, "aws_ecr_lifecycle_policy", part, kept)

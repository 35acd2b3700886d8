"""Buckets as `aws` has them for ACK; the same names, the same rules."""

from collections.abc import Iterator

from stoker.render import aws, iam
from stoker.render.hcl import Block, Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.parts import document, resource

_FILE = "s3.tf"
_CLOSED = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")


def render(plan: Plan) -> Iterator[Item]:
    for what in aws.buckets(plan):
        yield from _bucket(plan, what)


def _bucket(plan: Plan, said: aws.Bucket) -> Iterator[Item]:
    label, bucket = said.what, Raw(f"aws_s3_bucket.{said.what}.id")
    attributes = {"bucket": said.name, "force_destroy": Raw("var.delete_data")}
    yield resource(_FILE, "aws_s3_bucket", label, attributes, comment=f"For {' and '.join(said.uses)}.")
    closed = {"bucket": bucket, **dict.fromkeys(_CLOSED, True)}
    yield resource(_FILE, "aws_s3_bucket_public_access_block", label, closed)
    owner = Block("rule", (), {"object_ownership": "BucketOwnerEnforced"})
    yield resource(_FILE, "aws_s3_bucket_ownership_controls", label, {"bucket": bucket}, owner)
    versioning = Block("versioning_configuration", (), {"status": "Enabled"})
    yield resource(_FILE, "aws_s3_bucket_versioning", label, {"bucket": bucket}, versioning)
    by_default = Block("apply_server_side_encryption_by_default", (), {"sse_algorithm": "aws:kms"})
    rule = Block("rule", (), {"bucket_key_enabled": True}, [by_default])
    yield resource(_FILE, "aws_s3_bucket_server_side_encryption_configuration", label, {"bucket": bucket}, rule)
    old = Block(
        "rule",
        (),
        {"id": "old", "status": "Enabled"},
        [
            Block("filter", (), {"prefix": ""}),
            Block("noncurrent_version_expiration", (), {"noncurrent_days": said.old_days}),
            Block("expiration", (), {"expired_object_delete_marker": True}),
            Block("abort_incomplete_multipart_upload", (), {"days_after_initiation": 7}),
        ],
    )
    after = {"bucket": bucket, "depends_on": [Raw(f"aws_s3_bucket_versioning.{label}")]}
    yield resource(_FILE, "aws_s3_bucket_lifecycle_configuration", label, after, old)
    tls = aws.only_tls("s3:*", iam.bucket_arn(plan, said.name), iam.bucket_arn(plan, f"{said.name}/*"))
    policy = {
        "bucket": bucket,
        "policy": document(tls),
        "depends_on": [Raw(f"aws_s3_bucket_public_access_block.{label}")],
    }
    yield resource(_FILE, "aws_s3_bucket_policy", label, policy)

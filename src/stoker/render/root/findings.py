"""What checkov finds, and is left as it is: each with the reason, which is written into the module beside it.

`make test-checkov` fails for any other finding, and for a reason that nothing needs any more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from stoker.render.items import Item, Terraform
from stoker.render.root.observing import INSIGHTS

_OWN_KEY = "AWS' own key of the service: a key of ours would add rights on it to every reader, and keep nobody else out"
_SECRET = {
    "CKV_AWS_149": _OWN_KEY,
    "CKV2_AWS_57": "pods read it when they start, so that a value which changes by itself would break them; "
    "secret_string_wo_version writes a new one when somebody asks",
}
_ROUTE = {
    "CKV_AWS_309": "of a WebSocket API only the route $connect can have one, and has it; "
    "each message carries a key of Stoker's besides"
}

REASONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "aws_apigatewayv2_route.chat": _ROUTE,
        "aws_apigatewayv2_route.otherwise": _ROUTE,
        "aws_apigatewayv2_route.result": _ROUTE,
        "aws_apigatewayv2_route.task": _ROUTE,
        "aws_apigatewayv2_stage.websocket": {
            "CKV2_AWS_51": "WebSocket APIs have no client certificates; who connects signs with IAM"
        },
        "aws_cloudformation_stack.kro": {
            "CKV_AWS_124": "one resource, which Terraform makes, waits for and takes away"
        },
        **{
            f"aws_cloudwatch_log_group.insights_{what}": {
                "CKV_AWS_338": "lines of pods and nodes, by the GB: 30 days are what an incident is looked into by"
            }
            for what in INSIGHTS
        },
        "aws_cloudwatch_log_group.websocket": {
            "CKV_AWS_338": "lines name who connected, and are kept as long as it takes to look into a complaint"
        },
        "aws_db_instance.ledger": {
            "CKV_AWS_161": "pods sign in with a password that was made up for them and is in no state; "
            "tokens of IAM end after 15 minutes, and pools of connections outlive them",
            "CKV_AWS_293": "stoker destroy asks for the cluster's name first, and a last snapshot stays; "
            "protection would only make it fail halfway",
            "CKV_AWS_354": _OWN_KEY,
        },
        "aws_elasticache_replication_group.redis": {"CKV_AWS_191": _OWN_KEY},
        "aws_fsx_lustre_file_system.training": {"CKV_AWS_190": _OWN_KEY},
        "aws_s3_bucket.checkpoints": {
            "CKV_AWS_18": "a log entry for each part of a checkpoint would cost more than the bucket; "
            "CloudTrail's data events are the account's to switch on",
            "CKV_AWS_144": "checkpoints are of use where the nodes are; a copy in another region doubles their price",
            "CKV2_AWS_62": "nothing waits for objects of this bucket",
        },
        "aws_s3_bucket.models": {
            "CKV_AWS_18": "only replicas and the jobs that fill it read it, each by a role of its own; "
            "CloudTrail's data events are the account's to switch on",
            "CKV_AWS_144": "weights come from the hub or from training, and can be had again",
            "CKV2_AWS_62": "nothing waits for objects of this bucket",
        },
        "aws_secretsmanager_secret": _SECRET,
    }
)
"""By TYPE.NAME, or by TYPE for all of it."""

OPEN_API = {"CKV_AWS_39": "deploy.network.publicAccess names who reaches the API from the internet"}
"""Of the cluster, where it does."""


def explained(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Terraform) and item.block.type == "resource":
            kind, name = item.block.labels
            reasons = {**REASONS.get(kind, {}), **REASONS.get(f"{kind}.{name}", {})}
            if kind == "aws_eks_cluster" and _is_open(item):
                reasons |= OPEN_API
            comments = [f"checkov:skip={check}:{reason}" for check, reason in sorted(reasons.items())]
            yield replace(item, block=replace(item.block, comments=comments))
        else:
            yield item


def _is_open(item: Terraform) -> bool:
    return any(each.attributes.get("endpoint_public_access") is True for each in item.block.blocks)

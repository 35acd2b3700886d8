"""The queue in which Karpenter hears that EC2 takes an instance away, and what fills it. Auto Mode has its own."""

from collections.abc import Iterator

from stoker.catalog.labels import AWS
from stoker.render.facts import short
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Terraform
from stoker.render.plan import Plan

_FILE = "terraform/interruption.tf"
_QUEUE = Raw("aws_sqs_queue.interruption.arn")
_EVENTS = {
    "spot_interruption": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state_change": ("aws.ec2", "EC2 Instance State-change Notification"),
    "scheduled_change": ("aws.health", "AWS Health Event"),
    "capacity_reservation": ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
}
"""What Karpenter listens for (aws/karpenter-provider-aws v1.14, getting-started-with-karpenter/cloudformation.yaml)."""
_OF_QUEUE = ("SendMessage", "ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl", "PurgeQueue")


def render(plan: Plan) -> Iterator[Item]:
    if not any(pool.domain == AWS for pool in plan.pools):
        return
    yield Terraform(_FILE, _queue(plan), "Karpenter's settings.interruptionQueue. A notice is worth 2 minutes.")
    yield Terraform(_FILE, _policy())
    for name, (source, detail) in _EVENTS.items():
        yield Terraform(_FILE, _rule(plan, name, source, detail))
        yield Terraform(_FILE, _target(name))


def _queue(plan: Plan) -> Block:
    attributes = {
        "name": plan.interruption_queue,
        "message_retention_seconds": 300,
        "sqs_managed_sse_enabled": True,
        "tags": plan.tags,
    }
    return Block("resource", ("aws_sqs_queue", "interruption"), attributes)


def _policy() -> Block:
    send = {
        "Sid": "EventsMaySend",
        "Effect": "Allow",
        "Principal": {"Service": ["events.amazonaws.com", "sqs.amazonaws.com"]},
        "Action": "sqs:SendMessage",
        "Resource": _QUEUE,
    }
    encrypted = {
        "Sid": "OnlyByTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": [f"sqs:{each}" for each in _OF_QUEUE],
        "Resource": _QUEUE,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    document = Json({"Version": "2012-10-17", "Statement": [send, encrypted]})
    attributes = {"queue_url": Raw("aws_sqs_queue.interruption.url"), "policy": document}
    return Block("resource", ("aws_sqs_queue_policy", "interruption"), attributes)


def _rule(plan: Plan, name: str, source: str, detail: str) -> Block:
    attributes = {
        "name": short(plan.cluster, name.replace("_", "-"), at_most=64),
        "description": f"To Karpenter: {detail}",
        "event_pattern": Json({"source": [source], "detail-type": [detail]}),
        "tags": plan.tags,
    }
    return Block("resource", ("aws_cloudwatch_event_rule", name), attributes)


def _target(name: str) -> Block:
    attributes = {
        "rule": Raw(f"aws_cloudwatch_event_rule.{name}.name"),
        "target_id": "KarpenterInterruptionQueueTarget",
        "arn": _QUEUE,
    }
    return Block("resource", ("aws_cloudwatch_event_target", name), attributes)

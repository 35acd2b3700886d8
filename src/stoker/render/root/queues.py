"""The queue of dead letters, as `aws` has it for ACK. That of interruptions is the component `interruption`'s."""

from collections.abc import Iterator

from stoker.render import aws
from stoker.render.hcl import Json, Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.parts import document, resource

_FILE = "sqs.tf"


def render(plan: Plan) -> Iterator[Item]:
    if not plan.spec.keda.scalers.sqs:
        return
    name = plan.spec.queue.dead_letters.sqs_queue
    attributes = {
        "name": name,
        **({"fifo_queue": True} if name.endswith(".fifo") else {}),
        "message_retention_seconds": aws.LETTERS_KEPT_S,
        "sqs_managed_sse_enabled": True,
    }
    why = (
        "Letters stay for 14 days, the most that SQS allows; prompts are in them. They end here: it has no other queue."
    )
    yield resource(_FILE, "aws_sqs_queue", "dead_letters", attributes, comment=why)
    queue = Raw("aws_sqs_queue.dead_letters.url")
    allowed = {"queue_url": queue, "redrive_allow_policy": Json({"redrivePermission": "denyAll"})}
    yield resource(_FILE, "aws_sqs_queue_redrive_allow_policy", "dead_letters", allowed)
    policy = document(aws.only_tls("sqs:*", Raw("aws_sqs_queue.dead_letters.arn")))
    yield resource(_FILE, "aws_sqs_queue_policy", "dead_letters", {"queue_url": queue, "policy": policy})

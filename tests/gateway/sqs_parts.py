"""A queue of SQS for one test, seen from outside by boto3."""

import itertools
import json
from typing import Any

import boto3

from stoker.spec import Platform, loads
from stoker.testing.aws import Gate

REGION = "us-west-2"
_numbers = itertools.count(1)


class Sqs:
    """`name` is fresh; `gate` is what the gateway talks to, `client` goes round it."""

    def __init__(self, url: str, gate: Gate, *, fifo: bool = False, room_bytes: int | None = None) -> None:
        self.gate = gate
        self.name = f"dead-{next(_numbers)}" + (".fifo" if fifo else "")
        self.client: Any = boto3.client("sqs", region_name=REGION, endpoint_url=url)
        attributes = {"FifoQueue": "true"} if fifo else {}
        if room_bytes is not None:
            attributes["MaximumMessageSize"] = str(room_bytes)
        self.queue_url = self.client.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"]

    def count(self) -> tuple[int, int]:
        """How many messages wait, and how many are hidden because somebody has received them."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def letters(self) -> list[dict[str, Any]]:
        """What waits, left as it is: `body` as read from JSON, and `attributes`."""
        answer = self.client.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return [
            {
                "letter": json.loads(each["Body"]),
                "attributes": {n: value["StringValue"] for n, value in each["MessageAttributes"].items()},
            }
            for each in answer.get("Messages", [])
        ]

    def put(self, text: str) -> None:
        extra = {"MessageGroupId": "g", "MessageDeduplicationId": text[:50]} if self.name.endswith(".fifo") else {}
        self.client.send_message(QueueUrl=self.queue_url, MessageBody=text, **extra)


def with_sqs(spec: str, queue: str) -> Platform:
    return loads(spec_with_sqs(spec, queue))


def spec_with_sqs(spec: str, queue: str) -> str:
    spec = spec.replace("queue: {", f"queue: {{deadLetters: {{sqsQueue: {queue}}}, ")
    return spec + "keda: {scalers: {sqs: true}}\n"

"""One SQS queue: messages are sent, received, deleted. Where AWS is, and with which credentials, boto3 finds by its own
rules (environment, profile, role of the pod; AWS_ENDPOINT_URL for another server). Its errors become Unavailable here.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stoker.aws.away import unreachable
from stoker.base.errors import Unavailable

T = TypeVar("T")

MOST_AT_ONCE = 10  # messages of one call, SQS' own limit
# Short, since a gateway that is told to stop waits for what runs.
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 5.0
# What was received and neither deleted nor put back can be received again after this long.
HIDDEN_S = 120
# A short wait makes SQS ask all its servers, where no wait asks some of them and may find nothing.
RECEIVE_WAIT_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to be sent. `id`: what makes a FIFO queue take it once within five minutes. `group`: messages of one
    are delivered in order there. `attributes` are for people and filters."""

    id: str
    group: str
    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """As SQS counts."""
        extras = sum(len(name) + len("String") + len(value) for name, value in self.attributes.items())
        return len(self.text.encode()) + extras


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that was received; `receipt` is what this delivery of it is deleted or put back by."""

    text: str
    receipt: str


class SqsQueue:
    """The queue of this name, which has to exist. Connects when first used. Every method raises Unavailable
    (`sqs_unavailable`), upon which nobody knows whether the step happened."""

    def __init__(self, name: str, *, region: str, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self.name = name
        self.is_fifo = name.endswith(".fifo")
        self._region = region
        self._read_timeout_s = read_timeout_s
        self._client: Any = None
        self._url = ""
        self._room = 0
        self._connecting = asyncio.Lock()

    async def room_bytes(self) -> int:
        """How large one message, and all of one call together, may be."""
        await self._connected()
        return self._room

    async def send(self, messages: Sequence[Outgoing]) -> dict[str, str]:
        """Up to `MOST_AT_ONCE` at once. Returns why some were refused, by their ids; SQS has confirmed all others."""
        url = await self._connected()
        entries = [self._entry(str(number), message) for number, message in enumerate(messages)]
        answer = await self._call("send to", lambda: self._client.send_message_batch(QueueUrl=url, Entries=entries))
        confirmed = {int(each["Id"]) for each in answer.get("Successful", ())}
        why = {int(each["Id"]): str(each.get("Code", "refused")) for each in answer.get("Failed", ())}
        return {
            message.id: why.get(number, "not confirmed")
            for number, message in enumerate(messages)
            if number not in confirmed
        }

    async def receive(self, most: int) -> list[Incoming]:
        """Some of those that wait, hidden from others for `HIDDEN_S`; none when there is none."""
        url = await self._connected()
        answer = await self._call(
            "receive from",
            lambda: self._client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=min(most, MOST_AT_ONCE),
                VisibilityTimeout=HIDDEN_S,
                WaitTimeSeconds=RECEIVE_WAIT_S,
            ),
        )
        return [Incoming(each["Body"], each["ReceiptHandle"]) for each in answer.get("Messages", ())]

    async def delete(self, message: Incoming) -> None:
        url = await self._connected()
        await self._call(
            "delete from", lambda: self._client.delete_message(QueueUrl=url, ReceiptHandle=message.receipt)
        )

    async def put_back(self, message: Incoming) -> None:
        """Anybody may receive it again at once."""
        url, receipt = await self._connected(), message.receipt
        await self._call(
            "put back into",
            lambda: self._client.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0),
        )

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    def _entry(self, number: str, message: Outgoing) -> dict[str, Any]:
        attributes = {
            name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items() if value
        }
        entry = {"Id": number, "MessageBody": message.text, "MessageAttributes": attributes}
        if self.is_fifo:
            entry |= {"MessageGroupId": message.group, "MessageDeduplicationId": message.id}
        return entry

    async def _connected(self) -> str:
        async with self._connecting:
            if self._client is None:
                client = await self._call("find", self._made)
                try:
                    await self._call("find", lambda: self._look(client))
                except BaseException:
                    client.close()
                    raise
                self._client = client
        return self._url

    def _made(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._read_timeout_s,
            retries={"total_max_attempts": 1},  # who calls decides when to try again
        )
        return boto3.client("sqs", region_name=self._region, config=config)

    def _look(self, client: Any) -> None:
        self._url = client.get_queue_url(QueueName=self.name)["QueueUrl"]
        names = ["MaximumMessageSize"]
        found = client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        self._room = int(found["MaximumMessageSize"])

    async def _call(self, doing: str, call: Callable[[], T]) -> T:
        """In a thread, since boto3 blocks. What boto3 says may hold addresses, so it is for the log alone."""
        try:
            from botocore.exceptions import ClientError
        except ImportError as exc:
            error = _unavailable(f"cannot {doing} the SQS queue {self.name}: boto3 is not installed", str(exc))
            error.hint = "pip install 'stoker[aws]'"
            raise error from exc
        try:
            return await asyncio.to_thread(call)
        except ClientError as exc:
            code = str(exc.response.get("Error", {}).get("Code", "unknown")).rpartition(".")[2]
            raise _unavailable(f"cannot {doing} the SQS queue {self.name}: SQS said {code}", str(exc)) from exc
        except unreachable() as exc:
            raise _unavailable(f"cannot {doing} the SQS queue {self.name}: {type(exc).__name__}", str(exc)) from exc


def _unavailable(message: str, detail: str) -> Unavailable:
    error = Unavailable(message, code="sqs_unavailable")
    error.detail = detail[:300]
    return error

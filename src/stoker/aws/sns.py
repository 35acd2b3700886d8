"""One SNS topic: messages are published to it. Where AWS is, and with which credentials, boto3 finds by its own rules
(environment, profile, role of the pod; AWS_ENDPOINT_URL for another server). Its errors become Unavailable here.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from stoker.aws.away import unreachable
from stoker.base.errors import InvalidInput, Unavailable

# Short, since a gateway that is told to stop waits for what runs.
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 5.0
SUBJECT_CHARS = 99
"""SNS takes fewer than 100, of ASCII."""


class SnsTopic:
    """A topic by its ARN, or by its name in the region and account of who asks; it has to exist. Connects when first
    used. Raises InvalidInput at once when boto3 is not installed."""

    def __init__(self, topic: str, *, region: str) -> None:
        try:
            import boto3  # noqa: F401 - whether it is there
        except ImportError as exc:
            raise InvalidInput("SNS needs boto3", hint="pip install 'stoker[aws]'") from exc
        self.topic = topic
        self._region = topic.split(":")[3] if topic.startswith("arn:") else region
        self._arn = topic if topic.startswith("arn:") else None
        self._client: Any = None

    async def publish(self, message: str, *, subject: str, attributes: Mapping[str, str]) -> None:
        """SNS has taken it when this returns. Raises Unavailable (`sns_unavailable`), upon which nobody knows whether
        it did."""
        await asyncio.to_thread(self._publish, message, subject, attributes)

    def _publish(self, message: str, subject: str, attributes: Mapping[str, str]) -> None:
        from botocore.exceptions import ClientError

        try:
            if self._client is None:
                self._client = self._made("sns")
            if self._arn is None:
                self._arn = self._own_arn()
            self._client.publish(
                TopicArn=self._arn,
                Message=message,
                Subject=subject.encode("ascii", "replace").decode()[:SUBJECT_CHARS],
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
                },
            )
        except ClientError as exc:
            code = str(exc.response.get("Error", {}).get("Code", "unknown"))
            raise _unavailable(f"SNS said {code} of the topic {self.topic}", str(exc)) from exc
        except unreachable() as exc:
            raise _unavailable(f"SNS cannot be reached: {type(exc).__name__}", str(exc)) from exc

    def _own_arn(self) -> str:
        """In the account of who asks, which nobody needs a right to know."""
        client = self._made("sts")
        try:
            who = client.get_caller_identity()
        finally:
            client.close()
        partition = str(who["Arn"]).split(":")[1]
        return f"arn:{partition}:sns:{self._region}:{who['Account']}:{self.topic}"

    def _made(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},  # who calls decides when to try again
        )
        return boto3.Session().client(service, region_name=self._region, config=config)

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)


def _unavailable(message: str, detail: str) -> Unavailable:
    error = Unavailable(message, code="sns_unavailable")
    error.detail = detail[:300]
    return error

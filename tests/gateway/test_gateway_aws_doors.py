"""What AWS's clients raise becomes ours at the door, also where it is no error of AWS: a gateway in which anything else
ends what runs beside its routes ends with it."""

import pytest

from stoker.aws.cloudwatch import Datum
from stoker.aws.cloudwatch import Metrics as CloudWatchMetrics
from stoker.aws.cost_explorer import cost_and_usage
from stoker.aws.identity import caller
from stoker.aws.prerequisites import missing_images
from stoker.aws.sns import SnsTopic
from stoker.aws.spot_prices import spot_prices
from stoker.aws.sqs import SqsQueue
from stoker.base.errors import Unavailable
from stoker.testing.aws import CREDENTIALS
from stoker.testing.receiver import Receiver

DAY_S = 86_400.0
TOPIC = "arn:aws:sns:us-west-2:123456789012:budgets"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


async def tell_sns() -> None:
    topic = SnsTopic(TOPIC, region="us-west-2")
    try:
        await topic.publish("said", subject="subject", attributes={})
    finally:
        await topic.aclose()


async def look_into_sqs() -> None:
    queue = SqsQueue("dead", region="us-west-2")
    try:
        await queue._connected()
    finally:
        await queue.aclose()


@pytest.mark.parametrize("url", ["localhost:4566", "http://127.0.0.1:99999"])
async def test_an_endpoint_that_is_no_url_is_unavailable(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(Unavailable, match="SNS cannot be reached: ValueError"):
        await tell_sns()
    with pytest.raises(Unavailable, match="cannot find the SQS queue dead: ValueError"):
        await look_into_sqs()
    with pytest.raises(Unavailable, match="CloudWatch cannot be reached: ValueError"):
        CloudWatchMetrics("Stoker", region="us-west-2").send([Datum("Requests", 1.0, "Count", 0.0, {})])
    with pytest.raises(Unavailable, match="Cost Explorer cannot be reached: ValueError"):
        cost_and_usage(since=0.0, until=DAY_S, metric="UnblendedCost")
    with pytest.raises(Unavailable, match="EC2 cannot be asked for spot prices"):
        spot_prices("us-west-2", ["m5.large"], 0.0)
    with pytest.raises(Unavailable, match="STS cannot be asked"):
        caller("us-west-2")
    with pytest.raises(Unavailable, match="AWS cannot be asked"):
        missing_images("us-west-2", [("stoker", "1")])


async def test_a_proxy_that_answers_in_place_of_aws_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver(301) as receiver:
        monkeypatch.setenv("AWS_ENDPOINT_URL", receiver.url)
        with pytest.raises(Unavailable, match="SNS cannot be reached: ResponseParserError"):
            await tell_sns()

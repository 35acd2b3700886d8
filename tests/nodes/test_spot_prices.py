"""EC2's history of spot prices, through boto3's own parser."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from stoker.aws.spot_prices import SpotPrice, spot_prices
from stoker.base.errors import NotPermitted, Unavailable

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.fixture(name="ec2")
def a_client() -> Any:
    return boto3.client("ec2", region_name="us-west-2", aws_access_key_id="testing", aws_secret_access_key="testing")


def row(zone: str, at: datetime, usd: str) -> dict[str, Any]:
    return {"InstanceType": "g6.xlarge", "AvailabilityZone": zone, "Timestamp": at, "SpotPrice": usd}


def test_pages_are_read_to_the_end_and_told_by_time(ec2: Any) -> None:
    with Stubber(ec2) as stub:
        first = [row("us-west-2a", NOON + timedelta(hours=1), "0.310000")]
        stub.add_response("describe_spot_price_history", {"SpotPriceHistory": first, "NextToken": "more"})
        second = [row("us-west-2b", NOON, "0.250000")]
        stub.add_response("describe_spot_price_history", {"SpotPriceHistory": second, "NextToken": ""})
        found = spot_prices("us-west-2", ["g6.xlarge"], NOON.timestamp() - 800, client=ec2)
        stub.assert_no_pending_responses()
    noon = NOON.timestamp()
    assert found == [
        SpotPrice("g6.xlarge", "us-west-2b", noon, 0.25),
        SpotPrice("g6.xlarge", "us-west-2a", noon + 3600, 0.31),
    ]


@pytest.mark.parametrize(
    ("code", "kind"), [("UnauthorizedOperation", NotPermitted), ("RequestLimitExceeded", Unavailable)]
)
def test_a_refusal_says_what_to_allow(ec2: Any, code: str, kind: type[Exception]) -> None:
    with Stubber(ec2) as stub:
        stub.add_client_error("describe_spot_price_history", code)
        with pytest.raises(kind, match="EC2 says no to the history of spot prices"):
            spot_prices("us-west-2", ["g6.xlarge"], 0.0, client=ec2)

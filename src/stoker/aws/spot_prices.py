"""EC2's history of spot prices. Errors of boto3 become NotPermitted or Unavailable here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stoker.aws.away import unreachable
from stoker.base.errors import InvalidInput, NotPermitted, Unavailable

_LINUX = "Linux/UNIX"
_MOST_TYPES = 100
_MOST_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class SpotPrice:
    """From `at` (seconds since the epoch) on, until the next."""

    type: str
    zone: str
    at: float
    usd_per_hour: float


def spot_prices(region: str, types: Sequence[str], since: float, *, client: Any = None) -> list[SpotPrice]:
    """Of Linux, in all zones of the region: the price at `since` and each change after it, by time.

    Source: EC2 API reference, DescribeSpotPriceHistory."""
    try:
        import boto3
        import botocore.exceptions as errors
    except ImportError as error:
        raise InvalidInput("spot prices need boto3", hint="pip install 'stoker[aws]'") from error
    found: list[SpotPrice] = []
    try:
        ec2 = client or boto3.client("ec2", region_name=region)
        pages = ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(types[:_MOST_TYPES]),
            ProductDescriptions=[_LINUX],
            StartTime=datetime.fromtimestamp(since, UTC),
            PaginationConfig={"MaxItems": _MOST_ROWS},
        )
        for page in pages:
            for each in page["SpotPriceHistory"]:
                at, usd = each["Timestamp"].timestamp(), float(each["SpotPrice"])
                found.append(SpotPrice(each["InstanceType"], each["AvailabilityZone"], at, usd))
    except (errors.NoCredentialsError, errors.PartialCredentialsError) as error:
        raise NotPermitted(f"EC2 does not know who asks: {error}") from error
    except errors.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = NotPermitted if code in ("UnauthorizedOperation", "AuthFailure", "AccessDenied") else Unavailable
        raise kind(
            f"EC2 says no to the history of spot prices: {error}", hint="allow ec2:DescribeSpotPriceHistory"
        ) from error
    except unreachable() as error:
        raise Unavailable(f"EC2 cannot be asked for spot prices: {error}") from error
    return sorted(found, key=lambda each: (each.at, each.type, each.zone))

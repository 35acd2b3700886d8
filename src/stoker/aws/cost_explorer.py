"""Cost Explorer's GetCostAndUsage: all pages of it. AWS asks $0.01 for each request ("AWS Cost Explorer pricing")."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from stoker.aws.away import unreachable
from stoker.base.errors import InvalidInput, NotPermitted, Unavailable

USD_PER_REQUEST = 0.01
MOST_PAGES = 100


def cost_and_usage(
    *,
    since: float,
    until: float,
    metric: str,
    dimensions: Sequence[str] = ("USAGE_TYPE", "PURCHASE_TYPE"),
    tags: Sequence[tuple[str, str]] = (),
    region: str | None = None,
    before: Callable[[int], None] = lambda page: None,
) -> list[dict[str, Any]]:
    """By day (UTC), from the day of `since` to that of `until`; of what has any of `tags`; `before` is told each
    page that is asked for.

    Raises InvalidInput without boto3 and beyond MOST_PAGES, NotPermitted, Unavailable."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError
    except ImportError as exc:
        raise InvalidInput("Cost Explorer needs boto3", hint="pip install 'stoker[aws]'") from exc
    asked: dict[str, Any] = {
        "TimePeriod": {"Start": _day(since), "End": _day(until + 86400 - 1e-6)},
        "Granularity": "DAILY",
        "Metrics": [metric, "UsageQuantity"],
        "GroupBy": [{"Type": "DIMENSION", "Key": key} for key in dimensions],
    }
    any_of = [{"Tags": {"Key": key, "Values": [value], "MatchOptions": ["EQUALS"]}} for key, value in tags]
    if any_of:
        asked["Filter"] = {"Or": any_of} if len(any_of) > 1 else any_of[0]
    pages: list[dict[str, Any]] = []
    try:
        # Cost Explorer has one endpoint, in us-east-1.
        client = boto3.client(
            "ce",
            region_name=region or "us-east-1",
            config=Config(connect_timeout=5.0, read_timeout=60.0, retries={"total_max_attempts": 2}),
        )
        while True:
            before(len(pages) + 1)
            answer = client.get_cost_and_usage(**asked)
            pages.append({name: answer.get(name) for name in ("GroupDefinitions", "ResultsByTime", "NextPageToken")})
            if not answer.get("NextPageToken"):
                return pages
            if len(pages) == MOST_PAGES:
                raise InvalidInput(f"the bill has more than {MOST_PAGES} pages; ask for a shorter time", param="since")
            asked["NextPageToken"] = answer["NextPageToken"]
    except ClientError as exc:
        code = str(exc.response.get("Error", {}).get("Code", "unknown"))
        if "AccessDenied" in code:
            raise NotPermitted(
                "Cost Explorer refused: ce:GetCostAndUsage is needed",
                hint="allow it for who asks; the payer's account also has to let members see their costs",
            ) from exc
        raise Unavailable(f"Cost Explorer said {code}", code="cost_explorer_unavailable") from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        raise NotPermitted(
            "Cost Explorer cannot be asked: there are no credentials of AWS", hint="`aws configure`, or AWS_PROFILE"
        ) from exc
    except unreachable() as exc:
        raise Unavailable(
            f"Cost Explorer cannot be reached: {type(exc).__name__}", code="cost_explorer_unavailable"
        ) from exc


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()

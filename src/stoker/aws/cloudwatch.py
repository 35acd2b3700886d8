"""CloudWatch metrics: put behind whoever measures. Where AWS is, and with which credentials, boto3 finds by its own
rules (environment, profile, role of the pod; AWS_ENDPOINT_URL for another server). Its errors become Unavailable here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from stoker.aws.away import unreachable
from stoker.base.background import Background
from stoker.base.errors import InvalidInput, Unavailable

Unit = Literal["None", "Count", "Count/Second", "Percent", "Seconds"]

MOST_AT_ONCE = 1000
"""Metrics of one call, PutMetricData's own limit."""
MOST_BYTES = 900_000
"""Of one call, of the 1 MB that it may have; see `Datum.size_bytes`."""
MOST_VALUES = 150
"""Different values of one datum (`Counted`), PutMetricData's own limit."""
_MOST_VALUE = 2.0**360
_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """Many samples as one datum (CloudWatch's StatisticSet). It has no percentiles."""

    count: int
    sum: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Counted:
    """Samples with how often each was seen, at most `MOST_VALUES`: percentiles can be asked for."""

    counts: Mapping[float, int]


@dataclass(frozen=True, slots=True)
class Datum:
    """`at`: seconds since the epoch. `namespace`: empty for that of the `Metrics`."""

    name: str
    value: float | Statistics | Counted
    unit: Unit
    at: float
    dimensions: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""

    @property
    def can_be_put(self) -> bool:
        """CloudWatch refuses what is no number, and with it all others of the call."""
        return all(math.isfinite(each) and abs(each) <= _MOST_VALUE for each in _numbers(self.value))

    @property
    def size_bytes(self) -> int:
        """At most: each field with its name, and text of which every byte is escaped."""
        texts = [self.name, *self.dimensions, *self.dimensions.values()]
        numbers = 100 * len(_numbers(self.value))
        return 400 + numbers + 120 * len(self.dimensions) + 3 * sum(len(text.encode()) for text in texts)


class Metrics:
    """Metrics of one namespace. `put` never waits and never fails: while AWS is away some thousand wait, then the
    oldest are dropped. Raises InvalidInput at once when boto3 is not installed."""

    def __init__(
        self, namespace: str, *, region: str | None = None, pause_s: float = 30.0, most_waiting: int = 20_000
    ) -> None:
        try:
            import boto3  # noqa: F401 - whether it is there
        except ImportError as exc:
            raise InvalidInput("metrics for CloudWatch need boto3", hint="pip install 'stoker[aws]'") from exc
        self.namespace = namespace
        self._region = region
        self._client: Any = None
        self._behind: Background[Datum] = Background(
            "cloudwatch", self.send, most_waiting=most_waiting, most_at_once=MOST_AT_ONCE, pause_s=pause_s
        )

    @property
    def dropped(self) -> int:
        """Data that nobody will ever see, since AWS was away for too long."""
        return self._behind.dropped

    def put(self, *data: Datum) -> None:
        for each in data:
            if each.can_be_put:
                self._behind.add(each)

    def close(self, timeout_s: float = 5.0) -> None:
        self._behind.close(timeout_s)

    def send(self, data: Sequence[Datum]) -> None:
        """Now, in this thread. Raises Unavailable."""
        from botocore.exceptions import ClientError

        by_namespace: dict[str, list[Datum]] = {}
        for each in data:
            by_namespace.setdefault(each.namespace or self.namespace, []).append(each)
        try:
            client = self._connected()
            for namespace, those in by_namespace.items():
                for batch in batches(those):
                    client.put_metric_data(Namespace=namespace, MetricData=[_entry(each) for each in batch])
        except ClientError as exc:
            code = str(exc.response.get("Error", {}).get("Code", "unknown"))
            raise _unavailable(f"CloudWatch said {code}", str(exc)) from exc
        except unreachable() as exc:
            raise _unavailable(f"CloudWatch cannot be reached: {type(exc).__name__}", str(exc)) from exc

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            config = Config(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"total_max_attempts": 1},  # `Background` tries again
            )
            self._client = boto3.client("cloudwatch", region_name=self._region, config=config)
        return self._client


def batches(data: Sequence[Datum]) -> Iterator[list[Datum]]:
    """In their order, each as large as one call may be."""
    batch: list[Datum] = []
    size = 0
    for each in data:
        if batch and (len(batch) == MOST_AT_ONCE or size + each.size_bytes > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size_bytes
    if batch:
        yield batch


def _entry(datum: Datum) -> dict[str, Any]:
    return {
        "MetricName": datum.name,
        **_value(datum.value),
        "Unit": datum.unit,
        "Timestamp": datetime.fromtimestamp(datum.at, UTC),
        "Dimensions": [{"Name": name, "Value": value} for name, value in datum.dimensions.items()],
    }


def _value(value: float | Statistics | Counted) -> dict[str, Any]:
    match value:
        case Statistics():
            found = {"SampleCount": value.count, "Sum": value.sum, "Minimum": value.least, "Maximum": value.most}
            return {"StatisticValues": {name: float(each) for name, each in found.items()}}
        case Counted():
            return {"Values": list(value.counts), "Counts": [float(each) for each in value.counts.values()]}
    return {"Value": value}


def _numbers(value: float | Statistics | Counted) -> Sequence[float]:
    match value:
        case Statistics():
            return (value.count, value.sum, value.least, value.most)
        case Counted():
            return tuple(value.counts)
    return (value,)


def _unavailable(message: str, detail: str) -> Unavailable:
    error = Unavailable(message, code="cloudwatch_unavailable")
    error.detail = detail[:300]
    return error

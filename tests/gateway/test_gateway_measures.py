"""What the gateway adds up is shown as prometheus_client's own counters and histograms would show it."""

from collections.abc import Iterable

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)

from stoker.gateway.measures import Measures
from stoker.meter import UsageRecord
from stoker.telemetry.metrics import LATENCY_BUCKETS, Metrics


def a_record(model: str, status: str, ended_at: float, first_at: float | None = None, made: int = 4) -> UsageRecord:
    return UsageRecord(
        id="r",
        kind="request",
        status=status,  # type: ignore[arg-type]
        tenant="t",
        key_id="k",
        model=model,
        prompt_tokens=7,
        cached_tokens=3,
        completion_tokens=made,
        nano_usd=250_000_000,
        started_at=0.0,
        first_token_at=first_at,
        ended_at=ended_at,
    )


RECORDS = [
    a_record("general", "done", 0.25),  # on a bound
    a_record("code", "done", 3.0, first_at=1.0),
    a_record("general", "failed", 0.0, made=0),
    a_record("general", "done", 500.0, first_at=0.001, made=1),  # above all bounds, and no time per token
    a_record("code", "cancelled", 121.5, first_at=120.0),
    a_record("general", "done", 0.3, first_at=0.2),
]


class Plain:
    """The same metrics, of prometheus_client alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self.counter("stoker_requests_total", "Requests that ended.", "status")
        self.tokens = self.counter("stoker_tokens_total", "Tokens, by what they were.", "type")
        self.cached = self.counter(
            "stoker_cached_tokens_total", "Tokens of the input that a prefix cache had, a part of it."
        )
        self.billed = self.counter("stoker_billed_usd_total", "Dollars by the list prices of models.")
        self.duration = self.histogram("stoker_request_duration_seconds", "From request to end.")
        self.per_token = self.histogram(
            "stoker_time_per_output_token_seconds", "Mean time from one token of a stream to the next, by request."
        )
        self.first = self.histogram(
            "stoker_time_to_first_token_seconds", "From request to the first token of a stream."
        )

    def counter(self, name: str, help_text: str, *more: str) -> Counter:
        return Counter(name, help_text, ["model", *more], registry=self.registry)

    def histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(name, help_text, ["model"], registry=self.registry, buckets=LATENCY_BUCKETS)

    def ended(self, record: UsageRecord) -> None:
        model = record.model
        self.requests.labels(model, record.status).inc()
        self.tokens.labels(model, "input").inc(record.prompt_tokens)
        self.tokens.labels(model, "output").inc(record.completion_tokens)
        self.cached.labels(model).inc(record.cached_tokens)
        self.billed.labels(model).inc(record.nano_usd / 1e9)
        self.duration.labels(model).observe(record.ended_at - record.started_at)
        if record.first_token_at is not None:
            self.first.labels(model).observe(record.first_token_at - record.started_at)
            if record.completion_tokens > 1:
                seconds = record.ended_at - record.first_token_at
                self.per_token.labels(model).observe(seconds / (record.completion_tokens - 1))


def both(records: Iterable[UsageRecord]) -> tuple[CollectorRegistry, Metrics]:
    plain, measures = Plain(), Measures(Metrics())
    for record in records:
        plain.ended(record)
        measures.ended(record)
    return plain.registry, measures.metrics


def lines_of(text: bytes) -> list[str]:
    """Of `_created` without its value."""
    return [line.rpartition(" ")[0] if "_created{" in line else line for line in text.decode().splitlines()]


@pytest.mark.parametrize("is_dated", [True, False])
@pytest.mark.parametrize("records", [[], RECORDS[:1], RECORDS], ids=["none", "one", "all"])
def test_no_line_of_the_page_differs_from_prometheus_clients(records: list[UsageRecord], is_dated: bool) -> None:
    plain, metrics = both(records)
    if not is_dated:
        disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        theirs, page = lines_of(generate_latest(plain)), lines_of(metrics.text())
    finally:
        enable_created_metrics()  # type: ignore[no-untyped-call]
    names = tuple(line.split()[2] for line in theirs if line.startswith("# TYPE"))
    assert [line for line in page if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(names)] == theirs
    assert any("_created{" in line for line in theirs) is (is_dated and records != [])


def samples_of(families: Iterable[Metric]) -> dict[tuple[str, str, str], list[tuple[object, ...]]]:
    return {
        (each.name, each.type, each.documentation): [
            (one.name, one.labels, type(one.value), None if one.name.endswith("_created") else one.value)
            for one in each.samples
        ]
        for each in families
    }


def test_what_otlp_collects_is_what_prometheus_client_would_hand_it() -> None:
    """With its types: OTLP tells whole numbers from floats."""
    plain, metrics = both(RECORDS)
    theirs, ours = samples_of(plain.collect()), samples_of(metrics.registry.collect())
    assert {family: samples for family, samples in ours.items() if family in theirs} == theirs


def test_one_name_is_asked_for_by_itself_and_taken_once() -> None:
    metrics = Metrics()
    Measures(metrics).ended(RECORDS[0])
    asked = metrics.registry.restricted_registry(["stoker_requests_total", "stoker_request_duration_seconds_count"])
    assert {one.name: one.value for each in asked.collect() for one in each.samples} == {
        "stoker_requests_total": 1.0,
        "stoker_request_duration_seconds_count": 1.0,
    }
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.counter("stoker_requests_total", "Again.")

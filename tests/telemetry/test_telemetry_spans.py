"""Where spans are, which traces are told, and what is told of them."""

from typing import Any

import pytest

from stoker.base.errors import InvalidInput
from stoker.telemetry.spans import NOTHING, Place, Sampler, Tracer, place_of, sampler_from

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_is_read_and_written() -> None:
    assert place_of(f"00-{TRACE}-{SPAN}-01") == Place(TRACE, SPAN, True)
    assert place_of(f"00-{TRACE}-{SPAN}-00") == Place(TRACE, SPAN, False)
    assert place_of(f"cc-{TRACE}-{SPAN}-03-what-comes-later") == Place(TRACE, SPAN, True)
    assert Place(TRACE, SPAN, True).header == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-{'x' * 600}",
    ],
)
def test_what_is_none_begins_a_new_trace(said: str | None) -> None:
    assert place_of(said) is None
    span = Tracer(lambda *_: None).begin(said, "a", "server", 1.0)
    assert span is not None
    assert span.parent is None
    assert span.place.trace_id != TRACE


def test_spans_are_told_when_they_end_each_below_another() -> None:
    told: list[tuple[str, Any]] = []
    tracer = Tracer(lambda trace, spans: told.extend((trace, span) for span in spans))
    outer = tracer.begin(f"00-{TRACE}-{SPAN}-01", "POST /x", "server", 10.0)
    inner = tracer.below(outer, "chat m", "client", 11.0)
    assert outer is not None
    assert inner is not None
    inner.attributes = {"a": 1, "b": None}
    tracer.end(inner, 12.0, error="timed_out")
    tracer.end(outer, 9.0)  # a clock that went back
    assert told == [
        (
            TRACE,
            {
                "id": inner.place.span_id,
                "parent": outer.place.span_id,
                "name": "chat m",
                "kind": "client",
                "started_at": 11.0,
                "ended_at": 12.0,
                "status": "error",
                "attributes": {"a": 1, "error.type": "timed_out"},
            },
        ),
        (
            TRACE,
            {
                "id": outer.place.span_id,
                "parent": SPAN,
                "name": "POST /x",
                "kind": "server",
                "started_at": 10.0,
                "ended_at": 10.0,
                "status": "ok",
                "attributes": {},
            },
        ),
    ]


def test_where_nothing_is_told_what_a_client_says_is_passed_on() -> None:
    assert NOTHING.begin(None, "a", "server", 1.0) is None
    assert NOTHING.below(None, "a", "client", 1.0) is None
    NOTHING.end(None, 1.0)
    span = NOTHING.begin(f"00-{TRACE}-{SPAN}-01", "a", "server", 1.0)
    below = NOTHING.below(span, "b", "client", 1.0)
    assert below is not None
    assert below.place.header == f"00-{TRACE}-{SPAN}-01"
    NOTHING.end(below, 2.0)


def test_a_trace_that_is_not_sampled_goes_on_and_is_not_told() -> None:
    told: list[Any] = []
    tracer = Tracer(lambda *each: told.append(each), Sampler(0.0))
    span = tracer.begin(None, "a", "server", 1.0)
    assert span is not None
    assert span.place.header.endswith("-00")
    tracer.end(span, 2.0)
    kept = tracer.begin(f"00-{TRACE}-{SPAN}-01", "a", "server", 1.0)
    tracer.end(kept, 2.0)
    assert len(told) == 1


def test_samplers_as_opentelemetry_names_them() -> None:
    low, high = f"{'1' * 16}{'2' * 16}", f"{'1' * 16}{'e' * 16}"
    assert sampler_from({}) == Sampler(1.0, True)
    assert sampler_from({"OTEL_TRACES_SAMPLER": "always_off"}) == Sampler(0.0, False)
    half = sampler_from({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"})
    assert (half.takes(low, None), half.takes(high, None)) == (True, False)
    assert half.takes(high, Place(high, SPAN, True)) is False
    asks = sampler_from({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"})
    assert (asks.takes(high, Place(high, SPAN, True)), asks.takes(low, Place(low, SPAN, False))) == (True, False)


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER is 'sometimes'; it has to be one of always_on"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
            "OTEL_TRACES_SAMPLER_ARG is '2'; it has to be a share of traces from 0 to 1",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
            "OTEL_TRACES_SAMPLER_ARG is 'half'",
        ),
    ],
)
def test_samplers_that_are_none_are_refused(environ: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        sampler_from(environ)

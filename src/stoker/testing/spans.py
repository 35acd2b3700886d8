"""Spans as a test looks at them: where a request tells them (`telemetry.spans.Sink`), in the order of their ends."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from stoker.telemetry.spans import Shape, Span


class Told(NamedTuple):
    """What is sent of a span. Times are seconds since the epoch."""

    trace_id: bytes
    id: bytes
    parent: bytes | None
    shape: Shape
    started_at: float
    ended_at: float
    state: str | None
    attributes: Mapping[str, Any]
    is_wrong: bool
    with_content: bool


class Sink:
    def __init__(self) -> None:
        self.told: list[Told] = []

    def tell(self, span: Span) -> None:
        self.told += told_of(span)


def told_of(span: Span) -> list[Told]:
    """Its calls, and itself."""
    assert span.ended_at is not None, "it has ended"  # noqa: S101 - for tests
    trace_id, state, call = span.trace_id, span.state, span.calls
    status = {} if span.status is None else {"http.response.status_code": span.status}
    shape, said = (span.shape, span.about) if isinstance(span.shape, Shape) else span.shape(span.about)
    found = [
        Told(
            trace_id,
            span.id,
            span.parent,
            shape,
            span.started_at,
            max(span.started_at, span.ended_at),
            state,
            {**said, **span.attributes, **status},
            span.is_wrong,
            span.with_content,
        )
    ]
    while call is not None:
        call, call_id, began, ended, described, values, is_wrong = call
        shape, said = described(values)
        found.append(Told(trace_id, call_id, span.id, shape, began, max(began, ended), state, said, is_wrong, False))
    return found[::-1]

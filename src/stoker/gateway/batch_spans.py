"""A batch as one trace, whose ids are digests of the batch's: whichever gateway drives it makes the same one. Each line
that is let in is a request below the batch's own span, which is told when the batch has ended.
"""

import hashlib

from stoker.gateway import spans
from stoker.meter.batches import Batch
from stoker.telemetry.spans import Parent, Span, Tracing, shape


def caused_by(tracing: Tracing, batch_id: str) -> Parent:
    """Of the requests that its lines are."""
    digest = hashlib.sha256(f"trace {batch_id}".encode()).digest()
    trace_id, span_id = digest[:16], digest[16:24]
    return Parent(trace_id, span_id, tracing.is_sampled(None, trace_id))


def of_line(tracing: Tracing | None, batch_id: str, line: int, at: float) -> Span | None:
    """What is told of the request that it is."""
    if tracing is None:
        return None
    span = tracing.begin(caused_by(tracing, batch_id), spans.asked, at)
    span.attributes = {"stoker.batch": batch_id, "stoker.batch.line": line}
    return span


def tell(tracing: Tracing | None, batch: Batch, at: float) -> None:
    """It has ended."""
    if tracing is None:
        return
    own = caused_by(tracing, batch.id)
    said = {
        "stoker.batch": batch.id,
        "stoker.batch.status": batch.status,
        "stoker.batch.lines": batch.total,
        "stoker.batch.failed": batch.failed,
        "stoker.tenant": batch.tenant,
    }
    span = Span.of(
        own.trace_id, own.span_id, None, shape("internal", "batch"), batch.created_at, None, tracing, own.is_sampled
    )
    span.attributes = said
    span.end(at, batch.status if batch.status in ("failed", "expired", "cancelled") else None)

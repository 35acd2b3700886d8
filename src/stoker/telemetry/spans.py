"""Traces across processes: where a span is (W3C Trace Context), whether it is told, and the span itself as plain data.

A request costs a few dicts: `traces.Traces` makes OpenTelemetry's spans of them, in the thread that sends them. With no
endpoint nothing is made, and what a client says of its trace is passed on as it is.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stoker.base.errors import InvalidInput

Kind = Literal["server", "client", "producer", "consumer", "internal"]
TRACEPARENT = "traceparent"

_SAID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


class Place(NamedTuple):
    """A span in a trace: ids in hexadecimal. `is_told`: the trace is sampled."""

    trace_id: str
    span_id: str
    is_told: bool

    @property
    def header(self) -> str:
        """As `traceparent` says it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_told else '00'}"


def place_of(header: str | None) -> Place | None:
    """None for what is no `traceparent` (https://www.w3.org/TR/trace-context/): then a new trace begins."""
    found = None if header is None or len(header) > 512 else _SAID.fullmatch(header)
    return None if found is None else Place(found[1], found[2], bool(int(found[3], 16) & 1))


class Sampler(NamedTuple):
    """Whether a trace is told: `share` of those that begin here, and of others what their beginning said, unless
    `asks_parent` is False."""

    share: float = 1.0
    asks_parent: bool = True

    def takes(self, trace_id: str, parent: Place | None) -> bool:
        if parent is not None and self.asks_parent:
            return parent.is_told
        # By the last 8 bytes, as OpenTelemetry's TraceIdRatioBased, so that all who look take the same traces.
        return int(trace_id[16:], 16) < self.share * 2**64


EVERYTHING = Sampler()
_SAMPLERS = ("always_on", "always_off", "traceidratio")


def sampler_from(environ: Mapping[str, str]) -> Sampler:
    """OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. Raises InvalidInput."""
    named = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    asks_parent, name = named.startswith("parentbased_"), named.removeprefix("parentbased_")
    if name not in _SAMPLERS:
        known = ", ".join([*_SAMPLERS, *(f"parentbased_{each}" for each in _SAMPLERS)])
        raise InvalidInput(
            f"OTEL_TRACES_SAMPLER is {named!r}; it has to be one of {known}", param="OTEL_TRACES_SAMPLER"
        )
    if name != "traceidratio":
        return Sampler(1.0 if name == "always_on" else 0.0, asks_parent)
    said = environ.get("OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        share = float(said)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidInput(
            f"OTEL_TRACES_SAMPLER_ARG is {said!r}; it has to be a share of traces from 0 to 1",
            param="OTEL_TRACES_SAMPLER_ARG",
        )
    return Sampler(share, asks_parent)


@dataclass(slots=True)
class Open:
    """A span that has begun. Times are seconds since the epoch."""

    place: Place
    parent: str | None
    name: str
    kind: Kind
    began_at: float
    attributes: dict[str, Any] = field(default_factory=dict)


Tell = Callable[[str, Sequence[Mapping[str, Any]]], None]


class Tracer:
    """`tell` gets the id of a trace and ended spans, and never waits; None: nothing is told."""

    def __init__(self, tell: Tell | None = None, sampler: Sampler = EVERYTHING) -> None:
        self._tell, self._sampler = tell, sampler

    def begin(self, said: str | None, name: str, kind: Kind, now: float) -> Open | None:
        """In the trace that a header says, or in a new one. None where nothing is traced here."""
        parent = place_of(said)
        if self._tell is None:
            # Whoever comes after us may tell of theirs, and hangs it where we would have been.
            return None if parent is None else Open(parent, None, name, kind, now)
        trace_id = f"{random.getrandbits(128) or 1:032x}" if parent is None else parent.trace_id
        place = Place(trace_id, _new_id(), self._sampler.takes(trace_id, parent))
        return Open(place, None if parent is None else parent.span_id, name, kind, now)

    def below(self, parent: Open | None, name: str, kind: Kind, now: float) -> Open | None:
        """A part of another span."""
        if parent is None:
            return None
        if self._tell is None:
            return Open(parent.place, None, name, kind, now)
        return Open(parent.place._replace(span_id=_new_id()), parent.place.span_id, name, kind, now)

    def end(self, span: Open | None, now: float, *, error: str | None = None) -> None:
        """`error` is a word for what went wrong (`error.type`), never what somebody wrote."""
        if span is None or self._tell is None or not span.place.is_told:
            return
        attributes = {name: value for name, value in span.attributes.items() if value is not None}
        if error is not None:
            attributes["error.type"] = error
        ended = {
            "id": span.place.span_id,
            "parent": span.parent,
            "name": span.name,
            "kind": span.kind,
            "started_at": span.began_at,
            "ended_at": max(now, span.began_at),
            "status": "ok" if error is None else "error",
            "attributes": attributes,
        }
        self._tell(span.place.trace_id, [ended])


def _new_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


NOTHING = Tracer()
"""Tells nothing, and passes on what a client says of its trace."""

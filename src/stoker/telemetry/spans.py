"""One trace for one request: who caused what, carried from process to process as W3C has it (`traceparent`, and
`tracestate` as it came: https://www.w3.org/TR/trace-context/), and the spans of this process as plain data.

A request pays for one object, and a tuple for each call of an engine; `telemetry.traces` makes OpenTelemetry's spans
of them.
"""

import os
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from stoker.base.errors import InvalidInput

Json = dict[str, Any]
Kind = Literal["server", "client", "producer", "consumer", "internal"]
Sampler = Callable[["Parent | None", bytes], bool]

MOST_STATE = 512
"""Characters of a `tracestate` that are passed on; a longer one is left out, as the specification allows."""
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[!-~][ -~]*")
_NEW_AT_ONCE = 64
"""Traces: a tenth of a millisecond."""
_three_ids = struct.Struct("16s8s8s").iter_unpack
_SAMPLERS = ("always_on", "always_off", "traceidratio")
SAMPLER, SAMPLER_ARG = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"


class Parent(NamedTuple):
    """The span that caused something, perhaps in another process. Ids are bytes, 16 of a trace and 8 of a span; they
    are written as hexadecimal in headers and logs alone."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool
    state: str | None = None

    @property
    def in_logs(self) -> dict[str, str]:
        return {"trace_id": self.trace_id.hex(), "span_id": self.span_id.hex()}

    @property
    def text(self) -> str:
        """`traceparent`, and after a space `tracestate`, where there is one: what a task carries."""
        return " ".join(self.headers.values())

    @property
    def headers(self) -> dict[str, str]:
        """Of a request that it causes."""
        return {name: value for name, _, value in (line.partition(": ") for line in self.lines.splitlines())}

    @property
    def lines(self) -> str:
        """The same as they stand in a request's head."""
        return _lines(self.trace_id, self.span_id, self.is_sampled, self.state)


def _lines(trace_id: bytes, span_id: bytes, is_sampled: bool, state: str | None) -> str:
    parent = f"traceparent: 00-{trace_id.hex()}-{span_id.hex()}-{'01' if is_sampled else '00'}\r\n"
    return parent if state is None else f"{parent}tracestate: {state}\r\n"


def parent_in(headers: Mapping[str, str]) -> Parent | None:
    """What a request says of who caused it; None where it says nothing, or nonsense. Names in lower case."""
    said = headers.get("traceparent")
    return None if said is None else parent_of(said, headers.get("tracestate"))


def parent_of(traceparent: str | None, tracestate: str | None = None) -> Parent | None:
    """Of `Parent.text`, too."""
    if traceparent is None:
        return None
    if tracestate is None:
        traceparent, _, tracestate = traceparent.strip().partition(" ")
    match = _PARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    trace_id, span_id = bytes.fromhex(trace), bytes.fromhex(span)
    if version == "ff" or (version == "00" and more) or not any(trace_id) or not any(span_id):
        return None
    has_state = bool(tracestate) and len(tracestate) <= MOST_STATE and _STATE.fullmatch(tracestate) is not None
    return Parent(trace_id, span_id, bool(int(flags, 16) & 1), tracestate if has_state else None)


def sampler_of(environ: Mapping[str, str]) -> Sampler:
    """As OpenTelemetry's environment says: which traces are recorded. Raises InvalidInput."""
    name = environ.get(SAMPLER) or "parentbased_always_on"
    root, is_parent_based = name.removeprefix("parentbased_"), name.startswith("parentbased_")
    if root not in _SAMPLERS:
        allowed = ", ".join([*_SAMPLERS, *(f"parentbased_{each}" for each in _SAMPLERS)])
        raise InvalidInput(f"{SAMPLER} is {name!r}; it must be one of {allowed}", param=SAMPLER)
    ratio = _ratio(environ.get(SAMPLER_ARG)) if root == "traceidratio" else float(root == "always_on")
    # As OpenTelemetry's SDK for Python has it: the lower eight bytes, so all processes decide alike.
    bound = round(ratio * 2**64)

    if is_parent_based and ratio == 1.0:  # as OpenTelemetry has it where nothing is said
        return lambda parent, _: parent is None or parent.is_sampled

    def is_sampled(parent: Parent | None, trace_id: bytes) -> bool:
        if parent is not None and is_parent_based:
            return parent.is_sampled
        return ratio == 1.0 or int.from_bytes(trace_id[8:]) < bound

    return is_sampled


def _ratio(said: str | None) -> float:
    try:
        ratio = float(said or "1")
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise InvalidInput(f"{SAMPLER_ARG} is {said!r}; it must be a number from 0 to 1", param=SAMPLER_ARG)
    return ratio


class Sink(Protocol):
    def tell(self, span: "Span") -> None:
        """Of one that has ended, and of its calls. It is not changed after. Never waits."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class Shape:
    """What many spans have in common; not to be changed. It is written once for all of them, so make it once: by a
    cached function."""

    kind: Kind
    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """The same name in a span's own attributes counts."""
    written: bytes | None = field(default=None, init=False, repr=False)
    """As `telemetry.otlp` wrote it first."""

    def saying(self, more: Mapping[str, Any]) -> "Shape":
        return Shape(self.kind, self.name, {**self.attributes, **more})


shape = lru_cache(maxsize=1024)(Shape)
"""Of a kind and a name, and nothing more."""
_NO_SHAPE = Shape("internal", "")


@dataclass(frozen=True, slots=True)
class Tracing:
    """The spans of one process. `randbytes` makes ids: so many bytes."""

    sink: Sink
    is_sampled: Sampler
    randbytes: Callable[[int], bytes] = os.urandom
    ahead: "list[Span]" = field(default_factory=list, init=False, repr=False)
    """Of traces that begin next: what many need is made at once, when it finds all that it needs in the processor's
    caches, and not in the middle of a request, which has its own there."""

    def begin(self, parent: Parent | None, shape: "Shape | Description", at: float) -> "Span":
        """A span of a request that came, or of one that begins a trace. `at`: seconds since the epoch."""
        if parent is None:
            try:
                span = self.ahead.pop()
            except IndexError:
                span = self._begun()
            span.shape, span.started_at = shape, at
            return span
        is_sampled = self.is_sampled(parent, parent.trace_id)
        return Span.of(parent.trace_id, self.new_id(), parent.span_id, shape, at, parent.state, self, is_sampled)

    def new_id(self) -> bytes:
        """Of a span. Random, so never all zeros."""
        return self.randbytes(8)

    def _begun(self) -> "Span":
        """One, and others for the next: other threads may take all of those at the same moment."""
        found, of, kept = [], Span.of, self.is_sampled
        for trace_id, span_id, below in _three_ids(self.randbytes(32 * _NEW_AT_ONCE)):
            is_sampled = kept(None, trace_id)
            span = of(trace_id, span_id, None, _NO_SHAPE, 0.0, None, self, is_sampled)
            span.first_below = below, _lines(trace_id, below, is_sampled, None)
            found.append(span)
        one = found.pop()
        self.ahead.extend(found)
        return one


Description = Callable[[Any], tuple[Shape, Mapping[str, Any]]]
"""Says of values that were kept what a span was, with its attributes: when it is written, and not in a request, which
finds nothing of it in the processor's caches."""
Call = tuple[Any, bytes, float, float, Description, Any, bool]
"""One that a span made and that is nothing more: the call before it, or None; its id; when it began and ended; what
describes it, and of which values; whether it went wrong. A tuple takes a quarter of the time of a span of its own.
Where it has ended, it becomes the last of its span's `calls`, or is told late."""
Below = tuple[bytes, str]
"""The id of a call, and the lines of its request's head that say who caused it."""


class Span:
    """What goes on in this process for one request. It is told once, by its first `end`; unless the trace is sampled,
    never, and then all that it does is to be passed on. Times are seconds since the epoch. `ends_later`: whoever ends
    it has it from the one who began it. `shape`: or what says it of `about`, with attributes. `with_content`: its
    tenant wants what was asked and answered to be on it. `status`: of HTTP, that it was answered with. `calls`: the
    last of those that it made."""

    __slots__ = (
        "about",
        "attributes",
        "calls",
        "ended_at",
        "ends_later",
        "first_below",
        "id",
        "is_sampled",
        "is_wrong",
        "parent",
        "shape",
        "started_at",
        "state",
        "status",
        "trace_id",
        "tracing",
        "with_content",
    )

    trace_id: bytes
    id: bytes
    parent: bytes | None
    shape: Shape | Description
    started_at: float
    state: str | None
    tracing: Tracing
    is_sampled: bool
    about: Any
    attributes: Mapping[str, Any]
    status: int | None
    ended_at: float | None
    first_below: Below | None
    calls: Call | None
    with_content: bool
    ends_later: bool
    is_wrong: bool

    @staticmethod
    def of(
        trace_id: bytes,
        id: bytes,
        parent: bytes | None,
        shape: "Shape | Description",
        started_at: float,
        state: str | None,
        tracing: Tracing,
        is_sampled: bool,
    ) -> "Span":
        """Of all that is known when it begins. Python calls an `__init__` by a detour that costs as much again."""
        span = Span()
        span.trace_id = trace_id
        span.id = id
        span.parent = parent
        span.shape = shape
        span.started_at = started_at
        span.state = state
        span.tracing = tracing
        span.is_sampled = is_sampled
        span.about = span.attributes = NOTHING
        span.status = span.ended_at = span.first_below = span.calls = None
        span.with_content = span.ends_later = span.is_wrong = False
        return span

    @property
    def in_logs(self) -> dict[str, str]:
        return self.context.in_logs

    @property
    def context(self) -> Parent:
        return Parent(self.trace_id, self.id, self.is_sampled, self.state)

    def child(self, shape: Shape, at: float) -> "Span":
        tracing = self.tracing
        return Span.of(self.trace_id, tracing.new_id(), self.id, shape, at, self.state, tracing, self.is_sampled)

    def below(self) -> Below:
        """For a call that is nothing more, which costs a fifth of a `child`."""
        below = self.tracing.new_id()
        return below, _lines(self.trace_id, below, self.is_sampled, self.state)

    def say(self, name: str, value: Any) -> None:
        """One more of its attributes."""
        self.attributes = {**self.attributes, name: value}

    def end(self, at: float, error: str | None = None) -> None:
        """`error`: a code or the name of a class, never a message: those may hold what people wrote."""
        if self.ended_at is not None:
            return
        self.ended_at = at
        if error is not None:
            self.say("error.type", error)
            self.is_wrong = True
        if self.is_sampled:
            self.tracing.sink.tell(self)

    def tell_late(self, call: Call) -> None:
        """One that goes on when this span has ended, and is not among its `calls`: it is told alone."""
        if self.is_sampled:
            _, below, began, at, described, values, is_wrong = call
            shape, attributes = described(values)
            late = Span.of(self.trace_id, below, self.id, shape, began, self.state, self.tracing, True)
            late.attributes, late.ended_at, late.is_wrong = attributes, at, is_wrong
            self.tracing.sink.tell(late)


_OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}


@lru_cache(maxsize=1024)
def call_of(kind: Kind, path: str, model: str) -> Shape:
    """Of a model. `path` is the endpoint's. Names are those of OpenTelemetry's conventions
    (https://github.com/open-telemetry/semantic-conventions-genai)."""
    operation = _OPERATIONS.get(path, "chat")
    said = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "stoker",
        "gen_ai.request.model": model,
    }
    return Shape(kind, f"{operation} {model}", said)


def used(prompt: int, cached: int, completion: int) -> Json:
    """Tokens. They are told by the span of the client alone: who adds up those of a trace must not count them twice."""
    said = {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": completion}
    if cached:
        said["gen_ai.usage.cache_read.input_tokens"] = cached
    return said


_FINISH = re.compile(rb'"finish_reason":\s*"([a-z_]{1,32})"')


def finish_reasons(answer: Any) -> tuple[str, ...] | None:
    """Of each choice of an answer; None of what is none."""
    try:
        choices = answer["choices"]
        if len(choices) == 1:
            reason = choices[0]["finish_reason"]
            return (reason,) if type(reason) is str else None
        found = [each.get("finish_reason") for each in choices if type(each) is dict]
    except (TypeError, KeyError):
        return None
    return tuple([each for each in found if type(each) is str]) or None


def finish_reasons_in(events: bytes) -> tuple[str, ...] | None:
    """Those in a stream's events: within a text quotes have a backslash, so what is found is a name."""
    begins = max(0, events.find(b'"finish_reason"'))  # much faster than the expression
    return tuple([each.decode() for each in _FINISH.findall(events, begins)]) or None

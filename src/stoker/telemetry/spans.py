"""One trace for one request: who caused what, carried from process to process as W3C has it (`traceparent`, and
`tracestate` as it came: https://www.w3.org/TR/trace-context/), and the spans of this process as plain data.

A request pays for one object and a tuple of each; `telemetry.traces` makes OpenTelemetry's of them.
"""

import random
import re
import struct
from collections.abc import Callable, Mapping, Sequence
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
    def text(self) -> str:
        """`traceparent`, and after a space `tracestate`, where there is one: what a task carries."""
        return " ".join(self.headers.values())

    @property
    def headers(self) -> dict[str, str]:
        """Of a request that it causes."""
        return _headers(self.trace_id, self.span_id, self.is_sampled, self.state)


def _headers(trace_id: bytes, span_id: bytes, is_sampled: bool, state: str | None) -> dict[str, str]:
    said = {"traceparent": f"00-{trace_id.hex()}-{span_id.hex()}-{'01' if is_sampled else '00'}"}
    if state is not None:
        said["tracestate"] = state
    return said


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
    def tell(self, span: "Fields") -> None:
        """Of one that has ended. Never waits."""


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
    """The spans of one process. `chance` makes ids; they need not be hard to guess."""

    sink: Sink
    is_sampled: Sampler
    chance: random.Random = field(default_factory=random.Random)
    _new: "list[Span]" = field(default_factory=list, init=False, repr=False)
    """Of traces that begin next: what many need is made at once, when it finds all that it needs in the processor's
    caches, and not in the middle of a request, which has its own there."""

    def begin(self, parent: Parent | None, shape: Shape, at: float) -> "Span":
        """A span of a request that came, or of one that begins a trace. `at`: seconds since the epoch."""
        if parent is None:
            try:
                span = self._new.pop()
            except IndexError:
                span = self._begun()
            span.shape, span.started_at = shape, at
            return span
        is_sampled = self.is_sampled(parent, parent.trace_id)
        return Span(parent.trace_id, self.new_id(), parent.span_id, shape, at, parent.state, self, is_sampled)

    def new_id(self) -> bytes:
        """Of a span. Random, so never all zeros."""
        return self.chance.randbytes(8)

    def _begun(self) -> "Span":
        """One, and others for the next: other threads may take all of those at the same moment."""
        found = []
        for trace_id, span_id, below in _three_ids(self.chance.randbytes(32 * _NEW_AT_ONCE)):
            is_sampled = self.is_sampled(None, trace_id)
            span = Span(trace_id, span_id, None, _NO_SHAPE, 0.0, None, self, is_sampled)
            span.first_below = below, _headers(trace_id, below, is_sampled, None)
            found.append(span)
        one = found.pop()
        self._new.extend(found)
        return one


Description = Callable[..., tuple[Shape, Mapping[str, Any]]]
"""Says of values that were kept what a span was."""
Fields = tuple[bytes, bytes, bytes | None, Any, float, float, str | None, Any, bool, bool]
"""Of `Told`, in its order: what a request makes, since a plain tuple takes a quarter of the time. In place of the shape
may stand a Description, with its arguments in place of the attributes: it gives both, when the span is written."""


class Told(NamedTuple):
    """What is sent of a span that has ended. Times are seconds since the epoch."""

    trace_id: bytes
    id: bytes
    parent: bytes | None
    shape: Shape
    started_at: float
    ended_at: float
    state: str | None = None
    attributes: Mapping[str, Any] = NOTHING
    is_wrong: bool = False
    with_content: bool = False
    """Its tenant wants what was asked and answered to be on it."""

    @classmethod
    def of(cls, fields: Fields) -> "Told":
        told = cls._make(fields)
        if isinstance(told.shape, Shape):
            return told
        shape, attributes = told.shape(*told.attributes)
        return told._replace(shape=shape, attributes=attributes)


Below = tuple[bytes, dict[str, str]]
"""The id of a span below another one, and the headers of a request that it causes."""


class Span:
    """What goes on in this process for one request. It is told once, by its first `end`; unless the trace is sampled,
    never, and then all that it does is to be passed on. `ends_later`: whoever ends it has it from the one who began
    it. `with_content`: as of `Told`."""

    __slots__ = (
        "attributes",
        "ended_at",
        "ends_later",
        "first_below",
        "id",
        "is_sampled",
        "parent",
        "shape",
        "started_at",
        "state",
        "trace_id",
        "tracing",
        "with_content",
    )

    def __init__(
        self,
        trace_id: bytes,
        id: bytes,
        parent: bytes | None,
        shape: Shape,
        started_at: float,
        state: str | None,
        tracing: Tracing,
        is_sampled: bool,
    ) -> None:
        self.trace_id = trace_id
        self.id = id
        self.parent = parent
        self.shape = shape
        self.started_at = started_at
        self.state = state
        self.tracing = tracing
        self.is_sampled = is_sampled
        self.attributes: Json = {}
        self.ended_at: float | None = None
        self.first_below: Below | None = None
        self.with_content = self.ends_later = False

    @property
    def in_logs(self) -> dict[str, str]:
        return {"trace_id": self.trace_id.hex(), "span_id": self.id.hex()}

    @property
    def context(self) -> Parent:
        return Parent(self.trace_id, self.id, self.is_sampled, self.state)

    @property
    def headers(self) -> dict[str, str]:
        """Of a request that it causes."""
        return _headers(self.trace_id, self.id, self.is_sampled, self.state)

    def child(self, shape: Shape, at: float) -> "Span":
        tracing = self.tracing
        return Span(self.trace_id, tracing.new_id(), self.id, shape, at, self.state, tracing, self.is_sampled)

    def below(self) -> Below:
        """For a span below this one that is nothing more, which costs a fifth of a `child`; told by `end_below`."""
        found = self.first_below
        if found is not None:
            self.first_below = None
            return found
        below = self.tracing.new_id()
        return below, _headers(self.trace_id, below, self.is_sampled, self.state)

    def end(self, at: float, error: str | None = None) -> None:
        """`error`: a code or the name of a class, never a message: those may hold what people wrote."""
        if self.ended_at is not None:
            return
        began = self.started_at
        self.ended_at = ended = at if at > began else began
        if error is not None:
            self.attributes["error.type"] = error
        if self.is_sampled:
            self.tracing.sink.tell(
                (
                    self.trace_id,
                    self.id,
                    self.parent,
                    self.shape,
                    began,
                    ended,
                    self.state,
                    self.attributes,
                    error is not None,
                    self.with_content,
                )
            )

    def end_below(
        self, below: bytes, began: float, at: float, described: Description, values: Sequence[Any], *, is_wrong: bool
    ) -> None:
        """`described(*values)` says what it was, when it is written."""
        if self.is_sampled:
            ended = at if at > began else began
            told = (self.trace_id, below, self.id, described, began, ended, self.state, values, is_wrong, False)
            self.tracing.sink.tell(told)


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
    choices = answer.get("choices") if type(answer) is dict else None
    if type(choices) is not list:
        return None
    found = []
    for each in choices:  # not a comprehension, which takes longer for one
        reason = each.get("finish_reason") if type(each) is dict else None
        if type(reason) is str:
            found.append(reason)
    return tuple(found) or None


def finish_reasons_in(events: bytes) -> tuple[str, ...] | None:
    """Those in a stream's events: within a text quotes have a backslash, so what is found is a name."""
    begins = max(0, events.find(b'"finish_reason"'))  # much faster than the expression
    return tuple([each.decode() for each in _FINISH.findall(events, begins)]) or None

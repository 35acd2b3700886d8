"""Spans as OTLP's protobuf, written directly: OpenTelemetry's SDK takes most of a millisecond for the two spans of a
request, in the process that serves it. Field numbers are those of trace/v1/trace.proto and common/v1/common.proto in
https://github.com/open-telemetry/opentelemetry-proto, which do not change within version 1.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from stoker.telemetry.spans import Shape, Span

_KINDS = {"server": 2, "model": 3, "client": 3, "producer": 4, "consumer": 5}
_INTERNAL = 1
_FLAGS = b"\x85\x01\x01\x00\x00\x00"  # sampled
_WRONG = b"\x7a\x02\x18\x02"
_first = struct.Struct("<2s16s2s8sBQBQ").pack
_first_below = struct.Struct("<2s16s2s8s2s8sBQBQ").pack
_double = struct.Struct("<Bd").pack


CONTENT = frozenset(
    (
        "error.message",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "stoker.wait.answer",
        "stoker.wait.message",
    )
)
"""Attributes that hold what people, models and tools wrote. They stay here unless the span says `with_content`, as
tenants do by `recordContent`."""


def request(resource: Mapping[str, Any], scope: str, spans: Sequence[bytes]) -> bytes:
    """The body of a request to `/v1/traces`, for what `write` made. Megabytes, so they are put together once."""
    of_scope = _field(0x0A, _field(0x0A, scope.encode()))
    of_resource = _field(0x0A, b"".join(_attribute(name, value, tag=0x0A) for name, value in resource.items()))
    scope_size = _varint(len(of_scope) + sum(map(len, spans)))
    size = _varint(len(of_resource) + 1 + len(scope_size) + len(of_scope) + sum(map(len, spans)))
    return b"".join((b"\x0a", size, of_resource, b"\x12", scope_size, of_scope, *spans))


def write(spans: Iterable[Span]) -> tuple[bytes, int, list[Exception]]:
    """A part of `request`, with their calls; how many spans are in it; and of those that cannot be written, which leave
    nothing, why. A request pays for it, so all of it is one loop."""
    pieces: list[bytes] = []
    wrong: list[Exception] = []
    heads, known, put = _HEADS[0x12], _KNOWN, pieces.extend
    for span in spans:
        trace_id, state, parent, with_content = span.trace_id, span.state, span.parent, span.with_content
        # As a Call is: a span, and then its calls from the last to the first.
        row: Any = (span.calls, span.id, span.started_at, span.ended_at, span.shape, span.about, span.is_wrong)
        status: int | None = span.status
        more: Mapping[str, Any] | None = span.attributes
        while row is not None:
            row, span_id, began, ended, shape, said, is_wrong = row
            try:
                if type(shape) is not Shape:
                    shape, said = shape(said)
                rest = shape.written or _common(shape)
                if more:
                    said = {**said, **more}
                if said:
                    for name, value in said.items():
                        try:
                            rest += known[name][value]
                        except (KeyError, TypeError):  # it is new, or a list or the like has no hash
                            rest += _new(name, value, with_content)
                if status is not None:
                    rest += _status(status)
                if is_wrong:
                    rest += _WRONG
                if state is not None:
                    rest += _field(0x1A, state.encode())
                start_ns = end_ns = (began * 1e9).__trunc__()
                if ended > began:
                    end_ns = (ended * 1e9).__trunc__()
                if parent is None:
                    first = _first(b"\x0a\x10", trace_id, b"\x12\x08", span_id, 0x39, start_ns, 0x41, end_ns)
                else:
                    first = _first_below(
                        b"\x0a\x10", trace_id, b"\x12\x08", span_id, b"\x22\x08", parent, 0x39, start_ns, 0x41, end_ns
                    )
                size = len(first) + len(rest)
                put((heads[size] if size < _MOST_SIZES else b"\x12" + _varint(size), first, rest))
            except Exception as mistake:
                wrong.append(mistake)
            parent, with_content, status, more = span.id, False, None, None
    return b"".join(pieces), len(pieces) // 3, wrong


# Attributes that come again and again are kept as they were written: few words and small numbers, by name and value. By
# equality, so 0 and 1 are not (False and True are written otherwise), and a float that equals a whole number of its
# name is written as it.
_MOST_NAMES, _MOST_VALUES = 256, 4096
_MOST_CHARACTERS, _MOST_WORDS = 64, 8
_KNOWN: dict[str, dict[Any, bytes]] = {}


def _common(shape: Shape) -> bytes:
    """Once for each: it is kept there."""
    named = _text(0x2A, shape.name) + b"\x30%c" % _KINDS.get(shape.kind, _INTERNAL) + _FLAGS
    shape.written = named + b"".join(_new(name, value, False) for name, value in shape.attributes.items())
    return shape.written


def _new(name: str, value: Any, with_content: bool) -> bytes:
    """What is None is not there."""
    if value is None or (name in CONTENT and not with_content):
        return b""
    made = _attribute(name, value)
    if name not in CONTENT and _is_kept(value):
        known = _KNOWN.get(name, {})
        if len(known) >= _MOST_VALUES:
            known.clear()
        if name in _KNOWN or len(_KNOWN) < _MOST_NAMES:
            _KNOWN[name] = known
        known[value] = made
    return made


def _is_kept(value: Any) -> bool:
    if type(value) is tuple:
        return len(value) <= _MOST_WORDS and all(type(each) is str and _is_kept(each) for each in value)
    return len(value) <= _MOST_CHARACTERS if type(value) is str else type(value) is int and value not in (0, 1)


def _attribute(name: str, value: Any, tag: int = 0x4A) -> bytes:
    return _field(tag, _text(0x0A, name) + _field(0x12, _value(value)))


def _value(value: Any) -> bytes:
    """An AnyValue. What is of another type is written as its text."""
    if isinstance(value, str):
        return _field(0x0A, value.encode(errors="replace"))
    if isinstance(value, bool):
        return b"\x10%c" % value
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    if isinstance(value, float):
        return _double(0x21, value)
    if isinstance(value, list | tuple):
        return _field(0x2A, b"".join(_field(0x0A, _value(each)) for each in value))
    return _field(0x0A, str(value).encode(errors="replace"))


@lru_cache(maxsize=1024)
def _status(status: int) -> bytes:
    return _attribute("http.response.status_code", status)


@lru_cache(maxsize=1024)
def _text(tag: int, text: str) -> bytes:
    return _field(tag, text.encode(errors="replace"))


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    return _HEADS[tag][size] + data if size < _MOST_SIZES else b"%c%b%b" % (tag, _varint(size), data)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


# Of tags, and of sizes that most fields have: in one piece, since a request writes ten.
_MOST_SIZES = 512
_HEADS = {tag: [b"%c%b" % (tag, _varint(n)) for n in range(_MOST_SIZES)] for tag in (0x0A, 0x12, 0x1A, 0x2A, 0x4A)}

"""Spans as OTLP's protobuf, written directly: OpenTelemetry's SDK takes most of a millisecond for the two spans of a
request, in the process that serves it. Field numbers are those of trace/v1/trace.proto and common/v1/common.proto in
https://github.com/open-telemetry/opentelemetry-proto, which do not change within version 1.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from stoker.telemetry.spans import Shape, Told

_KINDS = {"server": 2, "model": 3, "client": 3, "producer": 4, "consumer": 5}
_INTERNAL = 1
_FLAGS = b"\x85\x01\x01\x00\x00\x00"  # sampled
_WRONG = b"\x7a\x02\x18\x02" + _FLAGS
_fixed = struct.Struct("<2s16s2s8sBQBQ").pack
_double = struct.Struct("<Bd").pack


def request(resource: Mapping[str, Any], scope: str, spans: Iterable[bytes]) -> bytes:
    """The body of a request to `/v1/traces`, for what `written` made of each."""
    of_scope = b"".join((_field(0x0A, _field(0x0A, scope.encode())), *spans))
    of_resource = b"".join(_attribute(name, value, tag=0x0A) for name, value in resource.items())
    return _field(0x0A, _field(0x0A, of_resource) + _field(0x12, of_scope))


def written(span: Told) -> bytes:
    """One that has ended, as a part of `request`. A request of the gateway pays for it, twice. Times are whole
    microseconds: a float has no more at this distance from 1970."""
    began, ended = span.started_at, span.ended_at
    began_at, ended_at = int(began * 1e6 + 0.5) * 1000, int((began if ended is None else ended) * 1e6 + 0.5) * 1000
    trace_id, span_id = bytes.fromhex(span.trace_id), bytes.fromhex(span.id)
    parts = [_fixed(b"\x0a\x10", trace_id, b"\x12\x08", span_id, 0x39, began_at, 0x41, ended_at), _shared(span.shape)]
    if span.parent is not None:
        parts.append(b"\x22\x08" + bytes.fromhex(span.parent))
    if span.state is not None:
        parts.append(_field(0x1A, span.state.encode()))
    for name, value in span.attributes.items():
        of = type(value)
        if of is int or of is bool or of is tuple or (of is str and len(value) < _MOST_KNOWN):
            parts.append(_known(name, value))
        elif value is not None:  # else it is not there
            parts.append(_attribute(name, value))
    parts.append(_WRONG if span.is_wrong else _FLAGS)
    return _field(0x12, b"".join(parts))


@lru_cache(maxsize=4096)
def _shared(shape: Shape) -> bytes:
    named = _text(0x2A, shape.name) + b"\x30%c" % _KINDS.get(shape.kind, _INTERNAL)
    said = (_attribute(name, value) for name, value in shape.attributes.items() if value is not None)
    return b"".join((named, *said))


def _attribute(name: str, value: Any, tag: int = 0x4A) -> bytes:
    return _field(tag, _text(0x0A, name) + _field(0x12, _value(value)))


_MOST_KNOWN = 64
# Most are few words and small numbers that come again and again. Typed: True equals 1.
_known = lru_cache(maxsize=8192, typed=True)(_attribute)


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
def _text(tag: int, text: str) -> bytes:
    return _field(tag, text.encode(errors="replace"))


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    if size < 0x80:
        return b"%c%c%b" % (tag, size, data)
    if size < 0x4000:
        return b"%c%c%c%b" % (tag, size & 0x7F | 0x80, size >> 7, data)
    return b"%c%b%b" % (tag, _varint(size), data)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)

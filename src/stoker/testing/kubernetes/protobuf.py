"""Bodies in Kubernetes' protobuf, as far as the records of Helm's releases are written in it: Secrets, and the options
with which they are deleted. Answers are JSON, which every client takes.

Numbers of fields: kubernetes/kubernetes@v1.34.0 staging/src/k8s.io/api/core/v1/generated.proto (Secret),
apimachinery/pkg/apis/meta/v1/generated.proto (ObjectMeta), apimachinery/pkg/runtime/generated.proto (Unknown).
"""

import base64
from collections.abc import Iterator
from typing import Any

from stoker.testing.kubernetes.statuses import ApiError

Tree = dict[str, Any]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def tree(body: bytes) -> Tree:
    """Raises ApiError 415 for another kind."""
    if not body.startswith(_MAGIC):
        raise ApiError(400, "no protobuf of Kubernetes")
    unknown = dict(_fields(body[len(_MAGIC) :]))
    kind = dict(_fields(unknown[1])).get(2, b"")
    if kind == b"DeleteOptions":
        return {}
    if kind != b"Secret":
        raise ApiError(415, f"the stand-in takes {kind.decode()} as JSON only")
    return _secret(unknown[2])


def _secret(raw: bytes) -> Tree:
    found: Tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {}}
    for number, value in _fields(raw):
        match number:
            case 1:
                found["metadata"] = _metadata(value)
            case 2:
                key, content = _entry(value)
                found["data"][key.decode()] = base64.b64encode(content).decode()
            case 3:
                found["type"] = value.decode()
    return found


def _metadata(raw: bytes) -> Tree:
    found: Tree = {}
    names = {1: "name", 3: "namespace", 6: "resourceVersion"}
    for number, value in _fields(raw):
        if number in names and value:
            found[names[number]] = value.decode()
        elif number in (11, 12):
            key, text = _entry(value)
            found.setdefault("labels" if number == 11 else "annotations", {})[key.decode()] = text.decode()
    return found


def _entry(raw: bytes) -> tuple[bytes, bytes]:
    fields = dict(_fields(raw))
    return fields.get(1, b""), fields.get(2, b"")


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of the fields that have bytes; others are passed over."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(raw, at)
        elif kind == _BYTES:
            size, at = _varint(raw, at)
            yield number, raw[at : at + size]
            at += size
        elif kind in (_FIXED_64, _FIXED_32):
            at += 8 if kind == _FIXED_64 else 4
        else:
            raise ApiError(400, f"wire type {kind} in a body of protobuf")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(raw):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise ApiError(400, "a body of protobuf ends within a number")

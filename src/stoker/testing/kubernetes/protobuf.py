"""Bodies as typed clients written in Go send them: Kubernetes' protobuf, of the few kinds that Helm and kubectl write.

Answers are always JSON, which those clients read as well. Source of the numbers: generated.proto of k8s.io/api/core/v1
and k8s.io/apimachinery/pkg/apis/meta/v1, and of runtime.Unknown, which is around every object.
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from stoker.testing.kubernetes.statuses import ApiError

Tree = dict[str, Any]

CONTENT = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

_TEXT, _BYTES, _BOOL, _INT, _TIME, _RAW_JSON = "text", "bytes", "bool", "int", "time", "json"
_TEXTS, _TEXT_MAP, _BYTES_MAP = "texts", "text map", "bytes map"

_OWNER = {
    1: ("kind", _TEXT),
    3: ("name", _TEXT),
    4: ("uid", _TEXT),
    5: ("apiVersion", _TEXT),
    6: ("controller", _BOOL),
    7: ("blockOwnerDeletion", _BOOL),
}
_MANAGED = {
    1: ("manager", _TEXT),
    2: ("operation", _TEXT),
    3: ("apiVersion", _TEXT),
    4: ("time", _TIME),
    6: ("fieldsType", _TEXT),
    7: ("fieldsV1", _RAW_JSON),
    8: ("subresource", _TEXT),
}
_META = {
    1: ("name", _TEXT),
    2: ("generateName", _TEXT),
    3: ("namespace", _TEXT),
    5: ("uid", _TEXT),
    6: ("resourceVersion", _TEXT),
    7: ("generation", _INT),
    8: ("creationTimestamp", _TIME),
    9: ("deletionTimestamp", _TIME),
    10: ("deletionGracePeriodSeconds", _INT),
    11: ("labels", _TEXT_MAP),
    12: ("annotations", _TEXT_MAP),
    13: ("ownerReferences", [_OWNER]),
    14: ("finalizers", _TEXTS),
    17: ("managedFields", [_MANAGED]),
}
_KINDS: dict[str, dict[int, tuple[str, Any]]] = {
    "ConfigMap": {
        1: ("metadata", _META),
        2: ("data", _TEXT_MAP),
        3: ("binaryData", _BYTES_MAP),
        4: ("immutable", _BOOL),
    },
    "DeleteOptions": {
        1: ("gracePeriodSeconds", _INT),
        2: ("preconditions", {1: ("uid", _TEXT), 2: ("resourceVersion", _TEXT)}),
        3: ("orphanDependents", _BOOL),
        4: ("propagationPolicy", _TEXT),
        5: ("dryRun", _TEXTS),
    },
    "Namespace": {
        1: ("metadata", _META),
        2: ("spec", {1: ("finalizers", _TEXTS)}),
        3: ("status", {1: ("phase", _TEXT)}),
    },
    "Secret": {
        1: ("metadata", _META),
        2: ("data", _BYTES_MAP),
        3: ("type", _TEXT),
        4: ("stringData", _TEXT_MAP),
        5: ("immutable", _BOOL),
    },
}


def decoded(body: bytes) -> Tree:
    """Raises ApiError 415 for a kind that is not read here."""
    if not body.startswith(_MAGIC):
        raise ApiError(400, "the body is no protobuf of Kubernetes")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    about = dict(_fields(envelope[1]))
    kind = about[2].decode()
    if kind not in _KINDS:
        raise ApiError(415, f"the stand-in reads no {kind} as protobuf; send JSON")
    return {"apiVersion": about[1].decode(), "kind": kind, **_message(envelope.get(2, b""), _KINDS[kind])}


def _message(data: bytes, known: dict[int, tuple[str, Any]]) -> Tree:
    found: Tree = {}
    for number, value in _fields(data):
        name, kind = known.get(number, ("", None))
        if isinstance(kind, dict):
            found[name] = _message(value, kind)
        elif isinstance(kind, list):
            found.setdefault(name, []).append(_message(value, kind[0]))
        elif kind == _TEXTS:
            found.setdefault(name, []).append(value.decode())
        elif kind in (_TEXT_MAP, _BYTES_MAP):
            entry = dict(_fields(value))
            inside = entry.get(2, b"")
            shown = inside.decode() if kind == _TEXT_MAP else base64.b64encode(inside).decode()
            found.setdefault(name, {})[entry.get(1, b"").decode()] = shown
        elif kind == _TIME:
            moment = dict(_fields(value)).get(1, 0)
            if moment:
                found[name] = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        elif kind == _RAW_JSON:
            found[name] = json.loads(dict(_fields(value)).get(1, b"{}"))
        elif kind == _TEXT and value:
            found[name] = value.decode()
        elif kind == _BOOL:
            found[name] = bool(value)
        elif kind == _INT and value:
            found[name] = value
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value: an int, or bytes. Raises ApiError 400 for what is no protobuf."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
        elif wire == 2:
            length, position = _varint(data, position)
            yield number, data[position : position + length]
            position += length
        else:
            raise ApiError(400, f"the body is no protobuf of Kubernetes: wire type {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ApiError(400, "the body is no protobuf of Kubernetes: it ends too early")

"""JSON for what happens in every request: orjson, with the standard library where that is stricter than we are.

Both read and write more than RFC 8259 has (NaN, half a surrogate pair, integers of any size); orjson refuses these, and
then the slower way decides.
"""

import json
from typing import Any

import orjson

# Made once: `json.dumps` with options makes an encoder for each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def loads(text: bytes | str) -> Any:
    """Raises ValueError, RecursionError for what is no JSON. An integer beyond 64 bits may become a float."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def dumps(value: Any) -> bytes:
    """Compact, in UTF-8; a float that is no number becomes null. Raises TypeError for what has no JSON."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return _encode(value).encode()  # in ASCII, so half a surrogate pair is written as the escape that it came as

"""Ids: a prefix that says of what, then 26 characters of Crockford base 32 that sort by time of creation (ULID)."""

import secrets
import time
from typing import NewType

RequestId = NewType("RequestId", str)
TaskId = NewType("TaskId", str)
KeyId = NewType("KeyId", str)
TenantName = NewType("TenantName", str)
ModelName = NewType("ModelName", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, now: float | None = None) -> str:
    """`prefix_` + 48 bits of milliseconds + 80 random bits; unique without coordination (github.com/ulid/spec)."""
    millis = int((time.time() if now is None else now) * 1000)
    number = (millis << 80) | secrets.randbits(80)
    return prefix + "_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))

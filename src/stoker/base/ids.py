"""Ids: a prefix that says of what, then 26 characters of Crockford base 32 that sort by time of creation (ULID)."""

import os
import time
from collections import deque
from typing import NewType

RequestId = NewType("RequestId", str)
TaskId = NewType("TaskId", str)
KeyId = NewType("KeyId", str)
TenantName = NewType("TenantName", str)
ModelName = NewType("ModelName", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
# Random bytes are fetched for many ids at once: each fetch is a call of the system.
_AT_ONCE = 256
_random: deque[bytes] = deque()
os.register_at_fork(after_in_child=_random.clear)


def new_id(prefix: str, now: float | None = None) -> str:
    """`prefix_` + 48 bits of milliseconds + 80 random bits; unique without coordination (github.com/ulid/spec)."""
    millis = int((time.time() if now is None else now) * 1000)
    number = (millis << 80) | int.from_bytes(_ten_random_bytes(), "big")
    return prefix + "_" + "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


def _ten_random_bytes() -> bytes:
    try:
        return _random.popleft()
    except IndexError:
        many = os.urandom(10 * _AT_ONCE)
        _random.extend(many[place : place + 10] for place in range(10, 10 * _AT_ONCE, 10))
        return many[:10]

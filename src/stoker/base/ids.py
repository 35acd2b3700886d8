"""Ids: a prefix that says of what, then 26 characters of Crockford base 32 that sort by time of creation (ULID)."""

import base64
import functools
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
_FROM_RFC_4648 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _ALPHABET.encode())
# The random part of many ids is made at once: each fetch of random bytes is a call of the system.
_AT_ONCE = 256
_random: deque[str] = deque()
os.register_at_fork(after_in_child=_random.clear)


def new_id(prefix: str, now: float | None = None) -> str:
    """`prefix_` + 48 bits of milliseconds + 80 random bits; unique without coordination (github.com/ulid/spec)."""
    millis = int((time.time() if now is None else now) * 1000)
    return f"{prefix}_{_time_part(millis)}{_random_part()}"


@functools.lru_cache(maxsize=4)
def _time_part(millis: int) -> str:
    """50 bits, of which the first two are 0."""
    return "".join([_PAIRS[(millis >> shift) & 1023] for shift in range(40, -1, -10)])


def _random_part() -> str:
    """80 bits."""
    try:
        return _random.popleft()
    except IndexError:
        # Ten bytes are sixteen characters, without any left over.
        many = base64.b32encode(os.urandom(10 * _AT_ONCE)).translate(_FROM_RFC_4648).decode()
        _random.extend(many[place : place + 16] for place in range(16, 16 * _AT_ONCE, 16))
        return many[:16]

"""JSON documents that may have been written by anybody: manifests and HEAD.

Read with the standard library, which keeps integers of any size (states of random generators have 128 bits, which a
faster reader turns into floats), and with nothing beyond RFC 8259: no NaN, no key twice.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from stoker.base.errors import writable

MOST_VALUES = 16 << 20
"""Values in one document. Each takes at most some 100 bytes of memory, so that what is hostile costs 2 GB at most."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 53


class Damaged(Exception):
    """Not an error of the tree: `runs.newest_whole` turns it into a fallback or a refusal. `why` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def dumps(value: Mapping[str, Any]) -> bytes:
    """Canonical: equal values, equal bytes. Raises ValueError for NaN and infinity, TypeError for what has no JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def loads(data: bytes) -> dict[str, Any]:
    """Raises Damaged for whatever is not one JSON object, and for one that is too large to look at."""
    values = data.count(b",")
    if values > MOST_VALUES:
        raise Damaged(f"it has {values} values, and {MOST_VALUES} is the most")
    try:
        found = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as exc:
        raise Damaged(f"it is no JSON: {cut(exc)}") from exc
    if not isinstance(found, dict):
        raise Damaged(f"it is no JSON object, but {cut(found)}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def cut(value: object) -> str:
    """For a message: one line, not long."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 1 << 64:
        return f"an integer of {value.bit_length()} bits"
    text = writable(str(value) if isinstance(value, Exception) else repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


class Fields:
    """Reads an object's fields, each with its type and bounds. Raises Damaged, with the name of the field."""

    def __init__(self, value: object, where: str = "") -> None:
        if not isinstance(value, dict):
            raise Damaged(f"{where or 'it'} must be an object, and is {cut(value)}")
        self._value = value
        self._where = f"{where}." if where else ""

    def _wrong(self, key: str, what: str) -> Damaged:
        if key not in self._value:
            return Damaged(f"{self._where}{key} is missing")
        return Damaged(f"{self._where}{key} must be {what}, and is {cut(self._value[key])}")

    def any(self, key: str) -> Any:
        return self._value.get(key)

    def integer(self, key: str, most: int = _MOST) -> int:
        value = self._value.get(key)
        if type(value) is not int or not 0 <= value <= most:
            raise self._wrong(key, f"an integer from 0 to {most}")
        return value

    def number(self, key: str) -> float:
        value = self._value.get(key)
        if type(value) is int and abs(value) <= _MOST:
            return float(value)
        if type(value) is not float:
            raise self._wrong(key, "a number")
        return value

    def number_or_none(self, key: str) -> float | None:
        return None if self._value.get(key) is None else self.number(key)

    def boolean(self, key: str) -> bool:
        value = self._value.get(key)
        if type(value) is not bool:
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str, most: int = 1024) -> str:
        value = self._value.get(key)
        if type(value) is not str or len(value) > most:
            raise self._wrong(key, f"a text of at most {most} characters")
        return value

    def name(self, key: str) -> str:
        value = self.text(key)
        if not is_name(value):
            raise self._wrong(key, "a name of letters, digits, '.', '_' and '-'")
        return value

    def sha256(self, key: str) -> str:
        value = self.text(key)
        if not is_sha256(value):
            raise self._wrong(key, "a sha256 in 64 hexadecimal digits")
        return value

    def object(self, key: str) -> dict[str, Any]:
        value = self._value.get(key)
        if type(value) is not dict:
            raise self._wrong(key, "an object")
        return value

    def array(self, key: str, most: int) -> list[Any]:
        value = self._value.get(key)
        if type(value) is not list or len(value) > most:
            raise self._wrong(key, f"an array of at most {most} values")
        return value

    def integers(self, key: str, most: int) -> tuple[int, ...]:
        """As an array of at most `most` of them."""
        value = self.array(key, most)
        if not all(type(each) is int and 0 <= each <= _MOST for each in value):
            raise self._wrong(key, f"an array of integers from 0 to {_MOST}")
        return tuple(value)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def is_sha256(text: object) -> bool:
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether it stays below the prefix that it is put after."""
    return len(text) <= 512 and all(map(is_name, text.split("/")))

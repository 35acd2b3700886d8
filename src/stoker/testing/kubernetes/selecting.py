"""Label and field selectors of lists and watches."""

import re
from collections.abc import Callable
from typing import Any

from stoker.testing.kubernetes.statuses import ApiError

Tree = dict[str, Any]
_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\(([^)]*)\)$")
_COMMAS = re.compile(r",(?![^(]*\))")


def selector(labels: str, fields: str) -> Callable[[Tree], bool]:
    """Whether an object matches both. Raises ApiError for one that cannot be read."""
    tests = [_label_test(part.strip()) for part in _COMMAS.split(labels) if part.strip()]
    tests += [_field_test(part.strip()) for part in fields.split(",") if part.strip()]
    return lambda obj: all(test(obj) for test in tests)


def _label_test(text: str) -> Callable[[Tree], bool]:
    match = _SET.match(text)
    if match:
        key, word, listed = match.groups()
        values = {each.strip() for each in listed.split(",")}
        return lambda obj: (_labels(obj).get(key) in values) == (word == "in")
    for sign in ("!=", "==", "="):
        if sign in text:
            key, value = (part.strip() for part in text.split(sign, 1))
            return lambda obj: (_labels(obj).get(key) == value) == (sign != "!=")
    if text.startswith("!"):
        return lambda obj: text[1:].strip() not in _labels(obj)
    if re.fullmatch(r"[-A-Za-z0-9_./]+", text):
        return lambda obj: text in _labels(obj)
    raise ApiError(400, f"unable to parse requirement: {text}")


def _field_test(text: str) -> Callable[[Tree], bool]:
    for sign in ("!=", "==", "="):
        if sign in text:
            path, value = (part.strip() for part in text.split(sign, 1))
            return lambda obj: (_field(obj, path) == value) == (sign != "!=")
    raise ApiError(400, f"invalid selector: {text}")


def _field(obj: Tree, path: str) -> str:
    found: Any = obj
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return "" if found is None else str(found)


def _labels(obj: Tree) -> Tree:
    return obj["metadata"].get("labels") or {}

"""Patches that are no apply, as pure functions: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge."""

import base64
import copy
from typing import Any

from stoker.testing.kubernetes.fields import Shape
from stoker.testing.kubernetes.statuses import ApiError

Tree = dict[str, Any]


def merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merge_patch(found.get(key), value)
    return copy.deepcopy(found)


def strategic_merge_patch(target: Any, patch: Any, shape: Shape) -> Any:
    """Lists with keys merge item by item; an item `{"$patch": "delete", ...}` goes. Other directives are refused where
    they change something (`$retainKeys`, `$setElementOrder/...` are left out, `$patch: replace` of a map is done)."""
    if isinstance(patch, dict):
        directive = patch.get("$patch")
        if directive == "replace":
            return {key: copy.deepcopy(each) for key, each in patch.items() if key != "$patch"}
        found = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if key.startswith("$"):
                continue
            if value is None:
                found.pop(key, None)
            else:
                found[key] = strategic_merge_patch(found.get(key), value, shape.field(key))
        return copy.deepcopy(found)
    if isinstance(patch, list) and shape.list_type == "map" and isinstance(target, list):
        items = {shape.element(each): each for each in target}
        for each in patch:
            element = shape.element(each)
            if isinstance(each, dict) and each.get("$patch") == "delete":
                items.pop(element, None)
            else:
                items[element] = strategic_merge_patch(items.get(element), each, shape.items)
        return list(items.values())
    return copy.deepcopy(patch)


def json_patch(target: Tree, operations: Any) -> Any:
    """Raises ApiError 422 for a test that fails and for a place that is not there."""
    root: Any = {"": copy.deepcopy(target)}
    if not isinstance(operations, list):
        raise ApiError(400, "a JSON patch is a list of operations")
    for each in operations:
        try:
            _operate(root, each)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(422, f"the server rejected our request due to an error in our request: {error}") from error
    return root[""]


def _operate(root: Any, operation: Tree) -> None:
    kind, path = operation["op"], _pointer(operation["path"])
    parent = _walk(root, path[:-1])
    key = path[-1]
    if kind in ("move", "copy"):
        source = _pointer(operation["from"])
        value = copy.deepcopy(_walk(root, source))
        if kind == "move":
            _remove(_walk(root, source[:-1]), source[-1])
        _add(parent, key, value)
    elif kind == "add":
        _add(parent, key, copy.deepcopy(operation["value"]))
    elif kind == "remove":
        _remove(parent, key)
    elif kind == "replace":
        _walk(parent, [key])
        _remove(parent, key)
        _add(parent, key, copy.deepcopy(operation["value"]))
    elif kind == "test":
        if _walk(parent, [key]) != operation["value"]:
            raise ValueError(f"testing value {operation['path']} failed")
    else:
        raise ValueError(f"unknown operation {kind}")


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in f"{text}".split("/")]


def _walk(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _add(parent: Any, key: str, value: Any) -> None:
    if isinstance(parent, list):
        parent.insert(len(parent) if key == "-" else int(key), value)
    else:
        parent[key] = value


def _remove(parent: Any, key: str) -> None:
    if isinstance(parent, list):
        parent.pop(int(key))
    else:
        del parent[key]


def encoded(texts: dict[str, str]) -> dict[str, str]:
    """As `data` of a Secret holds them."""
    return {key: base64.b64encode(str(text).encode()).decode() for key, text in texts.items()}

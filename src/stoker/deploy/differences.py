"""What differs between an object as it is and as it would be, field by field. Pure."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = object()
"""As a value: there is no such field."""
_BY_THE_SERVER = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_KEYS = ("name", "key", "containerPort", "type", "topologyKey")
"""Items of lists are told apart by the first of these that all of them have, each with another value."""
_LONG = 120
_WRITTEN_BY_PEOPLE = ("spec.template.spec.", "data.")


@dataclass(frozen=True)
class Difference:
    """`before` and `after`: the values, or ABSENT."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {shown(self.before)} -> {shown(self.after)}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """In the order of their paths. What only the server writes (status, versions, who manages what) is not looked
    at."""
    return sorted(_trees(_meaning(before), _meaning(after), ""), key=lambda each: each.path)


def added_by_others(obj: Mapping[str, Any], ours: str) -> list[tuple[str, str]]:
    """(manager, field) of what other managers have put beside what `ours` applies: a sidecar, a variable. Only in what
    people write (the pods of a workload, contents of a ConfigMap); what controllers write elsewhere is their work."""
    entries = obj.get("metadata", {}).get("managedFields") or []
    known = {path for entry in entries if entry.get("manager") == ours for path in _owned(entry.get("fieldsV1") or {})}
    found = {
        (str(entry.get("manager")), path)
        for entry in entries
        if entry.get("manager") != ours and not entry.get("subresource")
        for path in _owned(entry.get("fieldsV1") or {})
        if path.startswith(_WRITTEN_BY_PEOPLE) and path not in known
    }
    return sorted(each for each in found if not _is_inside(each[1], {path for _, path in found}))


def _owned(fields: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Each field of a FieldsV1, as `spec.template.spec.containers[name=proxy]`."""
    for key, inner in fields.items():
        if key.startswith("f:"):
            here = f"{path}.{key[2:]}".removeprefix(".")
        elif key.startswith("k:"):
            here = f"{path}[{','.join(f'{name}={value}' for name, value in json.loads(key[2:]).items())}]"
        else:
            continue
        yield here
        yield from _owned(inner, here)


def _is_inside(path: str, paths: Collection[str]) -> bool:
    """Whether something around it is among the paths: the whole says enough."""
    return any(path != each and path.startswith((f"{each}.", f"{each}[")) for each in paths)


def shown(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}... ({len(text)} characters)"


def _meaning(obj: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in obj.items() if key != "status"}
    kept["metadata"] = {key: value for key, value in obj.get("metadata", {}).items() if key not in _BY_THE_SERVER}
    return kept


def _values(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _trees(before, after, path)
    elif _is_list(before) and _is_list(after) and (names := _named(before, after)) is not None:
        yield from _trees(*names, path)
    elif before != after:
        yield Difference(path, before, after)


def _trees(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Difference]:
    for key in {**before, **after}:
        inner = f"{path}{key}" if key.startswith("[") else f"{path}.{key}".removeprefix(".")
        yield from _values(before.get(key, ABSENT), after.get(key, ABSENT), inner)


def _named(before: Sequence[Any], after: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Both lists as maps from `[name]` to item; None where nothing tells their items apart."""
    for key in _KEYS:
        maps = [
            {f"[{item[key]}]": item for item in items if isinstance(item, Mapping) and key in item}
            for items in (before, after)
        ]
        if len(maps[0]) == len(before) and len(maps[1]) == len(after):
            return maps[0], maps[1]
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)

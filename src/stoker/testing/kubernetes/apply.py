"""Server-side apply, and who owns which field: pure functions on trees.

Source: sigs.k8s.io/structured-merge-diff, merge/update.go, and Kubernetes' fieldmanager. Not as there: an object's
versions are not converted into each other (an entry of another version counts as it is written), a null in what is
applied counts as not written, and quantities are compared as text.
"""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.testing.kubernetes.fields import (
    NOTHING,
    FieldSet,
    Path,
    Shape,
    Tree,
    from_v1,
    leaves,
    prefixes,
    to_v1,
    written,
)

_SERVERS_OWN = {
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    ("f:metadata", "f:creationTimestamp"),
    ("f:metadata", "f:deletionGracePeriodSeconds"),
    ("f:metadata", "f:deletionTimestamp"),
    ("f:metadata", "f:generateName"),
    ("f:metadata", "f:generation"),
    ("f:metadata", "f:managedFields"),
    ("f:metadata", "f:name"),
    ("f:metadata", "f:namespace"),
    ("f:metadata", "f:resourceVersion"),
    ("f:metadata", "f:selfLink"),
    ("f:metadata", "f:uid"),
}


@dataclass(frozen=True, order=True)
class Manager:
    """One entry of managedFields. Those that apply are one whatever version they write."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        said = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return f"{said} using {self.api_version}" if self.operation == "Update" else said


Owners = dict[Manager, FieldSet]


class ConflictError(Exception):
    """Others own what was to be applied, with another value."""

    def __init__(self, conflicts: Iterable[tuple[Manager, Path]]) -> None:
        self.conflicts = sorted(conflicts, key=lambda each: (str(each[0]), each[1]))
        super().__init__(self._said())

    def _said(self) -> str:
        if len(self.conflicts) == 1:
            manager, path = self.conflicts[0]
            return f"Apply failed with 1 conflict: conflict with {manager}: {written(path)}"
        lines = []
        for manager in sorted({manager for manager, _ in self.conflicts}):
            lines.append(f"conflicts with {manager}:")
            lines.extend(f"- {written(path)}" for each, path in self.conflicts if each == manager)
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(lines)

    def causes(self) -> list[Tree]:
        return [
            {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": written(path)}
            for manager, path in self.conflicts
        ]


@dataclass(frozen=True)
class Difference:
    """What became of the fields of an object, as sets of paths."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet

    @property
    def written(self) -> FieldSet:
        return self.added | self.modified

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)


def difference(old: Tree, new: Tree, shape: Shape) -> Difference:
    """Fields that the server keeps itself (uid, resourceVersion) are not looked at."""
    before, after = owned_leaves(old, shape), owned_leaves(new, shape)
    within_before, within_after = prefixes(before), prefixes(after)
    return Difference(
        added=frozenset(path for path in after if path not in within_before),
        modified=frozenset(
            path for path, value in before.items() if path in within_after and _changed(value, after.get(path, {}))
        ),
        removed=frozenset(path for path in before if path not in within_after),
    )


def _changed(before: Any, after: Any) -> bool:
    """`{}` for a map, whether or not something stands in it now: that is a field of its own."""
    return not (before == {} or _equal(before, after))


def owned_leaves(obj: Tree, shape: Shape) -> dict[Path, Any]:
    return {
        path: value
        for path, value in leaves(obj, shape).items()
        if path not in _SERVERS_OWN and path[:2] != ("f:metadata", "f:managedFields")
    }


def apply(
    live: Tree, owners: Mapping[Manager, FieldSet], config: Tree, manager: Manager, shape: Shape, *, force: bool = False
) -> tuple[Tree, Owners]:
    """The object, and who owns what, once `manager` has applied `config` over `live` (`{}` for what is not there).

    Raises ConflictError where others own a field that it changes, unless `force`: then they own it no more.
    """
    config = without_nulls(config)
    applied = frozenset(owned_leaves(config, shape))
    others = {each: fields for each, fields in owners.items() if each != manager}
    merged = merge(live, config, shape)
    kept = prefixes(applied.union(*others.values()))
    gone = prefixes(owners.get(manager, NOTHING)) - kept - _SERVERS_OWN
    result = remove(merged, gone, shape)
    changed = difference(live, result, shape)
    conflicts = [(each, path) for each, fields in others.items() for path in fields & changed.written]
    if conflicts and not force:
        raise ConflictError(conflicts)
    return result, _without_empty(
        {**{each: _less(fields, changed) for each, fields in others.items()}, manager: applied}
    )


def updated(old: Tree, new: Tree, owners: Mapping[Manager, FieldSet], manager: Manager, shape: Shape) -> Owners:
    """Who owns what once `manager` has written `new` over `old` by anything but an apply: it takes what it changed."""
    changed = difference(old, new, shape)
    found = {each: _less(fields, changed) for each, fields in owners.items() if each != manager}
    found[manager] = (owners.get(manager, NOTHING) | changed.written) - changed.removed
    return _without_empty(found)


def _less(fields: FieldSet, changed: Difference) -> FieldSet:
    return fields - changed.written - changed.removed


def _without_empty(owners: Owners) -> Owners:
    return {manager: fields for manager, fields in owners.items() if fields}


def merge(live: Any, config: Any, shape: Shape) -> Any:
    """What is applied over what is there; neither is changed."""
    if isinstance(config, dict) and isinstance(live, dict) and not shape.is_atomic_map:
        found = dict(live)
        for name, each in config.items():
            found[name] = merge(live[name], each, shape.field(name)) if name in live else copy.deepcopy(each)
        return found
    if isinstance(config, list) and isinstance(live, list):
        ours, theirs = shape.elements(config), shape.elements(live)
        if ours is not None and theirs is not None:
            return _merged_list(dict(zip(theirs, live, strict=True)), dict(zip(ours, config, strict=True)), shape.items)
    return copy.deepcopy(config)


def _merged_list(live: dict[str, Any], config: dict[str, Any], shape: Shape) -> list[Any]:
    """In the order of what is applied; an item that only stands in `live` stays before the one it stood before."""
    left = list(live)
    found = []
    for element, each in config.items():
        if element in live:
            while element in left:
                first = left.pop(0)
                if first not in config:
                    found.append(live[first])
            found.append(merge(live[element], each, shape))
        else:
            found.append(copy.deepcopy(each))
    found.extend(live[element] for element in left if element not in config)
    return found


def remove(value: Any, gone: FieldSet, shape: Shape, path: Path = ()) -> Any:
    """Without the fields and items whose paths are in `gone`. An item that stays keeps the keys that name it."""
    if not gone:
        return value
    if isinstance(value, dict) and not shape.is_atomic_map:
        named = _keys_at(path)
        return {
            name: remove(each, gone, shape.field(name), (*path, f"f:{name}"))
            for name, each in value.items()
            if name in named or (*path, f"f:{name}") not in gone
        }
    if isinstance(value, list) and (elements := shape.elements(value)) is not None:
        return [
            remove(each, gone, shape.items, (*path, element))
            for element, each in zip(elements, value, strict=True)
            if (*path, element) not in gone
        ]
    return value


def _keys_at(path: Path) -> set[str]:
    """The fields that name the item at a path; none where it is no item."""
    return set(json.loads(path[-1][2:])) if path and path[-1].startswith("k:") else set()


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def owners_of(obj: Tree) -> Owners:
    """Read from metadata.managedFields."""
    found: Owners = {}
    for each in obj.get("metadata", {}).get("managedFields") or []:
        manager = _manager(each)
        found[manager] = found.get(manager, NOTHING) | from_v1(each.get("fieldsV1") or {})
    return found


def managed_fields(owners: Owners, before: list[Tree], api_version: str, now: str) -> list[Tree]:
    """As metadata.managedFields writes it. Entries that did not change keep their time."""
    known = {_manager(each): each for each in before}
    found = []
    for manager in sorted(owners, key=lambda each: (each.operation != "Apply", each)):
        fields = to_v1(owners[manager])
        old = known.get(manager)
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version or (old["apiVersion"] if old else api_version),
            "time": old["time"] if old and old["fieldsV1"] == fields else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        found.append(entry)
    return found


def _manager(entry: Tree) -> Manager:
    operation = str(entry.get("operation", "Update"))
    version = "" if operation == "Apply" else str(entry.get("apiVersion", ""))
    return Manager(str(entry.get("manager", "")), operation, version, str(entry.get("subresource", "")))


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b) if isinstance(a, bool) or isinstance(b, bool) else bool(a == b)

"""Fields of objects as server-side apply names them, and the sets of them that `metadata.managedFields` holds.

A path is a tuple of elements as fieldsV1 writes them: `f:spec`, `k:{"name":"web"}` (an item of a list by its keys),
`v:"a"` (an item of a set). Source: sigs.k8s.io/structured-merge-diff, typed/tofieldset.go and fieldpath/.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stoker.catalog import schemas

Tree = dict[str, Any]
Path = tuple[str, ...]
FieldSet = frozenset[Path]
NOTHING: FieldSet = frozenset()

_SELF = "."
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_KEY_DEFAULTS = {"protocol": "TCP"}
_CONTAINER = object()


def _same(tree: Tree) -> Tree:
    return tree


@dataclass(frozen=True)
class Shape:
    """How one node merges. Without a tree it is deduced from values: maps field by field, lists as a whole."""

    tree: Tree | None = None
    resolve: Callable[[Tree], Tree] = _same

    def below(self, tree: Any) -> "Shape":
        return Shape(self.resolve(tree), self.resolve) if isinstance(tree, dict) else Shape(None, self.resolve)

    def field(self, name: str) -> "Shape":
        tree = self.tree or {}
        return self.below((tree.get("properties") or {}).get(name, tree.get("additionalProperties")))

    def names(self, name: str) -> bool:
        """Whether the schema itself has the field; the key of a map is no such field."""
        return name in ((self.tree or {}).get("properties") or {})

    @property
    def items(self) -> "Shape":
        return self.below((self.tree or {}).get("items"))

    @property
    def is_atomic_map(self) -> bool:
        return (self.tree or {}).get("x-kubernetes-map-type") == "atomic"

    @property
    def list_type(self) -> str:
        return str((self.tree or {}).get("x-kubernetes-list-type", "atomic"))

    def element(self, item: Any) -> str | None:
        """The element of paths that names an item of this list; None where its keys are not there."""
        if self.list_type == "set":
            return f"v:{_text(item)}"
        if not isinstance(item, dict):
            return None
        properties = self.items.tree or {}
        found = {}
        for key in (self.tree or {}).get("x-kubernetes-list-map-keys", ["name"]):
            default = ((properties.get("properties") or {}).get(key) or {}).get("default", _KEY_DEFAULTS.get(key))
            value = item.get(key, default)
            if value is not None:
                found[key] = value
        return f"k:{_text(found)}" if found else None

    def elements(self, items: list[Any]) -> list[str] | None:
        """Of each item; None for a list that merges as a whole, and for one whose items cannot be told apart."""
        if self.list_type not in ("set", "map"):
            return None
        found = [self.element(each) for each in items]
        if None in found or len(set(found)) < len(found):
            return None
        return [each for each in found if each is not None]


def shape_of(schema: schemas.Schema | None) -> Shape:
    """The shape of a kind's objects; deduced where there is no schema."""
    if schema is None:
        return Shape({"properties": {"metadata": _meta()}}, _resolve_meta)
    tree = schema.tree
    if not schema.core:
        tree = {**tree, "properties": {**(tree.get("properties") or {}), "metadata": _meta()}}

    def resolve(each: Tree) -> Tree:
        ref = each.get("$ref")
        return each if ref is None else (_definition(ref) if not schema.core else schema.resolve(each))

    return Shape(tree, resolve)


def _meta() -> Tree:
    return _definition(_META)


def _definition(name: str) -> Tree:
    return schemas.definition(name, schemas.DEFAULT_KUBERNETES)


def _resolve_meta(tree: Tree) -> Tree:
    return _definition(tree["$ref"]) if "$ref" in tree else tree


def leaves(value: Any, shape: Shape) -> dict[Path, Any]:
    """Every field that writing this value owns, with what stands there; items and keys of maps among them."""
    found: dict[Path, Any] = {}
    _leaves(value, shape, (), found)
    return found


def _leaves(value: Any, shape: Shape, path: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, dict) and not shape.is_atomic_map:
        if not value and path:
            found[path] = {}
        for name, each in value.items():
            here = (*path, f"f:{name}")
            if not shape.names(name):
                found[here] = _CONTAINER
            _leaves(each, shape.field(name), here, found)
    elif isinstance(value, list) and (elements := shape.elements(value)) is not None:
        for element, each in zip(elements, value, strict=True):
            here = (*path, element)
            found[here] = _CONTAINER
            _leaves(each, shape.items, here, found)
    elif path:
        found[path] = value


def to_v1(fields: Iterable[Path]) -> Tree:
    """As `managedFields[].fieldsV1` writes a set."""
    root: Tree = {}
    members = sorted(fields)
    parents = {path[:n] for path in members for n in range(len(path))}
    for path in members:
        node = root
        for element in path:
            node = node.setdefault(element, {})
        if path in parents:
            node[_SELF] = {}
    return root


def from_v1(tree: Tree) -> FieldSet:
    return frozenset(_members(tree, ()))


def _members(tree: Tree, path: Path) -> Iterator[Path]:
    if path and (not tree or _SELF in tree):
        yield path
    for element, below in tree.items():
        if element != _SELF:
            yield from _members(below, (*path, element))


def prefixes(fields: Iterable[Path]) -> FieldSet:
    """The paths and all that they stand in."""
    return frozenset(path[:n] for path in fields for n in range(1, len(path) + 1))


def written(path: Path) -> str:
    """As a conflict names the field: `.spec.template.spec.containers[name="web"].image`."""
    out = []
    for element in path:
        kind, _, text = element.partition(":")
        if kind == "f":
            out.append(f".{text}")
        elif kind == "v":
            out.append(f"[={text}]")
        else:
            out.append("[" + ",".join(f"{key}={_text(value)}" for key, value in json.loads(text).items()) + "]")
    return "".join(out)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

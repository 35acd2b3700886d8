"""One Kubernetes object, and where each part of it stands in the text it was read from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.spec.faults import Path, Position

_EXPRESSION = re.compile(r"\$\{.*\}|\{\{.*\}\}", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Document:
    """One YAML or JSON document of the file `file`: plain data, and the places of its keys and values.

    `index` counts the documents of the file from 0. Lines and columns count from 1 and from the start of the file.
    """

    file: str
    index: int
    data: Any
    values: Mapping[Path, Position] = field(default_factory=dict)
    keys: Mapping[Path, Position] = field(default_factory=dict)
    comments: Mapping[int, str] = field(default_factory=dict)
    """Line number -> the comment on it, from `#`: for suppressions, and for rules that compare it with the value."""

    def where(self, path: Path, *, key: bool = False) -> Position:
        """The place of a value, or of its key; of the nearest part around it when it is not written in the text."""
        if key and path in self.keys:
            return self.keys[path]
        if path in self.values:
            return self.values[path]
        while path:
            path = path[:-1]
            if path in self.keys:
                return self.keys[path]
            if path in self.values:
                return self.values[path]
        return self.values.get((), Position(1, 1))


@dataclass(frozen=True, eq=False)
class Manifest:
    """One object. `data` is its own tree; `root` is where that tree stands in its document.

    An object inside another (an item of a List, a template of a kro graph, what an Argo step creates) is a Manifest of
    its own, with `inside` set to the object that holds it. `templated` says that text in it may hold `${...}` or
    `{{...}}`, which something fills in later: such a value can be of any type, and is not judged.
    """

    data: dict[str, Any]
    document: Document
    root: Path = ()
    inside: "Manifest | None" = None
    templated: bool = False

    @property
    def api_version(self) -> str:
        return _text(self.data.get("apiVersion"))

    @property
    def group(self) -> str:
        """`karpenter.sh` of `karpenter.sh/v1`; empty for the core group and for `v1alpha1`."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    @property
    def kind(self) -> str:
        return _text(self.data.get("kind"))

    @property
    def name(self) -> str:
        return _text(self.get("metadata", "name")) or _text(self.get("metadata", "generateName"))

    @property
    def namespace(self) -> str:
        """As written; empty where none is, which is `default`, or no namespace at all for kinds that have none."""
        return _text(self.get("metadata", "namespace"))

    @property
    def labels(self) -> dict[str, str]:
        return texts(self.get("metadata", "labels"))

    @property
    def annotations(self) -> dict[str, str]:
        return texts(self.get("metadata", "annotations"))

    def get(self, *path: str | int, default: Any = None) -> Any:
        """The value at a path of the object's own tree; `default` where anything on the way is not there."""
        return look(self.data, *path, default=default)

    def where(self, path: Path, *, key: bool = False) -> Position:
        return self.document.where(self.root + path, key=key)

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind or 'object'} {place}{self.name or '(no name)'}"


def look(tree: Any, *path: str | int, default: Any = None) -> Any:
    """The value at a path; `default` where anything on the way is missing, or is no section or list."""
    for part in path:
        if isinstance(tree, dict):
            if part not in tree:
                return default
        elif not (isinstance(tree, list) and isinstance(part, int) and 0 <= part < len(tree)):
            return default
        tree = tree[part]
    return tree


def sections(tree: Any) -> list[tuple[int, dict[str, Any]]]:
    """The items of a list that are sections, with their index: what is anything else is another rule's finding."""
    return [(i, each) for i, each in enumerate(tree) if isinstance(each, dict)] if isinstance(tree, list) else []


def texts(tree: Any) -> dict[str, str]:
    """The entries of a section whose value is text."""
    return (
        {k: v for k, v in tree.items() if isinstance(k, str) and isinstance(v, str)} if isinstance(tree, dict) else {}
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def whole(value: Any) -> int | None:
    """A whole number; None for anything else, true and false among it."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_open(manifest: Manifest, value: Any) -> bool:
    """Whether something that holds the object fills this value in later: it can be of any type, and is not judged."""
    return manifest.templated and isinstance(value, str) and _EXPRESSION.search(value) is not None


def filled_in_later(value: Any) -> bool:
    """Whether text holds `${...}`, `{{...}}` or `$(...)`, which something else fills in: it can not be judged here."""
    return isinstance(value, str) and ("${" in value or "{{" in value or "$(" in value)

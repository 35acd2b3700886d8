"""Graphs of kro: the resources of a definition, what its schema declares, and what its expressions read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rules.kro._simple_schema import Leaf, leaf
from stoker.manifests.objects import Manifest, look, sections
from stoker.spec.faults import Path

GROUP, WRONG_GROUP = "kro.run", "kro.aws.io"
KINDS = ("ResourceGraphDefinition", "ResourceGroup")
RESOURCE_PARTS = ("metadata", "spec", "status", "data", "stringData", "apiVersion", "kind")

_TEXT = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_PART = r"(?:\.\??[A-Za-z_]\w*|\[\s*\d+\s*\]|\[\?\s*\d+\s*\])"
_REFERENCE = re.compile(rf"(?<![\w.\])])([A-Za-z_]\w*)({_PART}*)(\s*\()?")
_VARIABLE = re.compile(r"(?:\.\w+|\bcel\.bind)\(\s*([A-Za-z_]\w*)\s*,(?:\s*([A-Za-z_]\w*)\s*,)?")
_ONE = re.compile(r"\.(\??[A-Za-z_]\w*)|\[\??\s*(\d+)\s*\]")
_DEPTH = 40
_LONGEST = 4096  # of an expression that is read


@dataclass(frozen=True, eq=False)
class Reference:
    """`server.metadata.name` in an expression: where its text stands, whose it is, and which field of that.

    A last field such as `?ready` is an optional one.
    """

    manifest: Manifest
    path: Path
    root: str
    fields: tuple[str | int, ...]

    @property
    def is_optional(self) -> bool:
        return bool(self.fields) and str(self.fields[-1]).startswith("?")

    def __str__(self) -> str:
        return self.root + "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in self.fields)


@dataclass(frozen=True, eq=False)
class Resource:
    """One resource of a graph. `manifest` is the object in it, or the graph where it is none."""

    graph: Manifest
    index: int
    tree: dict[str, Any]
    manifest: Manifest

    @property
    def id(self) -> str:
        found = self.tree.get("id")
        return found if isinstance(found, str) else ""

    @property
    def path(self) -> Path:
        """Where it stands in the graph."""
        return ("spec", "resources", self.index)

    @property
    def template(self) -> dict[str, Any]:
        found = self.tree.get("template", self.tree.get("externalRef"))
        return found if isinstance(found, dict) else {}

    @property
    def is_collection(self) -> bool:
        """Whether its id is a list of objects: one for each of something, or all that a selector finds."""
        return "forEach" in self.tree or look(self.template, "metadata", "selector") is not None

    @cached_property
    def reads(self) -> list[Reference]:
        """What the expressions of its template read."""
        prefix: Path = () if self.manifest is not self.graph else (*self.path, "template")
        return list(_references(self.tree.get("template"), self.manifest, prefix))

    @cached_property
    def conditions(self) -> list[Reference]:
        """What its other expressions read: when it is ready, whether it is made, how often."""
        keys = ("readyWhen", "includeWhen", "forEach", "externalRef")
        return [
            each for key in keys for each in _references(self.tree.get(key), self.graph, (*self.path, key), bare=True)
        ]


@dataclass(frozen=True, eq=False)
class Graph:
    manifest: Manifest
    resources: tuple[Resource, ...]

    @property
    def schema(self) -> dict[str, Any]:
        found = self.manifest.get("spec", "schema")
        return found if isinstance(found, dict) else {}

    @property
    def kind(self) -> str:
        found = self.schema.get("kind")
        return found if isinstance(found, str) else ""

    @property
    def group(self) -> str:
        """Of the instances."""
        found = self.schema.get("group")
        return found if isinstance(found, str) and found else GROUP

    @property
    def api_version(self) -> str:
        """What an instance writes."""
        version = self.schema.get("apiVersion")
        return f"{self.group}/{version}" if isinstance(version, str) else ""

    @property
    def by_id(self) -> dict[str, Resource]:
        return {each.id: each for each in self.resources if each.id}

    @property
    def names(self) -> set[str]:
        """What an expression may begin with, beside functions: ids, the schema, and the variables of loops."""
        loops = [
            name
            for each in self.resources
            for _i, one in sections(each.tree.get("forEach"))
            for name in one
            if isinstance(name, str)
        ]
        return {"schema", "each", *self.by_id, *loops}

    @cached_property
    def reads(self) -> list[Reference]:
        """All references, those of the status of the schema included."""
        found = [each for resource in self.resources for each in (*resource.reads, *resource.conditions)]
        for key in ("status", "additionalPrinterColumns", "metadata"):
            found += _references(self.schema.get(key), self.manifest, ("spec", "schema", key))
        return found

    @cached_property
    def fields(self) -> dict[tuple[str, ...], Leaf]:
        """The leaves of the schema's spec, by their path."""
        return dict(_leaves(self.schema.get("spec"), ()))

    @property
    def types(self) -> dict[str, Any]:
        found = self.schema.get("types")
        return found if isinstance(found, dict) else {}


@lru_cache(maxsize=1)
def graphs(cluster: Cluster) -> tuple[Graph, ...]:
    inner = {
        (id(each.document), each.root): each
        for each in cluster.manifests
        if each.templated and each.root[-1:] == ("template",)
    }
    found = []
    for manifest in cluster.of(*KINDS):
        if manifest.group not in (GROUP, WRONG_GROUP):
            continue
        resources = []
        for i, tree in sections(manifest.get("spec", "resources")):
            root = (*manifest.root, "spec", "resources", i, "template")
            resources.append(Resource(manifest, i, tree, inner.get((id(manifest.document), root), manifest)))
        found.append(Graph(manifest, tuple(resources)))
    return tuple(found)


def instances(cluster: Cluster, graph: Graph) -> Iterator[Manifest]:
    """The objects of the kind that a graph defines, whatever they say about its group."""
    if graph.kind:
        for manifest in cluster.of(graph.kind):
            if manifest.group in ("", graph.group) and not manifest.templated:
                yield manifest


def expressions(text: str) -> Iterator[str]:
    """What stands between `${` and its closing brace."""
    start = text.find("${")
    while start >= 0:
        depth, i = 1, start + 2
        while i < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            i += 1
        if depth:
            return
        yield text[start + 2 : i - 1]
        start = text.find("${", i)


def references(expression: str) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The names that an expression begins with and the fields it reads of them; no functions, no own variables."""
    if len(expression) > _LONGEST:
        return
    plain = _TEXT.sub('""', expression)
    own = {name for match in _VARIABLE.finditer(plain) for name in match.groups() if name}
    for match in _REFERENCE.finditer(plain):
        root, called = match[1], match[3] is not None
        parts: list[str | int] = []
        for name, index in _ONE.findall(match[2]):
            parts.append(name if name else int(index[:9]))
            if name.startswith("?"):
                break  # an optional field: whoever writes it says that it may not be there, and what follows neither
        else:
            if called and parts:
                parts.pop()  # the name of a function on it
            elif called:
                continue
        if root not in own:
            yield root, tuple(parts)


def _references(tree: Any, manifest: Manifest, path: Path, *, bare: bool = False) -> Iterator[Reference]:
    """`bare` texts are expressions even without `${}`."""
    if isinstance(tree, str):
        found = list(expressions(tree))
        for expression in found or ([tree] if bare else []):
            for root, fields in references(expression):
                yield Reference(manifest, path, root, fields)
    elif isinstance(tree, dict) and len(path) < _DEPTH:
        for key, value in tree.items():
            if isinstance(key, str):
                yield from _references(key, manifest, (*path, key)) if "${" in key else ()
                yield from _references(value, manifest, (*path, key))
    elif isinstance(tree, list) and len(path) < _DEPTH:
        for i, value in enumerate(tree):
            yield from _references(value, manifest, (*path, i), bare=bare)


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    for key, value in tree.items() if isinstance(tree, dict) and len(path) < _DEPTH else ():
        if not isinstance(key, str):
            continue
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), leaf(value)

"""STAND-IN until the real reader is merged: same shape, no limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import yaml

from stoker.manifests.objects import Document, Manifest
from stoker.spec.faults import Position

MAX_BYTES = 16 << 20
STDIN = "<stdin>"


@dataclass(frozen=True)
class Trouble:
    kind: str
    file: str
    line: int
    column: int
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Reading:
    manifests: tuple[Manifest, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    files: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def read(paths: Sequence[str], *, stdin: bytes | None = None) -> Reading:
    manifests: list[Manifest] = []
    troubles: list[Trouble] = []
    texts = {}
    for path in paths:
        if path == "-":
            texts[STDIN] = (stdin or b"").decode()
            continue
        found = sorted(File(path).rglob("*.yaml")) if File(path).is_dir() else [File(path)]
        for each in found:
            texts[str(each)] = each.read_text()
    for name, text in texts.items():
        one = read_text(text, name)
        manifests += one.manifests
        troubles += one.troubles
    return Reading(tuple(manifests), tuple(troubles), tuple(texts), texts)


def read_text(text: str | bytes, name: str = "<text>") -> Reading:
    if isinstance(text, bytes):
        text = text.decode()
    loader = yaml.CSafeLoader(text)
    manifests: list[Manifest] = []
    comments = {
        i: line[line.index("#") :].rstrip()
        for i, line in enumerate(text.splitlines(), 1)
        if line.strip().startswith("#") or " #" in line
    }
    index = 0
    try:
        while loader.check_node():
            node = loader.get_node()
            values: dict[Any, Any] = {}
            keys: dict[Any, Any] = {}
            first, last = node.start_mark.line, node.end_mark.line
            data = _build(loader, node, (), values, keys)
            mine = {line: c for line, c in comments.items() if first - 5 <= line <= last + 1}
            document = Document(name, index, data, values, keys, mine)
            index += 1
            if isinstance(data, dict):
                manifests.append(Manifest(data, document))
                for i, each in enumerate(data.get("items") or []) if str(data.get("kind", "")).endswith("List") else ():
                    manifests.append(Manifest(each, document, ("items", i)))
                if data.get("kind") in ("ResourceGroup", "ResourceGraphDefinition"):
                    for i, each in enumerate((data.get("spec") or {}).get("resources") or []):
                        if isinstance(each.get("template"), dict):
                            manifests.append(
                                Manifest(
                                    each["template"],
                                    document,
                                    ("spec", "resources", i, "template"),
                                    manifests[0],
                                    templated=True,
                                )
                            )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return Reading(
            tuple(manifests),
            (Trouble("syntax", name, mark.line + 1, mark.column + 1, str(error.problem)),),
            (name,),
            {name: text},
        )
    return Reading(tuple(manifests), (), (name,), {name: text})


def _build(loader: Any, node: Any, path: Any, values: Any, keys: Any) -> Any:
    values[path] = Position(node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        result = {}
        for k, v in node.value:
            keys[(*path, k.value)] = Position(k.start_mark.line + 1, k.start_mark.column + 1)
            result[k.value] = _build(loader, v, (*path, k.value), values, keys)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, v, (*path, i), values, keys) for i, v in enumerate(node.value)]
    return loader.construct_object(node)

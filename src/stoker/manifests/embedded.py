"""The objects of a document: itself, the items of a List, and the real objects within kro graphs and Argo steps."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.manifests.documents import parse
from stoker.manifests.objects import Document, Manifest, look, sections
from stoker.spec.faults import Path, Position

_GRAPHS = ("ResourceGraphDefinition", "ResourceGroup")
_WORKFLOWS = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
NOT_OF_A_FILE = -1  # the index of a document that is text within another: it is not mended at its own places
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def is_object(tree: Any) -> bool:
    """Whether a tree means to be a Kubernetes object: a section with `kind` or `apiVersion`."""
    return isinstance(tree, dict) and ("kind" in tree or "apiVersion" in tree)


def manifests_of(document: Document, text: str) -> list[Manifest]:
    """All objects of a document, the ones within others after the one that holds them. `text` is that of the file."""
    if isinstance(document.data, list):
        found = [Manifest(each, document, (i,)) for i, each in sections(document.data) if is_object(each)]
    elif is_object(document.data):
        found = _of_list(document) or [Manifest(document.data, document)]
    else:
        return []
    return [each for manifest in found for each in (manifest, *_within(manifest, text))]


def _of_list(document: Document) -> list[Manifest]:
    """The items of a `List`, or of one of the lists that kubectl prints (`PodList`)."""
    data = document.data
    kind, items = data.get("kind"), data.get("items")
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(items, list):
        return []
    of_one_kind = {"kind": kind.removesuffix("List"), "apiVersion": data.get("apiVersion")} if kind != "List" else {}
    return [Manifest({**of_one_kind, **each}, document, ("items", i)) for i, each in sections(items)]


def _within(manifest: Manifest, text: str) -> Iterator[Manifest]:
    if manifest.kind in _GRAPHS:
        for i, resource in sections(manifest.get("spec", "resources")):
            template = resource.get("template")
            if isinstance(template, dict) and is_object(template):
                path: Path = (*manifest.root, "spec", "resources", i, "template")
                yield Manifest(template, manifest.document, path, manifest, templated=True)
    elif manifest.kind in _WORKFLOWS:
        base: Path = ("spec", "workflowSpec", "templates") if manifest.kind == "CronWorkflow" else ("spec", "templates")
        for i, template in sections(manifest.get(*base)):
            written = look(template, "resource", "manifest")
            if isinstance(written, str):
                yield from _of_text(manifest, (*base, i, "resource", "manifest"), written, text)


def _of_text(manifest: Manifest, path: Path, written: str, text: str) -> Iterator[Manifest]:
    """The objects of a text within an object. While it is read, words of the same length stand for expressions."""
    words = {_word(each): each for each in _EXPRESSION.findall(written)}
    documents, _ = parse(_EXPRESSION.sub(lambda match: _word(match[0]), written), manifest.document.file)
    for each in documents:
        if is_object(each.data):
            data = _with_expressions(each.data, words)
            yield Manifest(data, _moved(each, data, manifest.where(path), text), (), manifest, templated=True)


def _word(expression: str) -> str:
    return f"xx{re.sub('[^A-Za-z0-9]', '_', expression[2:-2])}xx"


def _with_expressions(tree: Any, words: dict[str, str]) -> Any:
    if isinstance(tree, dict):
        return {_text_with(key, words): _with_expressions(value, words) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_expressions(each, words) for each in tree]
    return _text_with(tree, words) if isinstance(tree, str) else tree


def _text_with(text: str, words: dict[str, str]) -> str:
    for word, expression in words.items():
        text = text.replace(word, expression)
    return text


def _moved(document: Document, data: Any, begins: Position, text: str) -> Document:
    """The same document at its places in the file: exact for a literal block, the text's own place for others."""
    lines = text.splitlines()
    header = lines[begins.line - 1][begins.column - 1 :] if begins.line <= len(lines) else ""
    if not header.startswith("|"):
        return Document(document.file, NOT_OF_A_FILE, data, {(): begins})
    first = next((line for line in lines[begins.line :] if line.strip()), "")
    indent = len(first) - len(first.lstrip())

    def moved(places: Mapping[Path, Position]) -> dict[Path, Position]:
        return {path: Position(at.line + begins.line, at.column + indent) for path, at in places.items()}

    comments = {line + begins.line: said for line, said in document.comments.items()}
    return Document(document.file, NOT_OF_A_FILE, data, moved(document.values), moved(document.keys), comments)

"""The objects of a document: itself, the items of a List, and the real objects within kro graphs and Argo steps."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from stoker.manifests.documents import parse
from stoker.manifests.objects import Document, Manifest, look, sections
from stoker.manifests.troubles import Trouble
from stoker.spec.faults import Path, Position

_GRAPHS = ("ResourceGraphDefinition", "ResourceGroup")
_WORKFLOWS = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
_TO_READ = ("get", "delete", "patch")  # these name an object or a part of one: no whole object is made
_COMMANDS = ("command", "args")
NOT_OF_A_FILE = -1  # the index of a document that is text within another: it is not mended at its own places
_LITERAL = re.compile(r"\|[+-]?\s*(#|$)")
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def is_object(tree: Any) -> bool:
    """Whether a tree means to be a Kubernetes object: a section with `kind` or `apiVersion`."""
    return isinstance(tree, dict) and ("kind" in tree or "apiVersion" in tree)


def manifests_of(document: Document, text: str) -> tuple[list[Manifest], list[Trouble]]:
    """All objects of a document, the ones within others after the one that holds them, and what of those within cannot
    be read. `text` is that of the file."""
    variables = "${" in text
    if isinstance(document.data, list):
        found = [_manifest(each, document, variables, (i,)) for i, each in sections(document.data) if is_object(each)]
    elif is_object(document.data):
        listed = _of_list(document.data, document, variables)
        found = [_manifest(document.data, document, variables)] if listed is None else listed
    else:
        return [], []
    manifests: list[Manifest] = []
    troubles: list[Trouble] = []
    for each in found:
        manifests.append(each)
        manifests += _of_graph(each)
        for path in _texts(each):
            within, unread = _of_text(each, path, text)
            manifests += within
            troubles += unread
    return manifests, troubles


def _manifest(data: dict[str, Any], document: Document, variables: bool, root: Path = ()) -> Manifest:
    """With `variables`, some are in the file: envsubst, Flux or Terraform fills them in before it is applied."""
    templated = data.get("kind") in _WORKFLOWS or (variables and _has_variables(data))
    return Manifest(data, document, root, templated=templated)


def _has_variables(tree: Any) -> bool:
    """Whether a text of one line holds `${...}`. In longer ones and in commands it is a shell's."""
    if isinstance(tree, dict):
        return any(_has_variables(key) or _has_variables(tree[key]) for key in tree if key not in _COMMANDS)
    if isinstance(tree, list):
        return any(_has_variables(each) for each in tree)
    return isinstance(tree, str) and "${" in tree and "\n" not in tree


def _of_list(data: dict[str, Any], document: Document, variables: bool, root: Path = ()) -> list[Manifest] | None:
    """The items of a `List`, or of one of the lists that kubectl prints (`PodList`), and of lists within it; None where
    it is none."""
    kind, items = data.get("kind"), data.get("items")
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(items, list):
        return None
    of_one_kind = {"kind": kind.removesuffix("List"), "apiVersion": data.get("apiVersion")} if kind != "List" else {}
    found: list[Manifest] = []
    for i, each in sections(items):
        path = (*root, "items", i)
        within = _of_list(each, document, variables, path)
        found += [_manifest({**of_one_kind, **each}, document, variables, path)] if within is None else within
    return found


def _of_graph(manifest: Manifest) -> Iterator[Manifest]:
    for i, resource in sections(manifest.get("spec", "resources")) if manifest.kind in _GRAPHS else ():
        template = resource.get("template")
        if isinstance(template, dict) and is_object(template):
            path: Path = (*manifest.root, "spec", "resources", i, "template")
            yield Manifest(template, manifest.document, path, manifest, templated=True)


def _texts(manifest: Manifest) -> list[Path]:
    """Where a workflow has the text of an object that a step creates."""
    if manifest.kind not in _WORKFLOWS:
        return []
    base: Path = ("spec", "workflowSpec", "templates") if manifest.kind == "CronWorkflow" else ("spec", "templates")
    paths: list[Path] = [
        (*base, i, "resource", "manifest")
        for i, each in sections(manifest.get(*base))
        if look(each, "resource", "action") not in _TO_READ
    ]
    return [path for path in paths if isinstance(manifest.get(*path), str)]


def _of_text(manifest: Manifest, path: Path, text: str) -> tuple[list[Manifest], list[Trouble]]:
    """The objects of a text within an object. While it is read, words of the same length stand for expressions."""
    written, begins = manifest.get(*path), manifest.where(path)
    words = {_word(each): each for each in _EXPRESSION.findall(written)}
    documents, unread = parse(_EXPRESSION.sub(lambda match: _word(match[0]), written), manifest.document.file)
    indent = _indent(begins, text)
    found = []
    for each in documents:
        if is_object(each.data):
            data = _with_expressions(each.data, words)
            found.append(Manifest(data, _moved(each, data, begins, indent), (), manifest, templated=True))
    return found, [_moved_trouble(each, begins, indent) for each in unread]


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


def _indent(begins: Position, text: str) -> int | None:
    """How far in the lines of a literal block stand; None for a text that is written in another way."""
    lines = text.splitlines()
    header = lines[begins.line - 1][begins.column - 1 :] if begins.line <= len(lines) else ""
    if not _LITERAL.match(header):
        return None
    first = next((line for line in lines[begins.line :] if line.strip()), "")
    return len(first) - len(first.lstrip())


def _moved(document: Document, data: Any, begins: Position, indent: int | None) -> Document:
    """The same document at its places in the file: exact for a literal block, the text's own place for others."""
    if indent is None:
        return Document(document.file, NOT_OF_A_FILE, data, {(): begins})

    def moved(places: Mapping[Path, Position]) -> dict[Path, Position]:
        return {path: Position(at.line + begins.line, at.column + indent) for path, at in places.items()}

    comments = {line + begins.line: said for line, said in document.comments.items()}
    return Document(document.file, NOT_OF_A_FILE, data, moved(document.values), moved(document.keys), comments)


def _moved_trouble(trouble: Trouble, begins: Position, indent: int | None) -> Trouble:
    at = begins if indent is None else Position(trouble.line + begins.line, trouble.column + indent)
    return replace(trouble, line=at.line, column=at.column, message=f"in the text of an object: {trouble.message}")

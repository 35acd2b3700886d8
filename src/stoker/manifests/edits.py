"""Changes to a manifest, made in its text so that comments, order and quotes stay as they are.

Each change is made at the places of the values and read again: what is read must be what the change means, and every
other document of the file what it was before. What cannot be changed so is refused (`CannotEdit`), never done by half.
"""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from stoker.manifests.documents import parse, scalar
from stoker.spec.faults import Path, written
from stoker.spec.yaml import dump


@dataclass(frozen=True)
class Replace:
    """Another scalar in the place of the one at `path`."""

    path: Path
    value: Any


@dataclass(frozen=True)
class Rename:
    """Another name for the key at `path`; its value stays."""

    path: Path
    name: str


@dataclass(frozen=True)
class Remove:
    """The entry or item at `path` goes, with the comments that are its own: on its lines and directly above.

    A section or list that is empty then stays, as `{}` or `[]`."""

    path: Path


@dataclass(frozen=True)
class Add:
    """A new entry at `path`, at the end of its section; sections on the way that are missing are made. For a list the
    last part of `path` is its length."""

    path: Path
    value: Any
    comment: str = ""
    """A comment on its line, from `#`; where the entry is no line of its own it is left out."""
    above: tuple[str, ...] = ()
    """Comments on lines of their own above it, likewise."""


Edit = Replace | Rename | Remove | Add


class CannotEdit(Exception):
    """The text cannot be changed so; the message says why."""


def apply(text: str, document: int, edits: Sequence[Edit], root: Path = ()) -> str:
    """The text with the edits made in one of its documents, in order; their paths count from `root`.

    Raises CannotEdit when one of them cannot be made; then none is."""
    for edit in edits:
        text = _apply(text, document, replace(edit, path=root + edit.path))
    return text


def meaning(tree: Any, edit: Edit) -> Any:
    """What an edit makes of the data. Raises CannotEdit where there is nothing to edit."""
    tree = _unshared(tree)
    if not edit.path:
        raise CannotEdit("the whole object is not edited")
    parent = tree
    for i, part in enumerate(edit.path[:-1]):
        if isinstance(parent, dict) and isinstance(edit, Add) and parent.get(part) is None:
            parent[part] = {}
        parent = _child(parent, part, edit.path[: i + 1])
    last = edit.path[-1]
    if isinstance(edit, Add):
        if isinstance(parent, list) and last == len(parent):
            parent.append(edit.value)
        elif isinstance(parent, dict) and last not in parent:
            parent[last] = edit.value
        else:
            raise CannotEdit(f"{written(edit.path)} is there already, or its parent is no section")
        return tree
    _child(parent, last, edit.path)
    if isinstance(edit, Remove):
        del parent[last]
    elif isinstance(edit, Replace):
        parent[last] = edit.value
    elif isinstance(parent, dict) and edit.name not in parent:
        parent[edit.name] = parent.pop(last)
    else:
        raise CannotEdit(f"{edit.name} is there already")
    return tree


def diff(old: str, new: str, file: str) -> str:
    """What changed, as `diff -u` says it."""
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), file, file)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _unshared(tree: Any) -> Any:
    """A copy in which what an alias stood for is there twice: a change of one place is not one of the other."""
    if isinstance(tree, dict):
        return {key: _unshared(each) for key, each in tree.items()}
    return [_unshared(each) for each in tree] if isinstance(tree, list) else tree


def _child(parent: Any, part: str | int, path: Path) -> Any:
    if isinstance(parent, dict) and part in parent:
        return parent[part]
    if isinstance(parent, list) and isinstance(part, int) and 0 <= part < len(parent):
        return parent[part]
    raise CannotEdit(f"there is no {written(path)}")


def _apply(text: str, document: int, edit: Edit) -> str:
    before, troubles = parse(text, "")
    wanted = {each.index: each.data for each in before}
    if document not in wanted:
        raise CannotEdit("the object is not at a place of its own in the file")
    wanted[document] = meaning(wanted[document], edit)
    for changed in _attempts(text, document, edit):
        after, new_troubles = parse(changed, "")
        same = repr({each.index: each.data for each in after}) == repr(wanted) or _equal(after, wanted)
        if same and len(new_troubles) <= len(troubles):
            return changed
    raise CannotEdit(f"{written(edit.path)} cannot be changed without rewriting what is around it")


def _equal(after: list[Any], wanted: dict[int, Any]) -> bool:
    return {each.index: each.data for each in after} == wanted


def _attempts(text: str, document: int, edit: Edit) -> Iterator[str]:
    """Texts that may be what is wanted, the one that changes least first."""
    source = _Source(text, document)
    if isinstance(edit, Replace):
        node = source.value(edit.path)
        for each in _scalars(edit.value, node.style if isinstance(node, yaml.ScalarNode) else None):
            yield source.replaced(node, each)
    elif isinstance(edit, Rename):
        for each in _scalars(edit.name, source.key(edit.path).style):
            yield source.replaced(source.key(edit.path), each)
    elif isinstance(edit, Remove):
        yield source.without(edit.path)
    else:
        yield from source.with_entry(edit)


def _scalars(value: Any, style: str | None) -> Iterator[str]:
    """Ways to write a scalar; in the quotes that stood there, if any stood there and it is text."""
    if not isinstance(value, str):
        yield json.dumps(value)
        return
    quoted = [json.dumps(value, ensure_ascii=False), "'" + value.replace("'", "''") + "'"]
    if style == "'":
        quoted.reverse()
    plain = [value] if value and value == value.strip() and scalar(value) == value and "\n" not in value else []
    yield from [*quoted, *plain] if style in ("'", '"') else [*plain, *quoted]


class _Source:
    """The text of a file, and the nodes of one of its documents with their places."""

    def __init__(self, text: str, document: int) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in re.finditer("\r\n|[\r\n\x85\u2028\u2029]", text))]
        self.bom = text.startswith("\ufeff")
        try:
            nodes = list(yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        except yaml.YAMLError as error:
            raise CannotEdit("another document of the file cannot be read") from error
        if document >= len(nodes):
            raise CannotEdit("the document is not there")
        self.root: Any = nodes[document]
        self.line_end = "\r\n" if "\r\n" in text else "\n"

    # Where things are.

    def offset(self, mark: Any) -> int:
        line, column = min(int(mark.line), len(self.starts) - 1), int(mark.column)
        return min(self.starts[line] + column + (self.bom and line == 0), len(self.text))

    def line(self, number: int) -> str:
        end = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.text)
        return self.text[self.starts[number] : end].rstrip("\r\n\x85\u2028\u2029")

    def after_line(self, number: int) -> int:
        return self.starts[number + 1] if number + 1 < len(self.starts) else len(self.text)

    def value(self, path: Path) -> Any:
        node = self.root
        for i, part in enumerate(path):
            node = self._step(node, part, path[: i + 1])
        return node

    def key(self, path: Path) -> Any:
        return self._entry(self.value(path[:-1]), path)[0]

    def _entry(self, parent: Any, path: Path) -> Any:
        if isinstance(parent, yaml.MappingNode):
            for key, value in parent.value:
                if key.value == path[-1]:
                    return key, value
        raise CannotEdit(f"{written(path)} is not written here")

    def _step(self, node: Any, part: str | int, path: Path) -> Any:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            return node.value[part]
        return self._entry(node, path)[1]

    def last_line(self, node: Any) -> int:
        """The last line that belongs to a value, without the blank lines and comments after it."""
        if isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                last = max(node.start_mark.line, node.end_mark.line - (node.end_mark.column == 0))
                while last > node.start_mark.line and not self.line(last).strip():
                    last -= 1
                return int(last)
            return int(node.end_mark.line)
        if node.flow_style or not node.value:
            return int(node.end_mark.line)
        last = node.value[-1]
        within: int = self.last_line(last[1] if isinstance(last, tuple) else last)
        return within

    def end(self, node: Any) -> int:
        """The offset behind a value: of a block, behind its last line's text."""
        if isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">"):
            return self.offset(node.end_mark)
        if not isinstance(node, yaml.ScalarNode) and (node.flow_style or not node.value):
            return self.offset(node.end_mark)
        return self.starts[self.last_line(node)] + len(self.line(self.last_line(node)))

    # The changes.

    def cut(self, begin: int, end: int, between: str = "") -> str:
        return self.text[:begin] + between + self.text[end:]

    def replaced(self, node: Any, with_text: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            raise CannotEdit("only a plain value can be replaced by another one")
        begin, end = self.offset(node.start_mark), self.offset(node.end_mark)
        return self.cut(begin, end, with_text if begin < end else f" {with_text}")

    def without(self, path: Path) -> str:
        parent = self.value(path[:-1])
        entries = [(key, key, value) for key, value in parent.value] if isinstance(parent, yaml.MappingNode) else []
        if isinstance(parent, yaml.SequenceNode):
            entries = [(each, each, each) for each in parent.value]
            which: int = path[-1]  # type: ignore[assignment]  # `meaning` has looked at it
        else:
            which = next(i for i, entry in enumerate(entries) if entry[0].value == path[-1])
        begins = [self.offset(first.start_mark) for first, _, _ in entries]
        if parent.flow_style:
            return self._without_flow(begins, [self.end(value) for _, _, value in entries], which)
        first_line, last_line = entries[which][0].start_mark.line, self.last_line(entries[which][2])
        empty = "[]" if isinstance(parent, yaml.SequenceNode) else "{}"
        if len(entries) == 1:
            return self._emptied(path[:-1], first_line, last_line, empty)
        column = parent.start_mark.column
        if self.line(first_line)[:column].strip():
            # The first entry of an item stands behind its dash: the next one moves up to it.
            return self.cut(begins[which], begins[which + 1])
        return self.cut(self.starts[self._own_comments(first_line, column)], self.after_line(last_line))

    def _without_flow(self, begins: list[int], ends: list[int], which: int) -> str:
        if which + 1 < len(begins):
            return self.cut(begins[which], begins[which + 1])
        return self.cut(ends[which - 1] if which else begins[which], ends[which])

    def _emptied(self, path: Path, first_line: int, last_line: int, empty: str) -> str:
        """The only entry of a section: `{}` stands for it, behind the section's key or dash."""
        node = self.value(path)
        begin = self.offset(node.start_mark)
        before = self.line(first_line)[: node.start_mark.column]
        if before.strip() or not path:
            return self.cut(begin, self.end(node), empty)
        key = self.key(path) if isinstance(path[-1], str) else None
        if key is None:
            raise CannotEdit("the only entry of this item cannot be removed")
        colon = self.text.index(":", self.offset(key.end_mark)) + 1
        cut_from = self.starts[self._own_comments(first_line, node.start_mark.column)]
        shorter = self.cut(cut_from, self.after_line(last_line))
        return f"{shorter[:colon]} {empty}{shorter[colon:]}"

    def _own_comments(self, line: int, column: int) -> int:
        """The first of the comment lines directly above a line, at its own column."""
        while line > 0:
            above = self.line(line - 1)
            if not above.lstrip().startswith("#") or len(above) - len(above.lstrip()) != column:
                break
            line -= 1
        return line

    def with_entry(self, edit: Add) -> Iterator[str]:
        """The nearest section that is there gets a new entry; the sections between are written with it."""
        path, value = edit.path, edit.value
        depth = len(path) - 1
        while depth and not self._is_there(path[:depth]):
            depth -= 1
        for part in reversed(path[depth + 1 :]):
            value = {part: value}
        node, name = self.value(path[:depth]), path[depth]
        if isinstance(node, yaml.ScalarNode):
            yield from self._under_nothing(path[:depth], name, value)
        elif node.flow_style or not node.value:
            yield self._into_flow(node, name, value)
        else:
            yield self._after_last(node, name, value, edit)

    def _is_there(self, path: Path) -> bool:
        try:
            self.value(path)
        except CannotEdit:
            return False
        return True

    def _after_last(self, node: Any, name: str | int, value: Any, edit: Add) -> str:
        last = node.value[-1]
        last_line = self.last_line(last[1] if isinstance(last, tuple) else last)
        lines = self._block(name, value, node.start_mark.column)
        if edit.comment and lines.count(self.line_end) == 1:
            lines = f"{lines.removesuffix(self.line_end)}  {edit.comment}{self.line_end}"
        indent = " " * node.start_mark.column
        lines = "".join(f"{indent}{each}{self.line_end}" for each in edit.above) + lines
        at = self.after_line(last_line)
        glue = "" if self.text[:at].endswith(("\n", "\r")) else self.line_end
        return self.cut(at, at, glue + lines)

    def _under_nothing(self, path: Path, name: str | int, value: Any) -> Iterator[str]:
        key = self.key(path)
        line = key.start_mark.line
        at = self.after_line(line)
        glue = "" if self.text[:at].endswith(("\n", "\r")) else self.line_end
        yield self.cut(at, at, glue + self._block(name, value, key.start_mark.column + 2))
        colon = self.text.index(":", self.offset(key.end_mark)) + 1
        yield self.cut(colon, colon, " " + json.dumps(value if isinstance(name, int) else {name: value}))

    def _into_flow(self, node: Any, name: str | int, value: Any) -> str:
        end = self.offset(node.end_mark) - 1
        if self.text[end : end + 1] not in ("}", "]"):
            raise CannotEdit("the section has no end that can be found")
        in_json = self.text[: self.offset(node.start_mark) + 1].lstrip("\ufeff \t\r\n")[:1] in ("{", "[")
        shown = json.dumps(value) if in_json or not isinstance(value, str) else next(_scalars(value, None))
        entry = shown if isinstance(name, int) else f"{json.dumps(name) if in_json else name}: {shown}"
        if not node.value:
            return self.cut(end, end, entry)
        last = node.value[-1]
        behind = self.end(last[1] if isinstance(last, tuple) else last)
        return self.cut(behind, behind, f", {entry}")

    def _block(self, name: str | int, value: Any, column: int) -> str:
        """An entry in block style, each line indented to `column`."""
        data = [value] if isinstance(name, int) else {name: value}
        lines = dump(data).splitlines()
        if self._lists_are_indented():
            lines = _indented_lists(lines)
        return "".join(f"{' ' * column}{line}{self.line_end}" for line in lines)

    def _lists_are_indented(self) -> bool:
        """Whether this document writes its lists further in than their keys."""
        for key, value in _pairs(self.root):
            if isinstance(value, yaml.SequenceNode) and not value.flow_style and value.value:
                return bool(value.start_mark.column > key.start_mark.column)
        return False


def _pairs(node: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, yaml.MappingNode):
            yield from each.value
            waiting += [value for _, value in each.value]
        elif isinstance(each, yaml.SequenceNode):
            waiting += each.value


def _indented_lists(lines: list[str]) -> list[str]:
    """Lines of a dump, whose lists stand at the column of their keys, with each list two further in."""
    found: list[str] = []
    inside: list[int] = []  # columns of the lists that are open
    previous = ""
    for line in lines:
        column = len(line) - len(line.lstrip())
        while inside and (column < inside[-1] or (column == inside[-1] and not line.lstrip().startswith("- "))):
            inside.pop()
        starts = line.lstrip().startswith("- ") and (not inside or column > inside[-1])
        if starts and previous.endswith(":"):
            inside.append(column)
        found.append("  " * len(inside) + line)
        previous = line
    return found

"""The text of a file of manifests to its documents, as kubectl reads YAML, with the place of every key and value.

Not the reader of `platform.yaml`: that one refuses what two readers could take for different things, and this one has
to take it as kubectl does (YAML 1.1's words for true and false, octal by a leading zero, merge keys, keys that are no
text). Like that one it builds from events, without recursion, so that depth and size are numbers to check.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from stoker.manifests.objects import Document
from stoker.manifests.troubles import Trouble
from stoker.spec.faults import Path, Position

MAX_DEPTH = 128  # the deepest field of the schemas that ship is 30 down
MAX_PARTS = 1_000  # of a file: reading begins anew behind what is broken, and at each object of a JSON stream
MAX_TROUBLES = 100  # that are listed for a file; whoever has more is not helped by the next
MAX_NODES = 1_000_000  # of a file, each alias written out, so that ten lines cannot mean a billion values

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NEXT_DOCUMENT = re.compile(r"^---(?=[ \t\r\n]|$)", re.MULTILINE)
_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_TEMPLATED = re.compile(r"\s*\{\{-?\s*[a-z./$]")
_VALUE_OF_TEMPLATE = re.compile(r"[^#'\"]*(?::|-)\s+\{\{-?\s*[a-z./$]")
_OF_TERRAFORM = re.compile(r"\s*%\{")
_IN_JSON = re.compile(r"\s*[\[{]")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#")

_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **{sign + form: float(sign + "inf") for sign in ("", "+", "-") for form in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NUMBER_BEGINS = frozenset("0123456789+-.")
_LONGEST_NUMBER = 400  # digits; what is longer is no setting, and costs time that grows with its square
_TAG = "tag:yaml.org,2002:"


def parse(text: str, file: str) -> tuple[list[Document], list[Trouble]]:
    """The documents of a text, empty ones left out, and what could not be read of it.

    A document that cannot be read is a trouble; the next one begins at the next line `---`, which nothing within a
    document can be. The index of a document counts all before it, whether they could be read or not.
    """
    documents: list[Document] = []
    troubles: list[Trouble] = []
    text = text.removeprefix("\ufeff")
    bad = _NOT_PRINTABLE.search(text)
    if bad:
        line, column = _place_of(text, bad.start())
        message = f"the control character U+{ord(bad.group()):04X} cannot stand in YAML; remove it"
        return [], [Trouble("encoding", file, line, column, message)]
    if "\t" in text and _IN_JSON.match(text):
        text = text.replace("\t", " ")  # JSON may be indented with them; within its texts they are written \t
    first_line, index, parts, budget = 0, 0, 0, _Budget(MAX_NODES)
    while True:
        reader = _Reader(file, first_line, index, budget)
        try:
            for event in yaml.parse(text, Loader=_Loader):
                reader.take(event)
        except _Stop as stop:
            found = _or_template(stop.trouble, text, first_line)
        except yaml.MarkedYAMLError as error:
            found = _or_template(_syntax(error, file, first_line, text), text, first_line)
        except (yaml.YAMLError, ValueError) as error:  # the reader of characters; nothing after it can be trusted
            reader.troubles.append(Trouble("syntax", file, first_line + 1, 1, f"no YAML: {error}"))
            found = None
        else:
            found = None
        documents += reader.documents(text)
        troubles += reader.troubles
        if found is None:
            return documents, troubles
        rest = _after_json(text, found, first_line)
        if rest is None:
            troubles.append(found)
            rest = _after(text, reader.began - first_line, found.line - 1 - first_line)
        parts += 1
        if rest is None or found.kind == "aliases":
            return documents, troubles
        if parts == MAX_PARTS or len(troubles) >= MAX_TROUBLES:
            said = f"{parts} parts were read and {len(troubles)} faults found up to here; what follows was not read"
            return documents, [*troubles, replace(found, message=said, hint="mend these first, or split the file")]
        index = reader.index + 1
        text, skipped = rest
        first_line += skipped


def scalar(text: str) -> object:
    """The value of an unquoted scalar, as kubectl takes it."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_BEGINS or len(text) > _LONGEST_NUMBER:
        return text
    plain = text.replace("_", "")
    if _INTEGER.fullmatch(plain):
        return _integer(plain)
    return _float(plain) if _FLOAT.fullmatch(plain) else text


def _integer(text: str) -> int:
    digits = text.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits[:1] == "0" and len(digits) > 1 else 10)
    value = int(digits[2:] if digits[:2] in ("0x", "0b", "0o") else digits, base)
    return -value if text.startswith("-") else value


def _float(text: str) -> int | float:
    """A whole number is one however it is written (`1e3`): what kubectl sends is JSON, which has no other kind."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1 << 63 else value


class _Stop(Exception):
    """This document cannot be read on."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


@dataclass
class _Budget:
    nodes: int


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is still open. `key` is the mapping's key that waits for its value."""

    container: Any
    path: Path
    anchor: str | None
    is_map: bool
    key: str | None = None
    size: int = 1
    merges: list[Any] | None = None


@dataclass
class _Reader:
    """Turns the events of a text into documents."""

    file: str
    first_line: int
    index: int
    budget: _Budget
    troubles: list[Trouble] = field(default_factory=list)
    began: int = 0
    _done: list[tuple[int, Any, dict[Path, Position], dict[Path, Position], int, int]] = field(default_factory=list)
    _opaque: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Ranges (from line and column to line and column) in which `#` begins no comment."""

    def __post_init__(self) -> None:
        self._begin_document()

    def _begin_document(self) -> None:
        self._values: dict[Path, Position] = {}
        self._keys: dict[Path, Position] = {}
        self._open: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._root: Any = None

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._begin(event, kind is yaml.MappingStartEvent)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end()
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self.began = event.start_mark.line + self.first_line
            self._begin_document()
        elif kind is yaml.DocumentEndEvent:
            last = event.end_mark.line + self.first_line
            self._done.append((self.index, self._root, self._values, self._keys, self.began, last))
            self.index += 1

    def documents(self, text: str) -> list[Document]:
        """What was read whole, with the comments of each."""
        comments = _comments(text, self.first_line, self._opaque) if "#" in text else {}
        found = []
        end_before = self.first_line - 1
        for index, root, values, keys, _began, last in self._done:
            own = {line: said for line, said in comments.items() if end_before < line - 1 <= last} if comments else {}
            end_before = last
            if root is not None:
                found.append(Document(self.file, index, root, values, keys, own))
        return found

    # A node begins, ends, stands for another one.

    def _begin(self, event: Any, is_map: bool) -> None:
        at = self._at(event)
        frame = self._open[-1] if self._open else None
        if frame is not None and frame.is_map and frame.key is None:
            raise self._stop("syntax", at, "a key must be a word; this one is a list or a section")
        if len(self._open) >= MAX_DEPTH:
            raise self._stop("depth", at, f"nested more than {MAX_DEPTH} deep")
        if event.tag is not None:
            self._check_tag(event.tag, at)
        path = self._next_path()
        self._values[path] = at
        self._open.append(_Frame({} if is_map else [], path, event.anchor, is_map))

    def _end(self) -> None:
        frame = self._open.pop()
        if frame.merges:
            for merged in reversed(frame.merges):
                frame.container = {**merged, **frame.container}
        self._place(frame.container, frame.size, frame.anchor)

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        at = Position(mark.line + self.first_line + 1, mark.column + 1)
        text = event.value
        if event.style is not None and "#" in text:
            end = event.end_mark
            header = event.style in "|>"
            begin = (mark.line + 1, 0) if header else (mark.line, mark.column)
            self._opaque.append((*begin, end.line, end.column))
        value: object = text
        if event.tag is not None:
            value = self._tagged(event.tag, text, at)
        elif event.implicit[0]:
            value = scalar(text)
        frame = self._open[-1] if self._open else None
        if frame is not None and frame.is_map and frame.key is None:
            self._key(frame, text, value, at)
            return
        self._values[self._next_path()] = at
        self._place(value, 1, event.anchor)

    def _key(self, frame: _Frame, text: str, value: object, at: Position) -> None:
        name = value if isinstance(value, str) else _key_text(value, text)
        if text == "<<":
            frame.key = "<<"
            if frame.merges is None:
                frame.merges = []
            return
        path = (*frame.path, name)
        if path in self._keys:
            first = self._keys[path]
            said = (
                f"{name} is written twice here, first in line {first.line}; the last one wins, and kubectl refuses it"
            )
            self.troubles.append(Trouble("duplicate-key", self.file, at.line, at.column, said, "one of the two"))
        self._keys[path] = at
        frame.key = name

    def _alias(self, event: Any) -> None:
        at = self._at(event)
        frame = self._open[-1] if self._open else None
        if event.anchor not in self._anchors:
            said = f"*{event.anchor} stands for nothing that is complete by here; &{event.anchor} must come before it"
            raise self._stop("syntax", at, said)
        value, size = self._anchors[event.anchor]
        if frame is not None and frame.is_map and frame.key is None:
            if isinstance(value, dict | list):
                raise self._stop("syntax", at, f"a key must be a word; *{event.anchor} is a list or a section")
            self._key(frame, str(value), value, at)
            return
        self._values[self._next_path()] = at
        self._place(value, size, None)

    def _place(self, value: Any, size: int, anchor: str | None) -> None:
        """Put a finished value where it belongs, counting what it holds with aliases written out."""
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self._root = value
            self.budget.nodes -= size
            if self.budget.nodes < 0:
                raise self._too_many(())
            return
        frame = self._open[-1]
        frame.size += size
        if frame.size > self.budget.nodes:
            raise self._too_many(frame.path)
        if not frame.is_map:
            frame.container.append(value)
            return
        if frame.key == "<<" and frame.merges is not None:
            frame.merges += self._sections_of(frame, value)
        elif frame.key is not None:
            frame.container[frame.key] = value
        frame.key = None

    def _sections_of(self, frame: _Frame, value: Any) -> list[Any]:
        each = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in each):
            at = self._values.get((*frame.path, "<<"), self._values[frame.path])
            raise self._stop("syntax", at, "<< merges sections, and this is none")
        return each

    # Helpers.

    def _next_path(self) -> Path:
        if not self._open:
            return ()
        frame = self._open[-1]
        return (*frame.path, frame.key or "" if frame.is_map else len(frame.container))

    def _at(self, event: Any) -> Position:
        return Position(event.start_mark.line + self.first_line + 1, event.start_mark.column + 1)

    def _tagged(self, tag: str, text: str, at: Position) -> object:
        short = tag.removeprefix(_TAG)
        try:
            if short in ("int", "float", "bool", "null"):
                return scalar(text) if text else None
        except ValueError:
            return text
        if short not in ("str", "!", "binary", "timestamp"):
            self._check_tag(tag, at)
        return text

    def _check_tag(self, tag: str, at: Position) -> None:
        if tag not in (f"{_TAG}map", f"{_TAG}seq", "!"):
            said = f"the tag {tag} means nothing to Kubernetes; write a plain value"
            self.troubles.append(Trouble("syntax", self.file, at.line, at.column, said))

    def _too_many(self, path: Path) -> _Stop:
        said = f"more than {MAX_NODES:,} values in this file, aliases written out"
        return self._stop("aliases", self._values.get(path, Position(self.first_line + 1, 1)), said)

    def _stop(self, kind: str, at: Position, message: str) -> _Stop:
        return _Stop(Trouble(kind, self.file, at.line, at.column, message))


def _key_text(value: object, text: str) -> str:
    """A key that is no text, as kubectl writes it into JSON."""
    if value is None:
        return "null" if text else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return text


def _comments(text: str, first_line: int, opaque: list[tuple[int, int, int, int]]) -> dict[int, str]:
    """Line (from 1, in the file) -> the comment on it."""
    found = {}
    ranges = sorted(opaque)
    position = 0
    for number, line in enumerate(_LINE_END.split(text)):
        if "#" not in line:
            continue
        while position < len(ranges) and ranges[position][2] < number:
            position += 1
        for match in _COMMENT.finditer(line):
            at = (number, match.start())
            if not any((a, b) <= at < (c, d) for a, b, c, d in _near(ranges, position, number)):
                found[number + first_line + 1] = line[match.start() :].rstrip()
                break
    return found


def _near(ranges: list[tuple[int, int, int, int]], position: int, line: int) -> Iterator[tuple[int, int, int, int]]:
    for each in ranges[max(0, position - 1) :]:
        if each[0] > line:
            return
        yield each


def _after(text: str, began: int, broken: int) -> tuple[str, int] | None:
    """The text from the next `---` on, and how many lines were left behind; None where there is no more.

    The document began in the line `began`, and broke in the line `broken`, which may be the very line of the next one.
    """
    starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
    line = max(began + 1, broken)
    if line >= len(starts):
        return None
    begins = _NEXT_DOCUMENT.search(text, starts[line])
    if begins is None:
        return None
    skipped = len(_LINE_END.findall(text, 0, begins.start()))
    return text[begins.start() :], skipped


def _after_json(text: str, found: Trouble, first_line: int) -> tuple[str, int] | None:
    """The text from the next object on, of a stream of JSON objects that nothing parts (`{...}{...}`)."""
    if "<document start>" not in found.message or not _IN_JSON.match(text):
        return None
    line, column, start = found.line - 1 - first_line, found.column - 1, 0
    for _ in range(line):
        start = text.find("\n", start) + 1
    at = start + column
    return (" " * column + text[at:], line) if text[at : at + 1] in ("{", "[") else None


def _syntax(error: yaml.MarkedYAMLError, file: str, first_line: int, text: str) -> Trouble:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Trouble("syntax", file, first_line + 1, 1, f"no YAML: {error.problem}")
    lines = _LINE_END.split(text)
    line = lines[min(mark.line, len(lines) - 1)]
    at = (file, mark.line + first_line + 1, mark.column + 1)
    if line[mark.column : mark.column + 1] == "\t" or line[: mark.column].strip(" ").startswith("\t"):
        return Trouble("syntax", *at, "a tab; YAML is indented with spaces")
    if error.problem and "maximum nesting depth" in error.problem:
        return Trouble("depth", *at, f"nested more than {MAX_DEPTH} deep")
    context = f" {error.context}" if error.context else ""
    return Trouble("syntax", *at, f"no YAML: {error.problem}{context}")


def _or_template(trouble: Trouble, text: str, first_line: int) -> Trouble:
    """The trouble, or what it comes from: a template that nobody has rendered."""
    if trouble.kind != "syntax":
        return trouble
    lines = _LINE_END.split(text)[: trouble.line - first_line]
    said = "this is a template and no manifest yet, so it was not judged"
    hint = ""
    if any(_OF_TERRAFORM.match(line) for line in lines):
        hint = "render it first: templatefile() of Terraform"
    elif any(_TEMPLATED.match(line) for line in lines) or _VALUE_OF_TEMPLATE.match(lines[-1] if lines else ""):
        hint = "render it first: helm template CHART | stoker lint -"
    return replace(trouble, kind="template", message=said, hint=hint) if hint else trouble


def _place_of(text: str, start: int) -> tuple[int, int]:
    return text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)

"""The one home of PyYAML: text to plain data with the place of each key and value, and plain data to text.

Called by the loader of `platform.yaml`, and by whoever reads YAML that a person wrote. It knows nothing of what the
data means. It reads less than YAML allows, on purpose: what two readers of the same file (Stoker and Helm) could take
for different values, what could grow without bound, and what would run code is refused, with the place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from stoker.spec.faults import Fault, Path, Position, refusal

MAX_BYTES = 1 << 20  # a platform.yaml of a thousand models is a tenth of this
MAX_DEPTH = 64  # the schema is 7 deep; libyaml would otherwise follow a megabyte of "["
_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
_MAX_MACHINE_DEPTH = 256  # the schema of a pod's template within another is 60 deep
MAX_NODES = 100_000  # counted with every alias written out, so ten short lines cannot mean a billion values

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C is 10 times faster; not every wheel has it
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_WORDS: dict[str, object] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    **{form: True for word in ("true", "yes", "on") for form in (word, word.capitalize(), word.upper())},
    **{form: False for word in ("false", "no", "off") for form in (word, word.capitalize(), word.upper())},
    **{sign + form: float(sign + "inf") for sign in ("", "+", "-") for form in (".inf", ".Inf", ".INF")},
    **{form: float("nan") for form in (".nan", ".NaN", ".NAN")},
}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str")


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands in the text `name`."""

    name: str
    data: object
    values: Mapping[Path, Position]
    keys: Mapping[Path, Position]

    def where(self, path: Path, *, key: bool = False) -> Position | None:
        """The place of a value, or of its key; of the nearest part around it when it is not written in the text."""
        if key and path in self.keys:
            return self.keys[path]
        if path in self.values:
            return self.values[path]
        while path:
            path = path[:-1]
            if path in self.keys:
                return self.keys[path]
        return self.values.get(())


def parse(source: str | bytes, name: str, *, max_bytes: int = MAX_BYTES) -> Document:
    """Read one document. Raises SpecInvalid with every fault found up to the point where reading cannot go on."""
    text = _text(source, name, max_bytes)
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise refusal(name, [*builder.faults, _syntax(error, text)], hint=_HINT) from error
    except yaml.YAMLError as error:
        raise refusal(name, [*builder.faults, Fault((), f"not YAML: {error}")], hint=_HINT) from error
    except _CannotGoOn as stop:
        raise refusal(name, [*builder.faults, stop.fault], hint=_HINT) from None
    if builder.faults:
        raise refusal(name, builder.faults, hint=_HINT)
    return Document(name, builder.root, builder.values, builder.keys)


def documents(text: str, name: str) -> list[Any]:
    """The documents of YAML that a program wrote (a release of someone's), as plain data without places.

    What could grow without bound is refused: aliases, and more depth than such files have.
    """
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_MACHINE_DEPTH:
                mark = event.start_mark
                at = Position(mark.line + 1, mark.column + 1) if mark else None
                what = "aliases are not read here" if isinstance(event, yaml.AliasEvent) else "nested too deep"
                raise refusal(name, [Fault((), what, at)], hint=_HINT)
        return list(yaml.load_all(text, _Loader))
    except yaml.MarkedYAMLError as error:
        raise refusal(name, [_syntax(error, text)], hint=_HINT) from error
    except (yaml.YAMLError, ValueError) as error:
        raise refusal(name, [Fault((), f"is no YAML: {error}")], hint=_HINT) from error


def dump(data: object) -> str:
    """Text that `parse` reads back as the same data, keys in the order given."""
    return str(yaml.dump(data, Dumper=_QuotingDumper, sort_keys=False, allow_unicode=True, width=110))


def scalar(text: str) -> object:
    """The value of an unquoted scalar. Raises ValueError, with what to write instead, for one that readers disagree on.

    YAML 1.1's words for true and false, since Helm reads them so; no octal by a leading zero and no base 60 (`1:30`
    is text here, as it is for Helm); `1e-6` is a number, which PyYAML alone would take for text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(f'{text} is octal to some readers and decimal to others; drop the zero, or quote it: "{text}"')
    if len(text) > 400 and _FLOAT.fullmatch(text.replace("_", "")):
        raise ValueError("a number of more than 400 digits; no setting is that large")
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def scalar_or_text(text: str) -> object:
    """As `scalar`, with text that readers disagree on left as text."""
    try:
        return scalar(text)
    except ValueError:
        return text


_HINT = "mend the text first: the values are looked at once it can be read"


class _CannotGoOn(Exception):
    def __init__(self, at: Position, message: str) -> None:
        super().__init__(message)
        self.fault = Fault((), message, at)


@dataclass
class _Frame:
    """A mapping or list that is still open. `key` is the mapping's key that waits for its value."""

    container: dict[str, Any] | list[Any]
    path: Path
    anchor: str | None
    key: str | None = None
    size: int = 1


@dataclass
class _Builder:
    """Turns events into data without recursion, so that depth is a number to check and not a stack to overflow."""

    root: object = None
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    _open: list[_Frame] = field(default_factory=list)
    _anchors: dict[str, tuple[object, int]] = field(default_factory=dict)
    _documents: int = 0

    def take(self, event: Any) -> None:
        at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _CannotGoOn(at, "a second document begins here; the file must hold one, without `---` inside")
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._check_tag(event.tag, at)
            self._begin(event, at)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = self._open.pop()
            self._place(frame.container, frame.size, frame.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event.tag, at)
            self._scalar(event, at)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), at)

    def _begin(self, event: Any, at: Position) -> None:
        if self._expects_key():
            raise _CannotGoOn(at, "a key must be a word; this one is a list or a section")
        if len(self._open) >= MAX_DEPTH:
            raise _CannotGoOn(at, _TOO_DEEP)
        path = self._next_path()
        self.values[path] = at
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Frame(container, path, event.anchor))

    def _scalar(self, event: Any, at: Position) -> None:
        value: object = event.value
        if event.implicit[0]:
            try:
                value = scalar(event.value)
            except ValueError as error:
                self.faults.append(Fault(() if self._expects_key() else self._next_path(), str(error), at))
        if self._expects_key():
            self._key(event.value, value, at)
            return
        self.values[self._next_path()] = at
        self._place(value, 1, event.anchor)

    def _key(self, text: str, value: object, at: Position) -> None:
        frame = self._open[-1]
        if text == "<<" and value == "<<":
            self.faults.append(Fault(frame.path, "merge keys (<<) are not read; write the keys out", at))
        elif not isinstance(value, str):
            kind = "nothing" if value is None else "true or false" if isinstance(value, bool) else "a number"
            self.faults.append(Fault(frame.path, f'the key {text} means {kind}; put it in quotes: "{text}"', at))
        path = (*frame.path, text)
        if path in self.keys:
            first = self.keys[path]
            self.faults.append(Fault(path, f"written twice, first in line {first.line}; keep one of them", at))
        else:
            self.keys[path] = at
        frame.key = text

    def _alias(self, anchor: str, at: Position) -> None:
        if self._expects_key():
            raise _CannotGoOn(at, f"a key must be a word; this one is an alias (*{anchor})")
        if anchor not in self._anchors:
            raise _CannotGoOn(at, f"*{anchor} stands for nothing that is complete by here; &{anchor} must come before")
        self.values[self._next_path()] = at
        value, size = self._anchors[anchor]
        self._place(value, size, None, at)

    def _place(self, value: object, size: int, anchor: str | None, at: Position | None = None) -> None:
        """Put a finished value where it belongs, counting what it holds with aliases written out."""
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.root = value
            return
        frame = self._open[-1]
        frame.size += size
        if frame.size > MAX_NODES:
            raise _CannotGoOn(at or self.values[frame.path], f"holds more than {MAX_NODES} values, aliases written out")
        if isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container[frame.key or ""] = value
            frame.key = None

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].container, dict) and self._open[-1].key is None

    def _next_path(self) -> Path:
        if not self._open:
            return ()
        frame = self._open[-1]
        return (*frame.path, len(frame.container) if isinstance(frame.container, list) else frame.key or "")

    def _check_tag(self, tag: str | None, at: Position) -> None:
        if tag not in _PLAIN_TAGS:
            raise _CannotGoOn(at, f"the tag {tag} is not read; write a plain value")


def _text(source: str | bytes, name: str, max_bytes: int) -> str:
    size = len(source) if isinstance(source, bytes) else len(source.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise refusal(name, [Fault((), f"{size} bytes; at most {max_bytes} are read")], hint=_HINT)
    if isinstance(source, bytes):
        raw = source
        try:
            source = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            start = error.start
            at = Position(raw.count(b"\n", 0, start) + 1, start - raw.rfind(b"\n", 0, start))
            fault = Fault((), f"byte 0x{raw[start]:02x} is not UTF-8; save the file as UTF-8", at)
            raise refusal(name, [fault], hint=_HINT) from error
    source = source.removeprefix("\ufeff")
    bad = _NOT_PRINTABLE.search(source)
    if bad:
        start = bad.start()
        at = Position(source.count("\n", 0, start) + 1, start - source.rfind("\n", 0, start))
        fault = Fault((), f"the control character U+{ord(bad.group()):04X} cannot stand in YAML; remove it", at)
        raise refusal(name, [fault], hint=_HINT)
    return source


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Fault((), f"not YAML: {error.problem}")
    at = Position(mark.line + 1, mark.column + 1)
    line = (text.splitlines() or [""])[min(mark.line, len(text.splitlines()) - 1)] if text else ""
    if line[mark.column : mark.column + 1] == "\t" or line[: mark.column].strip(" ").startswith("\t"):
        return Fault((), "a tab; YAML is indented with spaces", at)
    if error.problem and error.problem.startswith("exceeded maximum nesting depth"):
        # libyaml's own bound (1,000 since 0.2.6) comes first where it reads far ahead of us.
        return Fault((), _TOO_DEEP, at)
    context = f" {error.context}" if error.context else ""
    return Fault((), f"not YAML: {error.problem}{context}", at)


class _QuotingDumper(_Dumper):  # type: ignore[misc]  # the base is chosen at run time, C or Python
    """Quotes text that `scalar` would take for something else, and writes shared objects out instead of aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    plain = scalar_or_text(text) is text and not _LEADING_ZERO.fullmatch(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_QuotingDumper.add_representer(str, _represent_text)

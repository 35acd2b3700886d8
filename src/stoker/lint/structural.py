"""An object against the schema of its kind: what the API server would refuse when the object is applied.

The order is the server's: the status dropped, nulls dropped and defaults filled in (on a copy), unknown fields, types
and values, uniqueness of lists, then the CEL rules of each part that is sound in itself. A value that
something fills in later (`is_open`) fits anything, and rules over a part that holds one are not run. Never raises,
whatever the tree; depth and number of faults are bounded.

Kubernetes' own kinds have more rules than a schema says: `core_validation`.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stoker.catalog import schemas
from stoker.catalog.schemas import Schema
from stoker.lint import cel, names, patterns
from stoker.manifests import quantities
from stoker.spec.faults import Path, shown, written

Tree = dict[str, Any]

MAX_FAULTS = 200
MAX_DEPTH = 100
_META = {"$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_TYPE_META = ("apiVersion", "kind", "metadata")
_RULES = "x-kubernetes-validations"
_ANY = "x-kubernetes-preserve-unknown-fields"
_INT_OR_TEXT = "x-kubernetes-int-or-string"
_EMBEDDED = "x-kubernetes-embedded-resource"
_INT32, _INT64 = 2**31, 2**63

UNKNOWN_FIELD = "unknown-field"
WRONG_TYPE = "wrong-type"
MISSING_FIELD = "missing-field"
NOT_IN_ENUM = "not-in-enum"
BAD_FORMAT = "bad-format"
BAD_PATTERN = "bad-pattern"
BAD_NAME = "bad-name"
BAD_VALUE = "bad-value"
"""What a rule of Kubernetes' own code refuses, and what fits none of several schemas."""
OUT_OF_RANGE = "out-of-range"
TOO_MANY = "too-many"
"""More or fewer characters, items or entries than allowed."""
DUPLICATE_KEY = "duplicate-key"
CEL = "cel"
NOT_EVALUATED = "not-evaluated"
"""Could not be judged here: the message says why. No fault of the object."""

_BLOCKING = frozenset({WRONG_TYPE, MISSING_FIELD, NOT_IN_ENUM, TOO_MANY})


@dataclass(frozen=True)
class Fault:
    """One thing that the API server refuses. For a missing field, `path` is where it would stand."""

    kind: str
    path: Path
    message: str
    hint: str = ""
    key: bool = False
    """Point at the key: the field must not be there, or is not there."""


def never_open(value: object) -> bool:
    """For objects that no template holds."""
    return False


def faults(obj: Any, schema: Schema, *, is_open: Callable[[object], bool] = never_open) -> list[Fault]:
    """Everything wrong with the object, in the order of its text as far as one can tell; at most MAX_FAULTS."""
    check = _Check(schema, is_open)
    if not isinstance(obj, dict):
        return [Fault(WRONG_TYPE, (), f"must be a section, not {_kind(obj)}")]
    tree = schema.tree
    obj = {key: each for key, each in obj.items() if key != "status"}
    if not schema.core:
        obj = _with_name(check.prepared(obj, tree, 0))
        check.root = True
    check.walk(obj, tree, (), 0)
    if not schema.core:
        check.found.extend(name_faults(obj.get("metadata"), ("metadata",), is_open))
    return check.found


class _Full(Exception):
    """Enough faults for anybody."""


class _Check:
    def __init__(self, schema: Schema, is_open: Callable[[object], bool]) -> None:
        self.schema = schema
        self.is_open = is_open
        self.core = schema.core
        self.root = False
        self.found: list[Fault] = []
        self.blocking = 0
        self.open = 0

    def walk(self, value: Any, tree: Tree, path: Path, depth: int) -> None:
        """`_value`, and an end at MAX_FAULTS."""
        try:
            self._value(value, tree, path, depth)
        except _Full:
            self.found.append(Fault(NOT_EVALUATED, (), f"more than {MAX_FAULTS} faults; the rest is not listed"))

    def say(self, kind: str, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        if kind in _BLOCKING:
            self.blocking += 1
        self.found.append(Fault(kind, path, message, hint, key))
        if len(self.found) >= MAX_FAULTS:
            raise _Full

    def resolve(self, tree: Tree) -> Tree:
        return self.schema.resolve(tree) if "$ref" in tree else tree

    # nulls and defaults

    def prepared(self, value: Any, tree: Tree, depth: int) -> Any:
        """A copy with nulls dropped and defaults filled in, as the server does before it validates."""
        if depth > MAX_DEPTH:
            return value
        if isinstance(value, dict):
            properties = tree.get("properties") or {}
            more = tree.get("additionalProperties")
            found: Tree = {}
            for key, each in value.items():
                name = _key(key)
                below = properties.get(name)
                if below is None and isinstance(more, dict):
                    below = more
                if below is None:
                    found[name] = each
                elif each is not None or below.get("nullable"):
                    found[name] = self.prepared(each, below, depth + 1)
            for name, below in properties.items():
                if name not in found and "default" in below:
                    found[name] = self.prepared(below["default"], below, depth + 1)
            return found
        if isinstance(value, list):
            items = tree.get("items")
            return [self.prepared(each, items, depth + 1) for each in value] if isinstance(items, dict) else value
        return value

    # values

    def _value(self, value: Any, tree: Tree, path: Path, depth: int) -> None:
        if isinstance(value, str) and self.is_open(value):
            self.open += 1
            return
        if depth > MAX_DEPTH:
            self.say(NOT_EVALUATED, path, f"stands more than {MAX_DEPTH} deep; nothing below it was looked at")
            return
        if "$ref" in tree:
            tree = self.resolve(tree)
        if value is None:
            if not tree.get("nullable") and not self.core and tree.get("type"):
                self.say(WRONG_TYPE, path, f"must be {_article(tree)}, not null")
            return
        if tree.get(_INT_OR_TEXT):
            self._int_or_text(value, tree, path)
            return
        kind = tree.get("type")
        blocking, waiting = self.blocking, self.open
        if kind is not None and not _is_a(value, kind):
            self._wrong_type(value, tree, path)
            return
        if isinstance(value, dict):
            self._section(value, tree, path, depth)
        elif isinstance(value, list):
            self._list(value, tree, path, depth)
        elif isinstance(value, str):
            self._text(value, tree, path)
        elif not isinstance(value, bool) and isinstance(value, int | float):
            self._number(value, tree, path)
        if "enum" in tree:
            self._enum(value, tree, path)
        if not self.core:
            self._alternatives(value, tree, path, depth)
            if _RULES in tree and self.blocking == blocking and self.open == waiting:
                self._rules(value, tree, path)

    def _wrong_type(self, value: Any, tree: Tree, path: Path) -> None:
        hint = ""
        if tree.get("type") == "string" and isinstance(value, bool | int | float):
            text = str(value).lower() if isinstance(value, bool) else _number_text(value)
            hint = f'write it in quotes: "{text}"'
        elif tree.get("type") in ("integer", "number", "boolean") and isinstance(value, str):
            hint = "write it without quotes" if _reads_as(value, tree["type"]) else ""
        elif tree.get("type") == "array" and isinstance(value, dict):
            hint = "begin each item with '- '"
        self.say(WRONG_TYPE, path, f"must be {_article(tree)}, not {shown(value)}", hint)

    def _section(self, value: dict[Any, Any], tree: Tree, path: Path, depth: int) -> None:
        properties: Tree = tree.get("properties") or {}
        more = tree.get("additionalProperties")
        at_root = self.root and not path
        object_inside = at_root or bool(tree.get(_EMBEDDED))
        free = bool(tree.get(_ANY)) or more is True or (self.core and not properties)
        present = set()
        for raw, each in value.items():
            key = raw if isinstance(raw, str) else _key(raw)
            here = (*path, key)
            if object_inside and key in _TYPE_META:
                self._type_meta(key, each, properties.get(key), here, depth)
                present.add(key)
            elif key in properties:
                below = properties[key]
                if each is not None:
                    present.add(key)
                    self._value(each, below, here, depth + 1)
                elif below.get("nullable"):
                    present.add(key)
            elif isinstance(more, dict):
                present.add(key)
                if each is not None or more.get("nullable"):
                    self._value(each, more, here, depth + 1)
            elif not free and not (not self.core and tree.get("type") is None and not properties):
                if self.is_open(key):
                    self.open += 1
                else:
                    self._unknown(key, properties, path)
            else:
                present.add(key)
        for name in tree.get("required", ()):
            if name not in present:
                self._missing(name, properties.get(name) or {}, path, empty=name in value)
        if tree.get(_EMBEDDED) and not at_root:
            for name in ("apiVersion", "kind"):
                if not value.get(name) and name not in tree.get("required", ()):
                    self._missing(name, {"type": "string"}, path)
        size = len(value)
        if "maxProperties" in tree and size > tree["maxProperties"]:
            self.say(TOO_MANY, path, f"has {size} entries; {tree['maxProperties']} is the most")
        if "minProperties" in tree and size < tree["minProperties"]:
            self.say(TOO_MANY, path, f"has {size} entries; {tree['minProperties']} is the least")

    def _type_meta(self, key: str, value: Any, tree: Tree | None, path: Path, depth: int) -> None:
        """apiVersion, kind and metadata: every object has them, whatever its schema says of them."""
        if key != "metadata":
            if value is not None:
                self._value(value, tree or {"type": "string"}, path, depth + 1)
            return
        if value is None:
            return
        if not isinstance(value, dict):
            self._value(value, {"type": "object"}, path, depth + 1)
            return
        meta = _Check(_meta_schema(), self.is_open)
        meta.found, meta.blocking = self.found, self.blocking
        meta._value(value, _META, path, depth + 1)
        self.blocking, self.open = meta.blocking, self.open + meta.open
        for fault in metadata_faults(value, path, self.is_open):
            self.say(fault.kind, fault.path, fault.message, fault.hint, key=fault.key)
        for name, below in ((tree or {}).get("properties") or {}).items():
            if value.get(name) is not None:
                self._value(value[name], below, (*path, name), depth + 2)

    def _unknown(self, key: str, properties: Tree, path: Path) -> None:
        where = written(path) or "the object"
        self.say(
            UNKNOWN_FIELD, (*path, key), f"{where} has no field {key}", self._nearest(key, properties, path), key=True
        )

    def _missing(self, name: str, tree: Tree, path: Path, *, empty: bool = False) -> None:
        tree = self.resolve(tree)
        hint = f"one of {_listed(tree['enum'])}" if tree.get("enum") else ""
        said = f"{written(path) or 'the object'} needs {name}"
        said += ", which is written and empty: that counts as missing" if empty else ""
        self.say(MISSING_FIELD, (*path, name), said, hint, key=True)

    def _list(self, value: list[Any], tree: Tree, path: Path, depth: int) -> None:
        items = tree.get("items")
        size = len(value)
        if "maxItems" in tree and size > tree["maxItems"]:
            self.say(TOO_MANY, path, f"has {size} items; {tree['maxItems']} is the most")
        if "minItems" in tree and size < tree["minItems"]:
            self.say(TOO_MANY, path, f"has {size} items; {tree['minItems']} is the least")
        if isinstance(items, dict):
            holds_sections = self.core and bool(self.resolve(items).get("properties"))
            for i, each in enumerate(value):
                if each is None and holds_sections:
                    self.say(WRONG_TYPE, (*path, i), "the item is empty", "a section, or no dash")
                self._value(each, items, (*path, i), depth + 1)
        if not self.core:
            self._unique(value, tree, path)

    def _unique(self, value: list[Any], tree: Tree, path: Path) -> None:
        how = tree.get("x-kubernetes-list-type")
        if how == "set" or tree.get("uniqueItems"):
            for i, each in _repeated(value, lambda item: item):
                self.say(DUPLICATE_KEY, (*path, i), f"{shown(each)} stands in the list twice")
        elif how == "map":
            keys = [key for key in tree.get("x-kubernetes-list-map-keys", ()) if isinstance(key, str)]
            if any(self.is_open(item.get(key)) for item in value if isinstance(item, dict) for key in keys):
                return

            def key_of(item: Any) -> Any:
                return [item.get(key) for key in keys] if isinstance(item, dict) else item

            for i, each in _repeated(value, key_of):
                said = ", ".join(f"{key} {shown(part)}" for key, part in zip(keys, each, strict=False))
                self.say(DUPLICATE_KEY, (*path, i), f"two items have {said}; it must be unique in this list")

    def _int_or_text(self, value: Any, tree: Tree, path: Path) -> None:
        if tree.get("format") == "quantity":
            if isinstance(value, dict | list | bool):
                self.say(WRONG_TYPE, path, f"must be {quantities.EXAMPLE}, not {shown(value)}")
            elif quantities.amount(value) is None:
                self.say(BAD_FORMAT, path, f"{shown(value)} is no quantity", f"write {quantities.EXAMPLE}")
            return
        if isinstance(value, bool) or not (isinstance(value, int | str) or _is_a(value, "integer")):
            self.say(WRONG_TYPE, path, f"must be a whole number or text, not {shown(value)}")
        elif isinstance(value, str):
            self._text(value, tree, path)
        else:
            self._number(value, tree, path)
        if not self.core:
            self._alternatives(value, {**tree, "anyOf": ()}, path, 0)
            if _RULES in tree:
                self._rules(value, tree, path)

    def _text(self, value: str, tree: Tree, path: Path) -> None:
        size = len(value)
        if size > tree.get("maxLength", size):
            self.say(TOO_MANY, path, f"{shown(value)} has {size} characters; {tree['maxLength']} is the most")
        elif size < tree.get("minLength", 0):
            self.say(TOO_MANY, path, f"{shown(value)} has {size} characters; {tree['minLength']} is the least")
        pattern = tree.get("pattern")
        if pattern is not None:
            self._pattern(value, pattern, path)
        form = patterns.FORMATS.get(tree.get("format", ""))
        if form is not None and not form[0](value) and not (self.core and not value):
            self.say(BAD_FORMAT, path, f"{shown(value)} is not {form[1]}")

    def _pattern(self, value: str, pattern: Any, path: Path) -> None:
        fits = cel.matches(pattern, value) if isinstance(pattern, str) else True
        if fits is None:
            self.say(NOT_EVALUATED, path, f"the pattern {shown(pattern)} could not be read here")
        elif not fits:
            self.say(BAD_PATTERN, path, f"{shown(value)} does not match {_cut(pattern)}")

    def _number(self, value: float, tree: Tree, path: Path) -> None:
        form = tree.get("format")
        if form in ("int32", "int64"):
            limit = _INT32 if form == "int32" else _INT64
            if not -limit <= value < limit:
                self.say(OUT_OF_RANGE, path, f"{shown(value)} does not fit {form}")
                return
        minimum, maximum = tree.get("minimum"), tree.get("maximum")
        if minimum is not None and (value < minimum or (tree.get("exclusiveMinimum") and value == minimum)):
            least = "more than" if tree.get("exclusiveMinimum") else "at least"
            self.say(OUT_OF_RANGE, path, f"{shown(value)} is too small; {least} {_number_text(minimum)}")
        if maximum is not None and (value > maximum or (tree.get("exclusiveMaximum") and value == maximum)):
            most = "less than" if tree.get("exclusiveMaximum") else "at most"
            self.say(OUT_OF_RANGE, path, f"{shown(value)} is too large; {most} {_number_text(maximum)}")
        step = tree.get("multipleOf")
        if step and math.isfinite(value) and math.fmod(value, step):
            self.say(OUT_OF_RANGE, path, f"{shown(value)} is no multiple of {_number_text(step)}")

    def _enum(self, value: Any, tree: Tree, path: Path) -> None:
        allowed = tree["enum"]
        if value in allowed and not (isinstance(value, bool) and value not in [a for a in allowed if a is value]):
            return
        if self.core and value == "":
            return  # in Kubernetes' own kinds an empty text is a field that is not there
        near = (
            _near(value, [each for each in allowed if isinstance(each, str)], 0.6) if isinstance(value, str) else None
        )
        hint = f"did you mean {near}?" if near else ""
        self.say(NOT_IN_ENUM, path, f"{shown(value)} is not one of {_listed(allowed)}", hint)

    # what holds several schemas, and rules

    def _alternatives(self, value: Any, tree: Tree, path: Path, depth: int) -> None:
        for each in tree.get("allOf", ()):
            for fault in self._apart(value, each, path, depth):
                self.say(fault.kind, fault.path, fault.message, fault.hint, key=fault.key)
        for word, least, most in (("anyOf", 1, None), ("oneOf", 1, 1)):
            several = tree.get(word)
            if not several:
                continue
            results = [self._apart(value, each, path, depth) for each in several]
            fitting = sum(not result for result in results)
            if fitting < least:
                said = "; ".join(dict.fromkeys(result[0].message for result in results))
                self.say(BAD_VALUE, path, f"fits none of {len(results)} allowed forms: {_cut(said)}")
            elif most is not None and fitting > most:
                self.say(BAD_VALUE, path, f"fits {fitting} of {len(results)} forms where one is allowed")
        if "not" in tree and not self._apart(value, tree["not"], path, depth):
            self.say(BAD_VALUE, path, "has a form that is not allowed here")

    def _apart(self, value: Any, tree: Tree, path: Path, depth: int) -> list[Fault]:
        """The faults of a value against one schema of several; which fields are unknown, the schema around says."""
        check = _Check(self.schema, self.is_open)
        if not isinstance(tree, dict):
            return []
        with suppress(_Full):
            check._value(value, _without_names(tree, value), path, depth + 1)
        if check.open:
            self.open += 1
        return check.found

    def _rules(self, value: Any, tree: Tree, path: Path) -> None:
        rules = [rule for rule in tree[_RULES] if isinstance(rule, dict)]
        for rule, verdict in cel.judge_all(rules, cel.typed(value, tree, self.resolve)):
            if verdict.outcome is cel.Outcome.CANNOT:
                said = f"the rule {_cut(str(rule.get('rule')))} could not be evaluated: {verdict.message}"
                self.say(NOT_EVALUATED, path, said)
                continue
            self.say(CEL, _with_field(path, rule.get("fieldPath")), verdict.message)

    # hints

    def _nearest(self, key: str, properties: Tree, path: Path) -> str:
        """Where the field may have been meant to stand."""
        close = _near(key, properties, 0.75) or _same_stem(key, properties)
        if close:
            return f"did you mean {close}?"
        places = self._places().get(key, [])
        here = tuple(part for part in path if isinstance(part, str))
        ranked = sorted((_steps(here, place), place) for place in places)
        alone = len(ranked) == 1 or (len(ranked) > 1 and ranked[0][0] < ranked[1][0])
        if alone and ranked[0][0] <= 4:
            return f"it stands at {written((*ranked[0][1], key))}"
        close = _near(key, properties, 0.6)
        if close:
            return f"did you mean {close}?"
        return f"known here: {_listed(sorted(properties), 8)}" if properties else ""

    def _places(self) -> dict[str, list[tuple[str, ...]]]:
        """Name of a field -> the sections that have it, as far as 4,000 fields go; lists are left out of paths."""
        known = self.schema.remembered
        if "places" not in known:
            found: dict[str, list[tuple[str, ...]]] = {}
            layer: list[tuple[tuple[str, ...], Tree]] = [((), self.schema.tree)]
            seen = 0
            while layer and seen < 4000:
                below: list[tuple[tuple[str, ...], Tree]] = []
                for path, tree in layer:
                    tree = self.resolve(tree)
                    if isinstance(tree.get("items"), dict):
                        tree = self.resolve(tree["items"])
                    for name, each in (tree.get("properties") or {}).items():
                        seen += 1
                        if path[:1] != ("status",):
                            found.setdefault(name, []).append(path)
                            below.append(((*path, name), each))
                layer = below if len(layer[0][0]) < 8 else []
            known["places"] = found
        places: dict[str, list[tuple[str, ...]]] = known["places"]
        return places


def _with_name(obj: Tree) -> Tree:
    """With the name that the server makes of `generateName` before it validates: rules may look at it."""
    meta = obj.get("metadata")
    start = meta.get("generateName") if isinstance(meta, dict) else None
    if isinstance(meta, dict) and isinstance(start, str) and not meta.get("name"):
        return {**obj, "metadata": {**meta, "name": f"{start}00000"}}
    return obj


def metadata_faults(meta: Any, path: Path, is_open: Callable[[object], bool]) -> Iterator[Fault]:
    """What is wrong with the name, the labels and the annotations of any object, beyond their types."""
    if not isinstance(meta, dict):
        return
    namespace = meta.get("namespace")
    if isinstance(namespace, str) and namespace and not is_open(namespace) and names.dns_label(namespace):
        said = f"the namespace {shown(namespace)} {names.dns_label(namespace)}"
        yield Fault(BAD_NAME, (*path, "namespace"), said)
    labels = meta.get("labels")
    for key, value in labels.items() if isinstance(labels, dict) else ():
        yield from label_faults(key, value, (*path, "labels", _key(key)), is_open)
    annotations = meta.get("annotations")
    for key in annotations if isinstance(annotations, dict) else ():
        if isinstance(key, str) and not is_open(key):
            wrong = names.label_key(key.lower())
            if wrong:
                yield Fault(BAD_NAME, (*path, "annotations", key), f"the annotation {shown(key)} {wrong}", key=True)


def name_faults(
    meta: Any, path: Path, is_open: Callable[[object], bool], rule: Callable[[str], str] = names.dns_subdomain
) -> Iterator[Fault]:
    """The name of an object: it has one, or the beginning of one, and it is written as its kind demands."""
    name, start = (meta.get("name"), meta.get("generateName")) if isinstance(meta, dict) else (None, None)
    if not name and not start and not (isinstance(meta, dict) and any(is_open(key) for key in meta)):
        yield Fault(MISSING_FIELD, (*path, "name"), "the object needs a name", "write metadata.name", key=True)
    if isinstance(name, str) and name and not is_open(name):
        wrong = rule(name)
        if wrong:
            yield Fault(BAD_NAME, (*path, "name"), f"the name {shown(name)} {wrong}")


def label_faults(key: Any, value: Any, path: Path, is_open: Callable[[object], bool]) -> Iterator[Fault]:
    if isinstance(key, str) and not is_open(key):
        wrong = names.label_key(key)
        if wrong:
            yield Fault(BAD_NAME, path, f"the label {shown(key)} {wrong}", key=True)
    if isinstance(value, str) and not is_open(value):
        wrong = names.label_value(value)
        if wrong:
            yield Fault(BAD_NAME, path, f"the label value {shown(value)} {wrong}")


def _meta_schema() -> Schema:
    found = schemas.find("v1", "Pod", folder=schemas.SHIPPED)
    assert found is not None  # noqa: S101  # it is shipped
    return found


def _key(key: Any) -> str:
    """A key as YAML turned to JSON has it: text."""
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else _number_text(key)


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return any(_is_a(value, each) for each in kind)
    if kind == "object":
        return isinstance(value, dict)
    if kind == "array":
        return isinstance(value, list)
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return True


def _kind(value: Any) -> str:
    return shown(value) if value is None or isinstance(value, str | int | float | dict | list) else type(value).__name__


def _article(tree: Tree) -> str:
    said = {
        "object": "a section",
        "array": "a list",
        "string": "text",
        "boolean": "true or false",
        "integer": "a whole number",
        "number": "a number",
    }
    kind = tree.get("type")
    return said.get(kind, str(kind)) if isinstance(kind, str) else "of another type"


def _reads_as(text: str, kind: str) -> bool:
    if kind == "boolean":
        return text in ("true", "false")
    return bool(text) and text.lstrip("-").replace(".", "", kind == "number").isdecimal()


def _number_text(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return shown(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _without_names(tree: Tree, value: Any) -> Tree:
    """A part of anyOf and the like: it judges values, and the schema around it knows which fields there are."""
    if not isinstance(value, dict) or "additionalProperties" in tree:
        return tree
    return {**tree, _ANY: True}


def _repeated(values: list[Any], key_of: Callable[[Any], Any]) -> Iterator[tuple[int, Any]]:
    seen: set[str] = set()
    for i, each in enumerate(values):
        key = key_of(each)
        try:
            text = json.dumps(key, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError):
            continue
        if text in seen:
            yield i, key
        seen.add(text)


def _near(word: Any, among: Iterable[str], cutoff: float) -> str | None:
    if not isinstance(word, str) or len(word) > 64:
        return None
    lower = {each.lower(): each for each in among}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)
    return lower[found[0]] if found else None


def _same_stem(word: str, among: Iterable[str]) -> str | None:
    """`tagging` for `tags`."""
    stem = word.lower().removesuffix("s")
    return next((each for each in among if len(stem) >= 3 and each.lower().startswith(stem)), None)


def _steps(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many sections one goes out of and into, from one to the other."""
    shared = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        shared += 1
    return len(a) + len(b) - 2 * shared


def _with_field(path: Path, field: Any) -> Path:
    """The place that a rule names: `.spec.name`, below the object of the rule."""
    if not isinstance(field, str) or "[" in field:
        return path
    return (*path, *(part for part in field.split(".") if part))


def _listed(values: Iterable[Any], most: int = 12) -> str:
    texts = [each if isinstance(each, str) and each else shown(each) for each in values]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 120 else text[:117] + "..."

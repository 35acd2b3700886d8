"""The short form in which a kro graph declares its fields: `integer | default=1 minimum=0`."""

import re
from dataclasses import dataclass, field
from typing import Any

BUILT_IN = ("string", "integer", "boolean", "float", "number", "object")
_MARKER = re.compile(r"""([A-Za-z]\w*)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[^\]]*\]|\{[^}]*\}|[^\s|]+)""")
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Leaf:
    """One field. `type` is empty where the declaration is no text at all."""

    type: str
    markers: dict[str, str] = field(default_factory=dict)
    """As written, quotes included."""

    @property
    def required(self) -> bool:
        return self.markers.get("required") == "true"

    @property
    def enum(self) -> list[str]:
        return [each.strip() for each in unquoted(self.markers.get("enum", "")).split(",") if each.strip()]

    def number(self, marker: str) -> float | None:
        text = self.markers.get(marker, "")
        return float(text) if _NUMBER.fullmatch(text) else None


def leaf(declaration: Any) -> Leaf:
    if not isinstance(declaration, str):
        return Leaf("")
    kind, _, rest = declaration.partition("|")
    return Leaf(kind.strip(), dict(_MARKER.findall(rest)))


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def element(kind: str) -> str:
    """The type within `[]type` and `map[string]type`, to the last; the type itself otherwise."""
    while kind.startswith(("[]", "map[")):
        kind = kind[2:] if kind.startswith("[]") else kind.partition("]")[2]
    return kind


def text_fits(kind: str, text: str) -> bool:
    """Whether a default, as it is written, is of the type. Types of one's own are not judged."""
    if kind == "integer":
        return _INTEGER.fullmatch(unquoted(text)) is not None and text == unquoted(text)
    if kind in ("float", "number"):
        return _NUMBER.fullmatch(unquoted(text)) is not None and text == unquoted(text)
    if kind == "boolean":
        return text in ("true", "false")
    if kind.startswith("[]"):
        return unquoted(text).strip().startswith("[")
    if kind.startswith("map["):
        return unquoted(text).strip().startswith("{")
    return True


def value_fits(kind: str, value: Any) -> bool:
    """Whether the value of an instance is of the type. Types of one's own are not judged."""
    if kind == "string":
        return isinstance(value, str)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in ("float", "number"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind.startswith("[]"):
        return isinstance(value, list) and all(value_fits(kind[2:], each) for each in value)
    if kind.startswith("map["):
        inner = kind.partition("]")[2]
        return isinstance(value, dict) and all(value_fits(inner, each) for each in value.values())
    return True

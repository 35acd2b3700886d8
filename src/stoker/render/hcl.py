"""Terraform's language, as `terraform fmt` writes it: blocks, attributes, expressions.

Values are Python's own: text (quoted, `${...}` stays an expression), numbers, booleans, None (`null`), lists, dicts;
`Raw` is an expression as it stands, `Json` a document for `jsonencode`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_INDENT = "  "
_BARE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Raw:
    """An expression: `aws_sqs_queue.dead.arn`, `var.vpc_id`."""

    text: str


@dataclass(frozen=True)
class Json:
    """A document that Terraform turns into text with `jsonencode`."""

    value: Any


@dataclass(frozen=True)
class Block:
    """`resource "aws_sqs_queue" "dead" { ... }` is Block("resource", ("aws_sqs_queue", "dead"), {...}). Attributes
    come first, then the blocks inside."""

    type: str
    labels: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    blocks: Sequence["Block"] = ()
    comments: Sequence[str] = ()


def write(block: Block) -> str:
    """The block, ending with a newline."""
    return "\n".join(_block(block, "")) + "\n"


def _block(block: Block, indent: str) -> Iterator[str]:
    head = " ".join([block.type, *(_quoted(each) for each in block.labels)])
    if not block.attributes and not block.blocks and not block.comments:
        yield f"{indent}{head} {{}}"
        return
    yield f"{indent}{head} {{"
    yield from (f"{indent}{_INDENT}#{each}" for each in block.comments)
    yield from _attributes(block.attributes, indent + _INDENT, separator=" = ")
    for number, inner in enumerate(block.blocks):
        if block.attributes or number:
            yield ""
        yield from _block(inner, indent + _INDENT)
    yield f"{indent}}}"


def _attributes(attributes: Mapping[str, Any], indent: str, separator: str) -> Iterator[str]:
    """`terraform fmt` aligns the `=` of neighbours whose values are on one line; one over several lines ends a row of
    neighbours, and is not aligned with what follows."""
    written = [(_key(key), _value(value, indent)) for key, value in attributes.items()]
    row: list[tuple[str, list[str]]] = []
    for key, lines in written:
        row.append((key, lines))
        if len(lines) > 1:
            yield from _row(row, indent, separator)
            row = []
    yield from _row(row, indent, separator)


def _row(row: list[tuple[str, list[str]]], indent: str, separator: str) -> Iterator[str]:
    # The one over several lines is aligned by itself.
    single = [key for key, lines in row if len(lines) == 1]
    width = max(map(len, single), default=0)
    for key, lines in row:
        padded = key.ljust(width) if len(lines) == 1 else key
        yield f"{indent}{padded}{separator}{lines[0]}"
        yield from lines[1:]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _value(value: Any, indent: str) -> list[str]:
    match value:
        case Raw(text):
            return [text]
        case Json(inner):
            lines = _value(inner, indent)
            return (
                [f"jsonencode({lines[0]}", *lines[1:-1], f"{lines[-1]})"]
                if len(lines) > 1
                else [f"jsonencode({lines[0]})"]
            )
        case None:
            return ["null"]
        case bool():
            return ["true" if value else "false"]
        case int() | float():
            return [repr(value)]
        case str():
            return [_quoted(value)]
        case Mapping():
            if not value:
                return ["{}"]
            return ["{", *_attributes(value, indent + _INDENT, " = "), f"{indent}}}"]
        case Sequence():
            return _list(value, indent)
    raise TypeError(f"{type(value).__name__} is no value of Terraform's")


def _list(values: Sequence[Any], indent: str) -> list[str]:
    items = [_value(each, indent + _INDENT) for each in values]
    one_line = f"[{', '.join(lines[0] for lines in items)}]"
    if all(len(lines) == 1 for lines in items) and len(one_line) <= 100:
        return [one_line]
    found = ["["]
    for lines in items:
        found += [f"{indent}{_INDENT}{lines[0]}", *lines[1:]]
        found[-1] += ","
    return [*found, f"{indent}]"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'

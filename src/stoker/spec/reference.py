"""The texts about `platform.yaml` and run files that are made from their types: the file of `stoker init`, and the
tables in the docs.

`python -m stoker.spec docs/spec.md docs/training/run-file.md` writes the tables anew; a test says when that is due.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.spec import yaml
from stoker.spec.platform import Platform
from stoker.spec.run import Run
from stoker.spec.schema import Schema, expected, resolved, schema_of
from stoker.spec.schema import schema as json_schema
from stoker.spec.section import plain

BEGIN = "<!-- made by `python -m stoker.spec docs/spec.md`; do not edit by hand -->"
BEGIN_RUN = "<!-- made by `python -m stoker.spec docs/training/run-file.md`; do not edit by hand -->"
END = "<!-- end of what is made -->"

_HEAD = """\
# platform.yaml: what you want of the platform. `stoker up`, `stoker simulate` and `stoker deploy` read this one file.
# Every key below has its default; what you take out keeps it. docs/spec.md says more.
"""
_ORDER = (
    "llm",
    "gateway",
    "tenants",
    "queue",
    "redis",
    "ledger",
    "costs",
    "spot",
    "global",
    "karpenter",
    "keda",
    "edge",
    "training",
    "composition",
    "deploy",
)
"""What matters on a laptop first, what only a cluster reads last."""


def template() -> str:
    """The commented `platform.yaml` that `stoker init` writes. It loads equal to the defaults."""
    schema = json_schema()
    data = plain(Platform(), whole=True)
    lines = [_HEAD]
    for key in _ORDER:
        lines += [*_commented(key, data[key], schema["properties"][key], schema, 0), ""]
    return "\n".join(lines)


def _commented(key: str, value: Any, part: Schema, schema: Schema, depth: int) -> Iterator[str]:
    here, indent = resolved(part, schema), "  " * depth
    mark = indent + "# "
    yield from textwrap.wrap(part.get("description", ""), 110, initial_indent=mark, subsequent_indent=mark)
    if not isinstance(value, dict) or not value:
        yield f"{indent}{key}: {_inline(value)}"
        return
    yield f"{indent}{key}:"
    if "properties" in here:
        for name, entry in value.items():
            yield from _commented(name, entry, here["properties"][name], schema, depth + 1)
        return
    entry_schema = next(iter(here["patternProperties"].values()))
    for index, (name, entry) in enumerate(value.items()):
        if index and isinstance(entry, dict):  # the first entry shows every key; the others say how they differ
            yield f"{indent}  {name}:"
            first = next(iter(value.values()))
            yield from (f"{indent}    {one}: {_inline(entry[one])}" for one in entry if entry[one] != first[one])
        else:
            yield from _commented(name, entry, {**entry_schema, "description": ""}, schema, depth + 1)


def _inline(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    if isinstance(value, dict):
        return _pairs(value)
    if value is None:
        return "null"
    return yaml.dump(value).removesuffix("\n").removesuffix("\n...")


def table(schema: Schema) -> str:
    """Every key with its default, what it takes, and what it is for, as Markdown."""
    rows = ["| key | default | takes | what it is, and why |", "|---|---|---|---|"]
    for path, part in _keys(schema, schema):
        here = resolved(part, schema)
        takes = expected(here, schema) + (", or null" if {"type": "null"} in part.get("anyOf", ()) else "")
        cells = (f"`{path}`", _default(part, here), takes, part.get("description", ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(part: Schema, here: Schema) -> str:
    if "default" not in part:
        return "required"
    default = part["default"]
    if isinstance(default, Mapping) and "properties" in here and "required" not in here:
        return "its keys'"
    if isinstance(default, Mapping) and default and isinstance(next(iter(default.values())), Mapping):
        return ", ".join(f"`{name}`" for name in default)
    return f"`{_inline(default) if not isinstance(default, Mapping) else _pairs(default)}`"


def _pairs(mapping: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key}: {_inline(value)}" for key, value in mapping.items()) + "}"


def _keys(part: Schema, schema: Schema, path: str = "", seen: set[str] | None = None) -> Iterator[tuple[str, Schema]]:
    """Every key, parents first; NAME stands where a name is chosen, [] behind a list. A kind of section that stands in
    several places is spelled out in the first."""
    seen = set() if seen is None else seen
    for key, entry in part.get("properties", {}).items():
        name = f"{path}.{key}" if path else key
        yield name, entry
        kind = entry.get("$ref", name)
        if kind in seen:
            continue
        seen.add(kind)
        here = resolved(entry, schema)
        yield from _keys(here, schema, name, seen)
        for inner in here.get("patternProperties", {}).values():
            yield from _keys(resolved(inner, schema), schema, f"{name}.NAME", seen)
        if "items" in here:
            yield from _keys(resolved(here["items"], schema), schema, f"{name}[]", seen)


def with_table(page: str) -> str:
    """`page` with what stands between the two marks made anew. Raises ValueError when a mark is missing."""
    begin, schema = (BEGIN_RUN, schema_of(Run)) if BEGIN_RUN in page else (BEGIN, json_schema())
    before, rest = page.split(begin, 1)
    _, after = rest.split(END, 1)
    return f"{before}{begin}\n\n{table(schema)}\n\n{END}{after}"

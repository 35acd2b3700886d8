"""Terraform as text: what refers to what. A parser is not needed, since the files are as `terraform fmt` has them."""

import re
from collections.abc import Iterator

from whole import BLOCK, Output

_REFERENCE = re.compile(
    r"(?<![\w.])(?:data\.(?P<data>[a-z][a-z0-9_]*)\.(?P<data_name>[A-Za-z_][\w-]*)"
    r"|var\.(?P<var>[A-Za-z_][\w-]*)|local\.(?P<local>[A-Za-z_][\w-]*)|module\.(?P<module>[A-Za-z_][\w-]*)"
    r"|(?P<type>(?:aws|random|tls|null|time|helm|kubernetes)_[a-z0-9_]+)\.(?P<name>[A-Za-z_][\w-]*))"
)
_LOCALS = re.compile(r"^locals \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)


def problems(output: Output) -> Iterator[str]:
    """References to what is nowhere declared, and variables that nothing reads."""
    text = output.terraform
    declared = {kind: set() for kind in ("resource", "data", "variable", "module", "output", "provider")}
    for kind, first, second in BLOCK.findall(text):
        key = f"{first}.{second}" if second else first
        if key in declared[kind]:
            yield f"{kind} {key} is declared twice"
        declared[kind].add(key)
    local = {name for body in _LOCALS.findall(text) for name in re.findall(r"^  ([A-Za-z_][\w-]*)\s+=", body, re.M)}
    read = set()
    for match in _REFERENCE.finditer(_expressions(text)):
        part = match.groupdict()
        if part["data"] and f"{part['data']}.{part['data_name']}" not in declared["data"]:
            yield f"{match[0]} is nowhere declared"
        if part["var"]:
            read.add(part["var"])
        if part["local"] and part["local"] not in local:
            yield f"{match[0]} is nowhere declared"
        if part["module"] and part["module"] not in declared["module"]:
            yield f"{match[0]} is nowhere declared"
        if part["type"] and f"{part['type']}.{part['name']}" not in declared["resource"]:
            yield f"{match[0]} is nowhere declared"
    for name in read ^ declared["variable"]:
        yield f"var.{name} is {'read and not declared' if name in read else 'declared and never read'}"


def _expressions(text: str) -> str:
    """The text without comments and without what is in quotes, but with what is in `${...}` there."""
    kept: list[str] = []
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            kept.append(re.sub(r'"(?:\\.|[^"\\])*"', lambda quoted: " ".join(_inner(quoted[0])), line))
    return "\n".join(kept)


def _inner(quoted: str) -> list[str]:
    return re.findall(r"(?<!\$)\$\{([^}]*)\}", quoted)

"""What is wrong with a spec, and how it is said: a line each, with place, key, value and what would be right.

Used by the YAML reader, by the rules on the types and by the loader; knows neither YAML nor pydantic.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stoker.base.errors import InvalidInput, SpecInvalid

Path = tuple[str | int, ...]

MAX_LISTED = 20  # a person mends a few and runs again; a thousand lines would hide the first
HINT = "docs/spec.md lists every key with its default; `stoker init` writes a commented file"


class Position(NamedTuple):
    """Where in the text, both counted from 1, as editors do."""

    line: int
    column: int


@dataclass(frozen=True)
class Fault:
    """`path` is relative to the object that found it until the loader prefixes it; `at` is None without a text."""

    path: Path
    message: str
    at: Position | None = None


class BrokenRules(ValueError):
    """Several faults of one object, found by rules that look at more than one field."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{written(fault.path)}: {fault.message}" for fault in faults))
        self.faults = tuple(faults)


def written(path: Path) -> str:
    """`("llm", "models", "code", "aliases", 0)` as `llm.models.code.aliases[0]`; odd keys in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        plain = part and all(char.isalnum() or char in "-_" for char in part)
        text += ("." if text else "") + (part if plain else shown(part))
    return text


def shown(value: object) -> str:
    """A value as the writer of YAML knows it, cut to a readable length; text keeps its quotes so that "1" is not 1."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "..."
        return '"' + text.replace("\n", "\\n").replace('"', '\\"') + '"'
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value)


def refusal(name: str, faults: Iterable[Fault], *, hint: str = HINT) -> SpecInvalid:
    """One error that lists the faults of the file `name`, those with a place first, in the order of the text."""
    ordered = sorted(faults, key=lambda fault: (fault.at is None, fault.at or (0, 0), written(fault.path)))
    message = _listed([_line(name, fault) for fault in ordered], f"faults in {name}")
    return SpecInvalid(message, param=written(ordered[0].path) or None, hint=hint)


def refused_request(faults: Iterable[Fault]) -> InvalidInput:
    """The same for a request, whose sender knows what was sent: the keys, without a file."""
    ordered = sorted(faults, key=lambda fault: written(fault.path))
    lines = [f"{written(fault.path) or 'the request'}: {fault.message}" for fault in ordered]
    return InvalidInput(_listed(lines, "faults in the request"), param=written(ordered[0].path) or None)


def _listed(lines: Sequence[str], what: str) -> str:
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return "\n".join([f"{len(lines)} {what}:", *lines[:MAX_LISTED], *more])


def _line(name: str, fault: Fault) -> str:
    place = f"{name}:{fault.at.line}:{fault.at.column}" if fault.at else name
    subject = f"{written(fault.path)}: " if fault.path else ""
    return f"{place}: {subject}{fault.message}"

"""What could not be read, and where."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """`kind` is one of: missing, unreadable, encoding, size, syntax, duplicate-key, aliases, depth, template,
    not-an-object, no-manifests. Line and column count from 1."""

    kind: str
    file: str
    line: int
    column: int
    message: str
    hint: str = ""

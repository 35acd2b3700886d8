"""Changes to a manifest, made in its text so that comments, order and quotes stay as they are."""

from dataclasses import dataclass
from typing import Any

from stoker.spec.faults import Path


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
    """The entry or item at `path` goes, with the comments that are its own."""

    path: Path


@dataclass(frozen=True)
class Add:
    """A new entry at `path`, whose parent is a section or a list; sections on the way that are missing are made."""

    path: Path
    value: Any


Edit = Replace | Rename | Remove | Add


class CannotEdit(Exception):
    """STAND-IN until the real one is merged."""


def apply(text: str, document: int, edits: object, root: Path = ()) -> str:
    raise CannotEdit("not yet")

"""What a rule is, and what it says. Knows no rule."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from stoker.manifests.edits import Edit
from stoker.manifests.objects import Manifest
from stoker.spec.faults import Path

if TYPE_CHECKING:
    from stoker.lint.cluster import Cluster


class Severity(StrEnum):
    ERROR = "error"
    """The API server refuses it, or it can never do its work."""
    WARNING = "warning"
    """It runs, but not as it is written, or it fails on a day that will come."""
    INFO = "info"
    """Worth knowing; what could not be judged."""

    @property
    def rank(self) -> int:
        return ("info", "warning", "error").index(self.value)


@dataclass(frozen=True)
class Problem:
    """One thing that a rule found. `path` is in the manifest's own tree.

    For something that is missing, `path` is where it would stand: its parent's path and its name. The place said is
    then that of the parent. A problem with the same object and path as one of the API's own (unknown field, missing
    field) replaces it, where it is as severe: it says the same, with the reason.
    """

    manifest: Manifest
    path: Path
    message: str
    """What is wrong, which value, and what it does: one line, no full stop needed at the end."""
    hint: str = ""
    """What to write instead."""
    key: bool = False
    """Point at the key and not at its value (for fields that must not be there)."""
    severity: Severity | None = None
    """Where one rule has two degrees; None is the rule's own."""
    instead_of: Path | None = None
    """Where the API's finding of the same fault points, when that is another place: it is replaced, too."""
    edits: Sequence[Edit] = ()
    """What `--fix` does in this manifest, where there is one safe answer; paths are in the manifest's own tree."""


@dataclass(frozen=True)
class Rule:
    """One rule. The docstring of its module is its documentation."""

    id: str
    severity: Severity
    title: str
    """What is found, in a line: `expireAfter stands where v1 does not know it`."""
    check: Callable[["Cluster"], Iterable[Problem]]
    module: str
    """`__name__` of the module, where the documentation stands."""
    guide: tuple[str, ...] = ()
    """Entries of the reference list of errors that it names, for the test that all are covered."""

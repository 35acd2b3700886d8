"""Comments that silence a rule: `# stoker:ignore STK-KEDA-003 the queue is drained by hand`.

On the line of a value the comment stands for that line. Alone on a line it stands for the entry that follows, with
everything in it; before the first key of an object, for the whole object. Without a reason it silences nothing.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from stoker.manifests.objects import Document
from stoker.spec.faults import Path

_COMMENT = re.compile(r"#\s*stoker:\s*ignore\b[:=]?\s*(.*)")
_RULES = re.compile(r"(STK-[A-Z0-9]+-[0-9]+)(?:\s*,\s*|\s+|$)")
_LOOKS_LIKE = re.compile(r"#\s*(stoker|nolint|lint)[ :-]*(lint[ :-]*)?(ignore|disable)", re.IGNORECASE)


@dataclass
class Suppression:
    """One comment. `scope` is a path of the document; None is the line itself."""

    line: int
    rules: tuple[str, ...]
    reason: str
    scope: Path | None
    used: bool = False

    def covers(self, rule: str, line: int, path: Path) -> bool:
        if rule not in self.rules or not self.reason:
            return False
        return line == self.line if self.scope is None else path[: len(self.scope)] == self.scope


@dataclass(frozen=True)
class BadComment:
    """A comment that means to silence and does not, with what is wrong about it."""

    line: int
    message: str


def read(document: Document, known: Collection[str]) -> tuple[list[Suppression], list[BadComment]]:
    """The suppressions of a document and the comments that only look like one."""
    found: list[Suppression] = []
    bad: list[BadComment] = []
    if not any("ignore" in comment or "disable" in comment for comment in document.comments.values()):
        return found, bad
    first_of_line = _first_paths(document)
    lines = sorted(first_of_line)
    for line, comment in sorted(document.comments.items()):
        match = _COMMENT.match(comment)
        if not match:
            if _LOOKS_LIKE.match(comment):
                bad.append(BadComment(line, 'not understood; "# stoker:ignore STK-AREA-001 the reason" is'))
            continue
        rules, reason = _parts(match[1])
        for message in _faults(rules, reason, known):
            bad.append(BadComment(line, message))
        scope = None if line in first_of_line else _scope(line, first_of_line, lines)
        found.append(Suppression(line, rules, reason, scope))
    return found, bad


def _parts(text: str) -> tuple[tuple[str, ...], str]:
    rules = []
    text = text.strip()
    while match := _RULES.match(text):
        rules.append(match[1])
        text = text[match.end() :]
    return tuple(rules), text.strip(" -:,()")


def _faults(rules: tuple[str, ...], reason: str, known: Collection[str]) -> Iterator[str]:
    if not rules:
        yield "names no rule, so it silences nothing; write the rule's id and then the reason"
    elif not reason:
        yield f"gives no reason, so it silences nothing; say why after {rules[-1]}"
    for rule in rules:
        if rule not in known:
            yield f"names {rule}, and there is no such rule; `stoker lint --list` shows them"


def _first_paths(document: Document) -> dict[int, Path]:
    """Line -> the shortest path of an entry or an item that begins there. A section begins where its first entry does,
    and is not meant by what stands above that."""
    found: dict[int, Path] = {}
    items = ((path, at) for path, at in document.values.items() if path and isinstance(path[-1], int))
    for path, position in (*document.keys.items(), *items):
        if position.line not in found or len(path) < len(found[position.line]):
            found[position.line] = path
    for position in document.values.values():  # the further lines of a text, and scalars below their keys
        found.setdefault(position.line, ("", "no entry begins here"))
    return found


def _scope(line: int, first_of_line: dict[int, Path], lines: list[int]) -> Path:
    """The entry that follows a comment that is alone on its line; () when that is the first of the object."""
    at = bisect_right(lines, line)
    if at == len(lines):
        return ("", "nothing follows")
    return () if at == 0 else first_of_line[lines[at]]

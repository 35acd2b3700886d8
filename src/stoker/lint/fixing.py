"""`--fix`: the edits of the problems that have one safe answer, made in the text of their files, until none is left.

Pure: texts in, texts out. After each pass what changed is read and judged again, since one mend can move what another
points at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stoker.lint.config import Config
from stoker.lint.rule import Problem
from stoker.lint.run import mendable
from stoker.manifests import edits
from stoker.manifests.reading import Reading, read_text
from stoker.spec.faults import Path

_MAX_PASSES = 12  # a v1beta1 NodePool takes three: the version, what moved, what that leaves empty


@dataclass(frozen=True)
class Fixed:
    """`texts` holds the new text of each file that changed, `reading` what is read with them in place."""

    texts: Mapping[str, str]
    reading: Reading
    count: int
    skipped: tuple[str, ...]
    """What could not be mended, and why: a line each."""


def fix(reading: Reading, config: Config) -> Fixed:
    """Mend what has one safe answer. What is silenced or off is not mended."""
    before = dict(reading.texts)
    skipped: dict[str, None] = {}
    count = 0
    for _ in range(_MAX_PASSES):
        changed, done, failed = _one_pass(reading, config)
        skipped.update(dict.fromkeys(failed))
        if not done:
            break
        count += done
        reading = _with_texts(reading, changed)
    texts = {file: text for file, text in reading.texts.items() if text != before[file]}
    return Fixed(texts, reading, count, tuple(skipped))


def _one_pass(reading: Reading, config: Config) -> tuple[dict[str, str], int, list[str]]:
    shifted: list[tuple[str, int, Path]] = []  # lists of which an item was removed: their indexes are no longer true
    changed: dict[str, str] = {}
    done, failed = 0, []
    for problem in mendable(reading, config):
        document = problem.manifest.document
        paths = [problem.manifest.root + edit.path for edit in problem.edits]
        if any(_under(shifted, document.file, document.index, path) for path in paths):
            continue
        text = changed.get(document.file, reading.texts[document.file])
        try:
            changed[document.file] = edits.apply(text, document.index, problem.edits, problem.manifest.root)
        except edits.CannotEdit as error:
            failed.append(_said(problem, error))
            continue
        done += 1
        shifted += [
            (document.file, document.index, path[:-1])
            for edit, path in zip(problem.edits, paths, strict=True)
            if isinstance(edit, edits.Remove) and path and isinstance(path[-1], int)
        ]
    return changed, done, failed


def _under(shifted: list[tuple[str, int, Path]], file: str, index: int, path: Path) -> bool:
    return any(f == file and i == index and path[: len(above)] == above for f, i, above in shifted)


def _with_texts(reading: Reading, changed: Mapping[str, str]) -> Reading:
    """The same reading with some files read again; what is in the others stays as it was."""
    again = {file: read_text(text, file) for file, text in changed.items()}
    manifests = []
    for file in dict.fromkeys(manifest.document.file for manifest in reading.manifests):
        source = again[file].manifests if file in again else reading.manifests
        manifests += [manifest for manifest in source if manifest.document.file == file]
    troubles = [trouble for trouble in reading.troubles if trouble.file not in again]
    for each in again.values():
        troubles += each.troubles
    return replace(reading, manifests=tuple(manifests), troubles=tuple(troubles), texts={**reading.texts, **changed})


def _said(problem: Problem, error: Exception) -> str:
    position = problem.manifest.where(problem.path, key=problem.key)
    return f"{problem.manifest.document.file}:{position.line}: {error}"

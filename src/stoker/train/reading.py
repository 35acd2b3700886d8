"""The files of a run -> samples, with a word on each line that cannot be used. No order, no rows, no steps."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.train import places
from stoker.train.encoding import Encoder, Outcome, Rules, Sample
from stoker.train.formats import BadLine, Example, Preference, example_of, lines_of, read_lines, value_of
from stoker.train.reports import SHOWN
from stoker.train.rows import Samples, gathered
from stoker.train.transforms import Transform

_BATCH = 512
"""Examples that are encoded at once."""
_TOLD_EVERY = 50_000


@dataclass(frozen=True)
class File:
    name: str
    """As the run file says it."""
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Line:
    file: str
    number: int
    raw: bytes = b""
    """Only where a transform will want it."""

    def bad(self, why: object) -> BadLine:
        return BadLine(self.file, self.number, str(why))


Read = tuple[Line, Example | ValueError]
"""A line, and what it says or why it cannot be used."""


def read_files(names: Sequence[str], here: Path) -> list[File]:
    """Raises InvalidInput; for S3 what the store raises."""
    return [File(name, places.read(name, here)) for name in names]


def digest_of(files: Iterable[File]) -> str:
    """Of what is in them, in this order, however it is read."""
    return hashlib.sha256(json.dumps([file.digest for file in files]).encode()).hexdigest()


def examples_of(files: Iterable[File], format: str, tell: Callable[[str], None]) -> Iterator[Read]:
    for file in files:
        for count, each in enumerate(read_lines(file.data, file.name, format), 1):
            if isinstance(each, BadLine):
                yield Line(file.name, each.line), ValueError(each.why)
            else:
                yield Line(file.name, each[0]), each[2]
            _tell_progress(count, file, tell)


def lines_of_files(files: Iterable[File], tell: Callable[[str], None]) -> Iterator[tuple[Line, ValueError | None]]:
    """For a transform: any JSON object will do."""
    for file in files:
        for count, (number, raw) in enumerate(lines_of(file.data), 1):
            trouble = None
            try:
                value_of(raw)
            except ValueError as exc:
                trouble = exc
            yield Line(file.name, number, raw), trouble
            _tell_progress(count, file, tell)


def transformed(lines: Sequence[Line], transform: Transform, *, seed: int, epoch: int, format: str) -> Iterator[Read]:
    for index, line in enumerate(lines):
        try:
            value = transform(dict(value_of(line.raw)), seed=seed, epoch=epoch, index=index)
            yield line, example_of(value, format)
        except ValueError as exc:
            yield line, exc


def _tell_progress(count: int, file: File, tell: Callable[[str], None]) -> None:
    if count % _TOLD_EVERY == 0:
        tell(f"{file.name}: {count:,} lines read")


@dataclass(frozen=True)
class Found:
    """`places`: which of the lines that were read each sample comes from, counted from 0."""

    samples: Samples
    places: NDArray[np.int64]
    bad: tuple[BadLine, ...]
    dropped: int
    truncated: int


def encoded(read: Iterable[Read], encoder: Encoder, rules: Rules, *, objective: str, fail: bool) -> Found:
    """All of it. Raises InvalidInput with the first bad lines if `fail`."""
    kept: list[Sample] = []
    places: list[int] = []
    bad: list[BadLine] = []
    count = dropped = 0
    for batch in _batches(read):
        outcomes = iter(encoder.encode_all([each for _, each in batch if not isinstance(each, ValueError)], rules))
        for line, example in batch:
            outcome = example if isinstance(example, ValueError) else _fitting(next(outcomes), example, objective)
            if isinstance(outcome, ValueError):
                bad.append(line.bad(outcome))
            elif outcome is None:
                dropped += 1
            else:
                kept.append(outcome)
                places.append(count)
            count += 1
        if fail and len(bad) >= SHOWN:
            break
    if fail and bad:
        raise refusal(bad)
    truncated = sum(sample.truncated for sample in kept)
    return Found(gathered(kept), np.array(places, np.int64), tuple(bad), dropped, truncated)


def _batches(read: Iterable[Read]) -> Iterator[list[Read]]:
    rest = iter(read)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch


def _fitting(outcome: Outcome, example: Example, objective: str) -> Outcome:
    """Whether the objective can learn from it."""
    is_preference = isinstance(example, Preference)
    if objective == "dpo" and not is_preference:
        return ValueError("is no preference, and objective is dpo; chosen and rejected would be right")
    if objective == "sft" and is_preference:
        return ValueError("is a preference, and objective is sft; objective dpo would take it")
    return outcome


def refusal(bad: Sequence[BadLine]) -> InvalidInput:
    shown = "\n".join(f"  {each.file}:{each.line}: {each.why}" for each in bad[:SHOWN])
    many = f"{SHOWN} lines or more" if len(bad) >= SHOWN else "1 line" if len(bad) == 1 else f"{len(bad)} lines"
    return InvalidInput(
        f"{many} of the data cannot be used:\n{shown}",
        param="data",
        hint="dataset.badLines: skip leaves such lines out",
    )

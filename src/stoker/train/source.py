"""The data of a run: which rows each step has, and this process's part of them as arrays.

A step's rows are a pure function of (data, seed, step): nothing of it has to be saved but the number of the step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.spec import Run
from stoker.train.encoding import Encoder
from stoker.train.formats import BadLine


@dataclass(frozen=True)
class Rows:
    """One forward pass: arrays [rows, length]. `targets` holds the token after each, within the same document, and
    `weights` that target's weight (0 at a document's last position and at padding). `documents`: number of the document
    in its row, -1 at padding; of a preference, 2k is what was chosen and 2k + 1 what was rejected. `positions` begin
    anew at each document. `features`: [cells, numbers] of all images, in the order of their placeholders; no cells where
    there are none. `samples`: indices of the examples in each row."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    documents: NDArray[np.int32]
    positions: NDArray[np.int32]
    features: NDArray[np.float32]
    samples: tuple[tuple[int, ...], ...]

    @property
    def is_packed(self) -> bool:
        """Whether any row has more than one document."""
        return bool((self.documents > 0).any())


@dataclass(frozen=True)
class Pass:
    """`number` counts the passes of the step, over all processes: randomness inside it is derived from it."""

    number: int
    rows: Rows


@dataclass(frozen=True)
class Step:
    """A process's part of a step. Passes are cut in contiguous blocks: process r of w has those from r*n//w to
    (r+1)*n//w of n. `weight`: of all tokens of the step, over all processes (of preferences: how many pairs); never 0.
    `samples`: of the whole step, all processes, in order. `passes_at_most`: of any process."""

    number: int
    """From 0."""
    epoch: int
    passes: tuple[Pass, ...]
    weight: float
    tokens: int
    """Of all processes, without padding."""
    samples: tuple[int, ...]
    passes_at_most: int


@dataclass(frozen=True)
class Report:
    """What was found in the data, for people and for the run's record."""

    examples: int
    tokens: int
    tokens_in_loss: int
    truncated: int
    dropped: int
    bad: tuple[BadLine, ...]


class Source:
    """Encoded data. Make it with `open_source`."""

    digest: str
    """sha256 over the data as it was read, and everything that decides what a row is (encoder, rules, seed, packing)."""
    report: Report
    steps: int
    """Of the whole run."""

    def step(self, number: int, *, rank: int = 0, world: int = 1) -> Step:
        """Pure. Raises IndexError beyond the last."""
        raise NotImplementedError

    def following(self, number: int, *, rank: int, world: int) -> Iterator[Step]:
        """Steps from `number` on to the last, prepared ahead by `dataset.workers` threads (0: when asked for). Ends its
        threads when closed. An error in a transform comes out here, with the example's file and line."""
        raise NotImplementedError


def open_source(
    run: Run,
    files: Sequence[str],
    encoder: Encoder,
    *,
    here: Path,
    tell: Callable[[str], None],
    cache: Path | None = None,
) -> Source:
    """Read and encode all of it. `here`: the folder that paths are relative to; s3:// by `registry.stores`. `tell` hears
    what a person should know (bad lines, truncated ones, progress of long reading). Raises InvalidInput with the first
    bad lines when `dataset.bad_lines` is fail, or when nothing is left."""
    raise NotImplementedError


def nothing_like(rows: Rows) -> Rows:
    """The same shapes with nothing that counts, for a process that has no pass left where others do."""
    raise NotImplementedError

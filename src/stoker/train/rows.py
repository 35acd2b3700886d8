"""Encoded examples -> the arrays of a pass. Knows no files, no order and no steps."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.train.encoding import Encoded, Sample

_MULTIPLE = 8
"""Lengths of rows are multiples of it, as matrix units like them."""


@dataclass(frozen=True)
class Rows:
    """One forward pass: arrays [rows, length]. `targets` holds the token after each, within the same document, and
    `weights` that target's weight (0 at a document's last position and at padding). `documents`: number of the document
    in its row, -1 at padding; of a preference, 2k is what was chosen and 2k + 1 what was rejected. `positions` begin
    anew at each document. `features`: [cells, numbers] of all images, in the order of their placeholders; no cells
    where there are none. `samples`: indices of the examples in each row."""

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


def nothing_like(rows: Rows) -> Rows:
    """The same shapes with nothing that counts, for a process that has no pass left where others do."""
    return Rows(
        tokens=np.zeros_like(rows.tokens),
        targets=np.zeros_like(rows.targets),
        weights=np.zeros_like(rows.weights),
        documents=np.full_like(rows.documents, -1),
        positions=np.zeros_like(rows.positions),
        features=rows.features[:0],
        samples=((),) * len(rows.samples),
    )


@dataclass(frozen=True)
class Samples:
    """Many samples as a few arrays. Each has `each` documents: one, or of a preference two. Document d has the tokens
    `starts[d]` to `starts[d + 1]` and the image cells `cells[d]` to `cells[d + 1]`."""

    each: int
    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]
    features: NDArray[np.float32]
    cells: NDArray[np.int64]

    def __len__(self) -> int:
        return (len(self.starts) - 1) // self.each

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample."""
        found: NDArray[np.int64] = np.diff(self.starts[:: self.each])
        return found

    @cached_property
    def totals(self) -> NDArray[np.float64]:
        """Weight of all targets of each sample; the first token of a document is none. Exact, and so the same in
        whichever order it is added up: a float32 has 24 bits, and the sum of millions of them fits into the 53 of a
        float64."""
        firsts = self.starts[:-1]
        if not len(firsts):
            return np.zeros(0)
        documents = np.add.reduceat(self.weights, firsts, dtype=np.float64) - self.weights[firsts]
        totals: NDArray[np.float64] = documents.reshape(-1, self.each).sum(axis=1)
        return totals

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, to be written and read again."""
        names = ("tokens", "weights", "starts", "features", "cells")
        return {name: getattr(self, name) for name in names}


def gathered(samples: Iterable[Sample]) -> Samples:
    """All of one kind. Without any, nothing."""
    tokens: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    features: list[NDArray[np.float32]] = []
    lengths: list[int] = []
    cells: list[int] = []
    each = 1
    for sample in samples:
        each = 1 if sample.rejected is None else 2
        for encoded in _documents(sample):
            tokens.append(encoded.tokens)
            weights.append(encoded.weights)
            lengths.append(len(encoded.tokens))
            cells.append(0 if encoded.features is None else len(encoded.features))
            if encoded.features is not None:
                features.append(encoded.features)
    return Samples(
        each,
        np.concatenate(tokens) if tokens else np.zeros(0, np.int32),
        np.concatenate(weights) if weights else np.zeros(0, np.float32),
        _starts(lengths),
        np.concatenate(features) if features else np.zeros((0, 0), np.float32),
        _starts(cells),
    )


def _documents(sample: Sample) -> Iterable[Encoded]:
    return [sample.chosen] if sample.rejected is None else [sample.chosen, sample.rejected]


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.fromiter(itertools.accumulate(counts, initial=0), np.int64, len(counts) + 1)


def rows_of(samples: Samples, groups: Sequence[Sequence[int]], indices: NDArray[np.int64], *, most: int) -> Rows:
    """`groups`: the samples of each row, by their place in `samples`; `indices`: the example that each of these is. As
    long as the fullest row, rounded up to a multiple of 8, and never longer than `most`."""
    lengths = samples.lengths
    fullest = max(int(lengths[list(group)].sum()) for group in groups)
    shape = (len(groups), min(most, -(-fullest // _MULTIPLE) * _MULTIPLE))
    tokens, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    weights = np.zeros(shape, np.float32)
    documents, positions = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    features = [samples.features[:0]]
    for row, group in enumerate(groups):
        at = 0
        for place, (number, half) in enumerate(itertools.product(group, range(samples.each))):
            document = number * samples.each + half
            start, stop = int(samples.starts[document]), int(samples.starts[document + 1])
            end = at + stop - start
            tokens[row, at:end] = samples.tokens[start:stop]
            targets[row, at : end - 1] = samples.tokens[start + 1 : stop]
            weights[row, at : end - 1] = samples.weights[start + 1 : stop]
            documents[row, at:end] = place
            positions[row, at:end] = np.arange(stop - start, dtype=np.int32)
            if samples.cells[document] < samples.cells[document + 1]:
                features.append(samples.features[samples.cells[document] : samples.cells[document + 1]])
            at = end
    return Rows(
        tokens,
        targets,
        weights,
        documents,
        positions,
        np.concatenate(features),
        tuple(tuple(int(indices[number]) for number in group) for group in groups),
    )

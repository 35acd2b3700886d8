"""Blocks of tensors: which part of a piece is wanted, where its bytes are and where they go, whether pieces fill a
tensor. Pure arithmetic; bytes are moved by `shards`.

A block has a begin and an end in each dimension. A tensor without dimensions (a scalar) has one block, `()`.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

Block = tuple[tuple[int, int], ...]

MOST_CUTS = 4
"""Dimensions in which a tensor may be cut: `tiles` looks at 2^cuts corners of each piece."""


def block_of(at: Sequence[int], shape: Sequence[int]) -> Block:
    return tuple((begin, begin + length) for begin, length in zip(at, shape, strict=True))


def shape_of(block: Block) -> tuple[int, ...]:
    return tuple(end - begin for begin, end in block)


def is_empty(block: Block) -> bool:
    return any(begin >= end for begin, end in block)


def overlap(one: Block, other: Block) -> Block | None:
    """What is in both, or None. An empty block overlaps with nothing."""
    both = tuple((max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return None if is_empty(both) else both


def tiles(whole: Block, parts: Iterable[Block]) -> bool:
    """Whether the parts fill the whole, none reaching over another or outside.

    Exact, in one pass: a block is told apart by its corners, with alternating signs (where it begins to count and where
    it stops, as in a table of running sums), so parts fill a whole if and only if their corners cancel to its own.
    Raises ValueError for one that is cut in more than MOST_CUTS dimensions.
    """
    listed = [part for part in parts if not is_empty(part)]
    if is_empty(whole):
        return not listed
    cut = [place for place, side in enumerate(whole) if any(part[place] != side for part in listed)]
    if len(cut) > MOST_CUTS:
        raise ValueError(f"it is cut in {len(cut)} dimensions, and {MOST_CUTS} is the most")
    corners: Counter[tuple[int, ...]] = Counter()
    for part in listed:
        _count(corners, part, cut, 1)
    _count(corners, whole, cut, -1)
    return not any(corners.values())


def _count(corners: "Counter[tuple[int, ...]]", block: Block, cut: Sequence[int], sign: int) -> None:
    for corner in product((0, 1), repeat=len(cut)):
        where = tuple(block[place][end] for place, end in zip(cut, corner, strict=True))
        corners[where] += -sign if sum(corner) % 2 else sign


@dataclass(frozen=True, slots=True)
class Runs:
    """Bytes of a piece that stand side by side both there and in the block that is made of it. All runs have the same
    length; in their order, places in the piece rise."""

    count: int
    size_bytes: int
    _lengths: tuple[int, ...]
    _source: tuple[int, ...]
    """Bytes from one index to the next in each dimension outside of a run; the last one is where the first run is."""
    _target: tuple[int, ...]

    def place(self, number: int) -> tuple[int, int]:
        """Where a run begins, in the piece and in the block."""
        source, target = self._source[-1], self._target[-1]
        for dimension in range(len(self._lengths) - 1, -1, -1):
            number, index = divmod(number, self._lengths[dimension])
            source += index * self._source[dimension]
            target += index * self._target[dimension]
        return source, target

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Parts of runs in bytes `start` to `end` of the piece: place in the piece, place in the block, length."""
        first = bisect_right(range(self.count), start, key=lambda number: self.place(number)[0] + self.size_bytes)
        for number in range(first, self.count):
            source, target = self.place(number)
            if source >= end:
                return
            begin, stop = max(source, start), min(source + self.size_bytes, end)
            yield begin, target + begin - source, stop - begin


def runs(piece: Block, wanted: Block, item_bytes: int) -> Runs | None:
    """From a piece to the block that is wanted; None: they have nothing in common. Both are C-contiguous."""
    both = overlap(piece, wanted)
    if both is None:
        return None
    lengths, inside, outside = shape_of(both), shape_of(piece), shape_of(wanted)
    outer = len(both)
    while outer > 0:
        outer -= 1
        if lengths[outer] != inside[outer] or lengths[outer] != outside[outer]:
            break
    source_steps, target_steps = _steps(inside, item_bytes), _steps(outside, item_bytes)
    source = sum((b[0] - p[0]) * step for b, p, step in zip(both, piece, source_steps, strict=True))
    target = sum((b[0] - w[0]) * step for b, w, step in zip(both, wanted, target_steps, strict=True))
    return Runs(
        math.prod(lengths[:outer]),
        math.prod(lengths[outer:]) * item_bytes,
        lengths[:outer],
        (*source_steps[:outer], source),
        (*target_steps[:outer], target),
    )


def _steps(shape: Sequence[int], item_bytes: int) -> list[int]:
    """Bytes from one index to the next in each dimension."""
    steps, step = [], item_bytes
    for length in reversed(shape):
        steps.append(step)
        step *= length
    return steps[::-1]

"""The order of examples, and which rows they go into. Pure: the same for any number of processes and workers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def order(count: int, seed: int, epoch: int, *, shuffle: bool = True) -> NDArray[np.int64]:
    """A permutation of 0..count-1 by a counter-based generator (numpy's Philox) of (seed, epoch). A test pins values, so
    that an upgrade of numpy cannot change a run."""
    raise NotImplementedError


def pack(
    lengths: Sequence[int] | NDArray[np.int64], indices: NDArray[np.int64], row: int, *, packing: bool
) -> list[tuple[int, ...]]:
    """Rows of example indices: each index once, the sum of lengths in a row at most `row`, filled from a bounded window of
    the order (first fit), so that it stays linear in time, and rows come out in the order of their first example.
    Without packing, each example is a row. Raises ValueError for a length over `row`."""
    raise NotImplementedError

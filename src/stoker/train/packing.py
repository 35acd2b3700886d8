"""The order of examples, and which rows they go into. Pure: the same for any number of processes and workers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 32
"""Rows that are open at once. More fill rows better, and take longer: each example looks at all of them at worst."""


def order(count: int, seed: int, epoch: int, *, shuffle: bool = True) -> NDArray[np.int64]:
    """A permutation of 0..count-1 by a counter-based generator (numpy's Philox) of (seed, epoch). A test pins values,
    so that an upgrade of numpy cannot change a run."""
    if not shuffle:
        return np.arange(count, dtype=np.int64)
    # Sorted by raw numbers: numpy keeps the stream of a bit generator, and not what `permutation` makes of it.
    keys = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)


def pack(
    lengths: Sequence[int] | NDArray[np.int64], indices: NDArray[np.int64], row: int, *, packing: bool
) -> list[tuple[int, ...]]:
    """Rows of example indices: each index once, the sum of lengths in a row at most `row`, filled from a bounded window
    of the order (first fit), so that it stays linear in time, and rows come out in the order of their first example.
    Without packing, each example is a row. Raises ValueError for a length over `row`."""
    sizes = np.asarray(lengths, np.int64)
    if len(sizes) and int(sizes.max()) > row:
        index = int(sizes.argmax())
        raise ValueError(f"example {index} has {int(sizes[index])} tokens; a row has {row}")
    if not packing:
        return [(index,) for index in indices.tolist()]
    least = int(sizes.min()) if len(sizes) else 0
    by_index = sizes.tolist()
    rows: list[list[int]] = []
    opened: list[list[int]] = []
    rooms: list[int] = []
    for index in indices.tolist():
        size = by_index[index]
        for place, room in enumerate(rooms):
            if room >= size:
                opened[place].append(index)
                room -= size
                if room < least:  # nothing more will fit
                    del opened[place], rooms[place]
                else:
                    rooms[place] = room
                break
        else:
            rows.append([index])
            if row - size >= least:
                if len(opened) == WINDOW:
                    fullest = rooms.index(min(rooms))
                    del opened[fullest], rooms[fullest]
                opened.append(rows[-1])
                rooms.append(row - size)
    return [tuple(each) for each in rows]

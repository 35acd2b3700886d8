"""Which bytes go where, against numpy, and which pieces fill a tensor, against counting each element."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.registry.blocks import MOST_CUTS, Block, block_of, is_empty, overlap, runs, tiles


@st.composite
def shapes_and_blocks(draw: st.DrawFn) -> tuple[tuple[int, ...], Block, Block]:
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))

    def block() -> Block:
        sides = [sorted((draw(st.integers(0, length)), draw(st.integers(0, length)))) for length in shape]
        return tuple((begin, end) for begin, end in sides)

    return shape, block(), block()


def sliced(block: Block) -> tuple[slice, ...]:
    return tuple(slice(begin, end) for begin, end in block)


@settings(max_examples=150, deadline=None)
@given(shapes_and_blocks(), st.integers(1, 40))
def test_runs_put_a_piece_where_numpy_puts_it(case: tuple[tuple[int, ...], Block, Block], part: int) -> None:
    shape, piece, wanted = case
    tensor = np.arange(int(np.prod(shape)), dtype=np.uint16).reshape(shape)
    source = np.ascontiguousarray(tensor[sliced(piece)]).tobytes()
    expected = np.full(shape, 0xFFFF, np.uint16)
    both = overlap(piece, wanted)
    if both is not None:
        expected[sliced(both)] = tensor[sliced(both)]
    expected_bytes = np.ascontiguousarray(expected[sliced(wanted)]).tobytes()
    found = bytearray(b"\xff" * len(expected_bytes))

    some = runs(piece, wanted, 2)
    if some is not None:
        for start in range(0, len(source), part):  # as it comes, chunk by chunk
            for at, to, length in some.within(start, start + part):
                assert start <= at
                assert at + length <= start + part
                found[to : to + length] = source[at : at + length]

    assert found == expected_bytes
    assert (some is None) == (both is None)


def test_rows_of_a_matrix_are_one_run_and_columns_are_one_for_each_row() -> None:
    by_rows = runs(((2, 4), (0, 8)), ((0, 6), (0, 8)), 4)
    by_columns = runs(((0, 6), (4, 8)), ((0, 6), (0, 8)), 4)

    assert by_rows is not None
    assert by_columns is not None
    assert (by_rows.count, by_rows.size_bytes, by_rows.place(0)) == (1, 2 * 8 * 4, (0, 2 * 8 * 4))
    assert (by_columns.count, by_columns.size_bytes, by_columns.place(5)) == (6, 16, (5 * 16, 5 * 32 + 16))


@settings(max_examples=150, deadline=None)
@given(shapes_and_blocks(), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=5), st.integers(0, 3))
def test_parts_fill_a_whole_when_each_element_is_in_one_of_them(
    case: tuple[tuple[int, ...], Block, Block], cuts: list[tuple[int, int]], spoil: int
) -> None:
    shape, extra, _ = case
    whole = block_of((0,) * len(shape), shape)
    parts = [whole]
    for dimension, at in cuts:
        if dimension < len(shape):
            parts = [each for part in parts for each in split(part, dimension, at)]
    if spoil == 1:
        parts = [*parts, extra]
    if spoil == 2:
        parts = parts[1:]
    if spoil == 3 and len(parts) > 1:
        parts = [*parts[1:], parts[1]]
    count = np.zeros(shape, int)
    for part in parts:
        count[sliced(part)] += 1

    assert tiles(whole, parts) == bool((count == 1).all())


def split(part: Block, dimension: int, at: int) -> list[Block]:
    begin, end = part[dimension]
    places = [begin, min(max(at, begin), end), end]
    return [(*part[:dimension], side, *part[dimension + 1 :]) for side in pairwise(places)]


def test_two_parts_that_reach_over_each_other_by_what_a_gap_leaves_do_not_fill() -> None:
    """The number of elements is right, and the tensor is not."""
    assert not tiles(((0, 4),), [((0, 3),), ((2, 3),)])
    assert not tiles(((0, 4),), [((0, 2),), ((0, 2),)])


def test_what_reaches_outside_does_not_fill() -> None:
    assert not tiles(((0, 4),), [((0, 5),)])
    assert not tiles(((0, 4),), [((1, 5),)])


def test_a_scalar_is_filled_once_and_an_empty_tensor_by_what_is_empty() -> None:
    assert tiles((), [()])
    assert not tiles((), [])
    assert not tiles((), [(), ()])
    assert tiles(((0, 0), (0, 3)), [])
    assert tiles(((0, 0), (0, 3)), [((0, 0), (0, 3)), ((0, 0), (0, 3))])
    assert is_empty(((0, 0), (0, 3)))


def test_a_tensor_that_is_cut_in_many_dimensions_is_refused() -> None:
    sides = MOST_CUTS + 1
    with pytest.raises(ValueError, match=f"cut in {sides} dimensions"):
        tiles(((0, 2),) * sides, [((0, 1),) * sides])

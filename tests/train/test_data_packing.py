"""The order of examples, and the rows that they go into."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.train.packing import WINDOW, order, pack


def test_the_order_is_pinned():
    """A run that goes on after an upgrade of numpy has to see the same order."""
    assert order(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert order(10, 7, 3).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]
    assert order(5, 2**63 - 1, 99_999).tolist() == [1, 3, 0, 2, 4]
    assert order(4, 1, 1, shuffle=False).tolist() == [0, 1, 2, 3]
    assert order(0, 1, 1).tolist() == []


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 200), st.integers(0, 2**63 - 1), st.integers(0, 10))
def test_each_index_comes_once(count: int, seed: int, epoch: int):
    assert sorted(order(count, seed, epoch).tolist()) == list(range(count))


def test_epochs_and_seeds_differ():
    orders = {tuple(order(100, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_the_first_row_with_room_is_taken():
    rows = pack([6, 5, 4, 5, 3], np.arange(5), 10, packing=True)
    assert rows == [(0, 2), (1, 3), (4,)]
    assert pack([6, 5, 4, 5, 3], np.array([4, 3, 2, 1, 0]), 10, packing=True) == [(4, 3), (2, 1), (0,)]


def test_without_packing_each_example_is_a_row():
    assert pack([6, 5, 4], np.array([2, 0, 1]), 10, packing=False) == [(2,), (0,), (1,)]


def test_an_example_that_fits_no_row_is_told():
    for packing in (True, False):
        with pytest.raises(ValueError, match="example 1 has 11 tokens; a row has 10"):
            pack([6, 11], np.arange(2), 10, packing=packing)


def test_rows_far_back_are_closed():
    """So that it stays linear: a row that many others were opened after takes nothing more."""
    lengths = [9] + [8] * WINDOW + [2, 1]
    rows = pack(lengths, np.arange(len(lengths)), 10, packing=True)
    assert rows[0] == (0,)  # the fullest of them was closed, though the last would have fitted
    assert rows[1] == (1, WINDOW + 1)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 40), max_size=150), st.integers(40, 60), st.integers(0, 5))
def test_no_row_is_over_full_and_rows_come_in_the_order_of_their_first(lengths: list[int], row: int, seed: int):
    sequence = order(len(lengths), seed, 0)
    rows = pack(lengths, sequence, row, packing=True)
    assert sorted(index for each in rows for index in each) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in each) <= row for each in rows)
    place = {index: at for at, index in enumerate(sequence.tolist())}
    assert [place[each[0]] for each in rows] == sorted(place[each[0]] for each in rows)
    assert all([place[index] for index in each] == sorted(place[index] for index in each) for each in rows)


def test_short_conversations_fill_rows():
    lengths = np.clip(np.random.default_rng(0).lognormal(5.3, 0.9, 5000), 8, 1024).astype(np.int64)
    rows = pack(lengths, order(5000, 0, 0), 1024, packing=True)
    assert lengths.sum() / (len(rows) * 1024) > 0.97

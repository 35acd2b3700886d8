"""Ids say of what they are and sort by their time."""

import re

from hypothesis import given
from hypothesis import strategies as st

from stoker.base.ids import new_id

times = st.floats(0, 2**48 / 1000 - 1)


@given(times, times)
def test_ids_sort_by_time(one: float, other: float) -> None:
    if int(one * 1000) != int(other * 1000):
        assert (new_id("task", one) < new_id("task", other)) == (one < other)


def test_an_id_is_a_prefix_and_26_characters() -> None:
    assert re.fullmatch(r"req_[0-9a-hjkmnp-tv-z]{26}", new_id("req"))
    assert new_id("req", 0.0).startswith("req_0000000000")
    assert new_id("req", 1_700_000_000.0).startswith("req_01hf7yat00")
    assert len({new_id("req", 1.0) for _ in range(1000)}) == 1000

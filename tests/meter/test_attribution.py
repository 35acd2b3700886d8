"""A bill split over who was there: exact, whatever the shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.meter.attribution import split


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    assert split(10, {"a": 1.0, "b": 1.0, "c": 1.0}) == {"a": 4, "b": 3, "c": 3}
    assert split(10, {"a": 1.0, "b": 2.0, "c": 0.0}) == {"a": 3, "b": 7}
    assert split(10, {}) == {}


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        split(10, {"a": 1.0, "b": -1.0})


@given(st.integers(0, 10**15), st.dictionaries(st.text(max_size=3), st.floats(1e-6, 1e9), min_size=1, max_size=8))
def test_parts_are_whole_and_sum_to_the_bill(total: int, weights: dict[str, float]) -> None:
    found = split(total, weights)
    assert sum(found.values()) == total
    whole = sum(weights.values())
    for name, weight in weights.items():
        assert abs(found[name] - total * weight / whole) <= 1 + total * 1e-12

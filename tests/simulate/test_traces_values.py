"""A whole column at once means what its cells mean one by one, or leaves the answer to them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.simulate.traces.values import Count, Kind, Moment, Seconds, Text, Wrong

TEXTS = st.one_of(
    st.text("0123456789.-+eE_ naif", max_size=8),
    st.integers(-5, 3_000_000_000).map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(lambda each: each.isoformat()),
)
CELLS = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.integers(), max_size=1))


@pytest.mark.parametrize(
    "kind",
    [
        Count(),
        Seconds(),
        Seconds(1000, is_positive=True),
        Moment(),
        Moment(naive_is_utc=True, takes_epoch=True),
        Text(),
    ],
    ids=["count", "seconds", "milliseconds", "moment", "epoch", "text"],
)
@settings(max_examples=150, deadline=None)
@given(cells=st.lists(CELLS, max_size=4))
def test_many_is_one_by_one(kind: Kind, cells: list[Any]) -> None:
    fast = kind.many(cells)
    if fast is not None:
        assert fast.tolist() == [kind.one(cell) for cell in cells]


@pytest.mark.parametrize(
    "kind", [Count(), Seconds(), Moment(takes_epoch=True), Text()], ids=["count", "seconds", "epoch", "text"]
)
@given(cell=CELLS)
@settings(max_examples=150, deadline=None)
def test_a_cell_has_a_value_or_is_wrong(kind: Kind, cell: Any) -> None:
    try:
        found = kind.one(cell)
    except Wrong as wrong:
        found, said = -1, str(wrong)
    else:
        said = "is good"
    assert said.startswith("is ")
    assert found >= -1


def test_a_count_is_fast_where_it_is_plain() -> None:
    assert Count().many(["1", "22", " 3"]).tolist() == [1, 22, 3]  # type: ignore[union-attr]
    assert Count().many(["1", "2.0"]) is None
    assert [Count().one("2.0"), Count().one(2.0)] == [2, 2]


def test_names_are_numbered_as_they_appear() -> None:
    names = Text(most=2)
    assert names.many(["b", "", "a", "b"]).tolist() == [0, -1, 1, 0]  # type: ignore[union-attr]
    assert names.names == ("b", "a")
    with pytest.raises(Wrong, match="is 'c'; a trace has 2 different names at most"):
        names.one("c")

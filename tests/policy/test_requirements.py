"""The algebra of requirements: what both allow is what the intersection allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.requirements import OPERATORS, Requirement, all_of, both, of_labels, requirement

KEY = "karpenter.k8s.aws/instance-cpu"
VALUES = st.sampled_from(["spot", "a", "", "0", "3", "4", "04", "5", "-2", "8", "100", "4.5"])
NUMBERS = st.integers(-3, 9).map(str)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(OPERATORS))
    if operator in ("In", "NotIn"):
        return requirement(KEY, operator, draw(st.lists(VALUES, max_size=4)))
    if operator in ("Exists", "DoesNotExist"):
        return requirement(KEY, operator)
    return requirement(KEY, operator, [draw(NUMBERS)])


@given(requirements(), requirements(), st.none() | VALUES | NUMBERS)
def test_the_intersection_allows_what_both_allow(a: Requirement, b: Requirement, value: str | None) -> None:
    assert a.intersect(b).allows(value) == (a.allows(value) and b.allows(value))


@given(st.lists(requirements(), min_size=1, max_size=5), st.none() | VALUES | NUMBERS)
def test_lines_of_one_label_hold_together(lines: list[Requirement], value: str | None) -> None:
    assert all_of(lines)[KEY].allows(value) == all(each.allows(value) for each in lines)


@given(requirements(), requirements(), st.none() | VALUES | NUMBERS)
def test_an_empty_intersection_allows_nothing(a: Requirement, b: Requirement, value: str | None) -> None:
    met = a.intersect(b)
    assert not (met.is_empty and met.allows(value))
    assert met.is_empty == b.intersect(a).is_empty


@given(requirements(), requirements(), requirements())
def test_the_order_does_not_matter(a: Requirement, b: Requirement, c: Requirement) -> None:
    assert a.intersect(b).intersect(c) == a.intersect(b.intersect(c))
    assert a.intersect(a) == a


@pytest.mark.parametrize(
    ("operator", "values", "allowed", "refused"),
    [
        ("In", ["4", "8"], ["4", "8"], ["5", None]),
        ("In", [], [], ["4", None]),
        ("NotIn", ["4"], ["5", "x", None], ["4"]),
        ("Exists", [], ["4", ""], [None]),
        ("DoesNotExist", [], [None], ["4", ""]),
        ("Gt", ["4"], ["5", "100"], ["4", "3", "x", None]),
        ("Gte", ["4"], ["4", "5"], ["3", "x", None]),
        ("Lt", ["4"], ["3", "0"], ["4", "5", "x", None]),
        ("Lte", ["4"], ["4", "3"], ["5", "x", None]),
    ],
)
def test_each_operator(operator: str, values: list[str], allowed: list[str | None], refused: list[str | None]) -> None:
    asked = requirement(KEY, operator, values)
    assert [asked.allows(value) for value in allowed] == [True] * len(allowed)
    assert [asked.allows(value) for value in refused] == [False] * len(refused)


def test_bounds_that_leave_no_whole_number_leave_nothing() -> None:
    assert requirement(KEY, "Gt", ["3"]).intersect(requirement(KEY, "Lt", ["4"])).is_empty
    assert not requirement(KEY, "Gt", ["3"]).intersect(requirement(KEY, "Lt", ["5"])).is_empty


def test_bounds_thin_out_a_list() -> None:
    met = requirement(KEY, "In", ["2", "4", "8", "x"]).intersect(requirement(KEY, "Gt", ["2"]))
    assert met == requirement(KEY, "In", ["4", "8"])


def test_what_the_api_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="'in' is no operator: write one of In, NotIn"):
        requirement(KEY, "in", ["4"])
    with pytest.raises(ValueError, match=r"instance-cpu Gt needs one whole number, and has \['4', '5'\]"):
        requirement(KEY, "Gt", ["4", "5"])
    with pytest.raises(ValueError, match=r"needs one whole number, and has \['4.5'\]"):
        requirement(KEY, "Lte", ["4.5"])


def test_two_labels_have_no_intersection() -> None:
    with pytest.raises(ValueError, match="requirements of two labels"):
        requirement("a", "Exists").intersect(requirement("b", "Exists"))


def test_a_selector_asks_for_each_value() -> None:
    met = both(of_labels({"a": "1", "b": "2"}), {"b": requirement("b", "In", ["2", "3"])})
    assert met == {"a": requirement("a", "In", ["1"]), "b": requirement("b", "In", ["2"])}


def test_in_words() -> None:
    assert str(requirement(KEY, "In", ["spot", "on-demand"])) == "on-demand or spot"
    assert str(requirement(KEY, "NotIn", ["arm64"])) == "not arm64"
    assert str(requirement(KEY, "Gt", ["4"]).intersect(requirement(KEY, "Lt", ["9"]))) == "above 4 and below 9"
    assert str(requirement(KEY, "Exists")) == "any value"
    assert str(requirement(KEY, "DoesNotExist")) == "no such label"
    assert str(requirement(KEY, "In", [])) == "nothing"

"""A bill split over who was there: exact, whatever the shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.meter.attribution import IDLE, PLATFORM, STARTING, Machine, Stay, by_tenant, by_user, split


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


def test_a_machine_is_start_up_then_its_pods_then_idle() -> None:
    machine = Machine("n", 1000, began_at=0.0, usable_at=100.0, ended_at=1000.0)
    stays = [
        Stay("n", "general", 0.5, 100.0, 600.0),  # 250 s of the whole
        Stay("n", "code", 0.25, 600.0, 2000.0),  # 100 s: until the machine ends
        Stay("n", PLATFORM, 0.25, 0.0, 500.0),  # 100 s: from when it was usable
        Stay("other", "code", 1.0, 0.0, 1000.0),
    ]
    assert by_user([machine], stays) == {"general": 250, "code": 100, PLATFORM: 100, IDLE: 450, STARTING: 100}


def test_those_who_together_had_more_than_all_of_it_pay_for_all_of_it() -> None:
    machine = Machine("n", 900, 0.0, 0.0, 100.0)
    stays = [Stay("n", "a", 0.8, 0.0, 100.0), Stay("n", "b", 0.4, 0.0, 100.0)]
    assert by_user([machine], stays) == {"a": 600, "b": 300}


def test_a_machine_that_never_was_usable_is_all_start_up() -> None:
    stays = [Stay("n", "a", 1.0, 0.0, 50.0)]
    assert by_user([Machine("n", 70, 0.0, float("inf"), 50.0)], stays) == {STARTING: 70}
    assert by_user([Machine("n", 70, 5.0, 5.0, 5.0)], stays) == {STARTING: 70}


def test_tenants_pay_for_the_work_they_caused_and_the_rest_is_idle() -> None:
    models = {"general": 1000, "code": 500, PLATFORM: 70, IDLE: 30}
    work_s = {"general": {"acme": 30.0, "zeta": 20.0}}
    found = by_tenant(models, work_s, {"general": 100.0, "code": 100.0})
    assert found == {"acme": 300, "zeta": 200, IDLE: 500 + 500 + 30, PLATFORM: 70}


_TIMES = st.floats(0, 1e5)


@given(
    st.lists(st.tuples(st.integers(0, 10**12), _TIMES, _TIMES, _TIMES), min_size=1, max_size=5),
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", PLATFORM]), st.floats(0, 1), _TIMES, _TIMES),
        max_size=12,
    ),
    st.dictionaries(st.sampled_from(["x", "y"]), st.floats(0, 1e6)),
)
def test_whatever_happened_the_parts_are_the_bill(
    machines: list[tuple[int, float, float, float]],
    stays: list[tuple[int, str, float, float, float]],
    work: dict[str, float],
) -> None:
    of = [Machine(f"n{i}", nano, min(a, c), b, max(a, c)) for i, (nano, a, b, c) in enumerate(machines)]
    by_model = by_user(of, [Stay(f"n{i}", who, share, min(a, b), max(a, b)) for i, who, share, a, b in stays])
    assert sum(by_model.values()) == sum(each.nano_usd for each in of)
    tenants = by_tenant(by_model, {"a": work}, {"a": 1000.0, "b": 0.0})
    assert sum(tenants.values()) == sum(by_model.values())

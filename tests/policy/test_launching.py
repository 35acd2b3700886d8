"""What CreateFleet is asked for, and what it gives (reference 4.3). Prices are invented, types are real."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.catalog.ec2 import InstanceType, instance_types
from stoker.catalog.labels import CAPACITY_TYPE, INSTANCE_TYPE, ZONE
from stoker.policy import launching
from stoker.policy.cluster import CapacityType, Market, Offering
from stoker.policy.launching import Request, fleet, request
from stoker.policy.placement import NodePoolView
from stoker.policy.provisioning import Claim
from stoker.policy.requirements import Requirements, all_of, requirement

TYPES = instance_types()
A, B = "us-east-1a", "us-east-1b"
Row = tuple[str, str, CapacityType, float]


def sold(*rows: Row, depth: float = 1.0) -> Market:
    found: dict[str, tuple[Offering, ...]] = {}
    for name, zone, capacity, usd in rows:
        found[name] = (*found.get(name, ()), Offering(TYPES[name], zone, capacity, usd, depth=depth))
    return found


def claim(
    *names: str,
    capacity: Sequence[str] = ("spot", "on-demand"),
    zones: Sequence[str] = (A, B),
    min_values: int | None = None,
) -> Claim:
    asked: Requirements = all_of([requirement(CAPACITY_TYPE, "In", capacity), requirement(ZONE, "In", zones)])
    types = tuple(TYPES[each] for each in names)
    pool = NodePoolView("m5", min_values={INSTANCE_TYPE: min_values} if min_values else {})
    return Claim(pool, (), types, asked, {})


def wanted(found: Request | None) -> list[tuple[str, str]]:
    assert found is not None
    return [(each.type.name, each.zone) for each in found.offerings]


MIXED = sold(
    ("m5.large", A, "spot", 0.04),
    ("m5.large", B, "spot", 0.05),
    ("m5.large", A, "on-demand", 0.096),
    ("m5.xlarge", A, "spot", 0.08),
    ("m5.xlarge", A, "on-demand", 0.192),
)


def test_the_numbers_of_the_reference() -> None:
    assert (launching.UNAVAILABLE_S, launching.MOST_TYPES) == (180.0, 60)


# -- capacity type --


@pytest.mark.parametrize(
    ("capacity", "chosen"),
    [
        pytest.param(("spot", "on-demand"), "spot", id="4.3-spot-before-on-demand"),
        pytest.param(("on-demand",), "on-demand", id="4.3-only-on-demand"),
        pytest.param(("reserved", "spot", "on-demand"), "spot", id="4.3-no-reservation"),
    ],
)
def test_the_first_capacity_type_that_is_allowed_and_there(capacity: Sequence[str], chosen: str) -> None:
    found = request(claim("m5.large", "m5.xlarge", capacity=capacity), MIXED)
    assert found is not None
    assert found.capacity == chosen


def test_a_reservation_goes_before_all_and_alone() -> None:
    market = {**MIXED, **sold(("m5.4xlarge", B, "reserved", 0.0), ("m5.4xlarge", B, "spot", 0.01))}
    anything = claim("m5.large", "m5.4xlarge", capacity=("reserved", "spot", "on-demand"))
    found = request(anything, market)
    assert found is not None
    assert (found.capacity, wanted(found)) == ("reserved", [("m5.4xlarge", B)])
    assert found.dropped == (("m5.large", "there is a reservation of another type"),)
    found = request(claim("m5.large", "m5.4xlarge"), market)
    assert found is not None
    assert found.capacity == "spot"


def test_on_demand_when_no_spot_is_available() -> None:
    market = {
        name: tuple(replace(each, is_available=each.capacity != "spot") for each in held)
        for name, held in MIXED.items()
    }
    found = request(claim("m5.large", "m5.xlarge"), market)
    assert found is not None
    assert (found.capacity, wanted(found)) == ("on-demand", [("m5.large", A), ("m5.xlarge", A)])


def test_no_capacity_type_asked_for_is_all_of_them() -> None:
    open_claim = replace(claim("m5.large"), requirements={})
    found = request(open_claim, MIXED)
    assert found is not None
    assert found.capacity == "spot"


# -- the filters --


def test_only_what_is_available_where_the_claim_may_go() -> None:
    found = request(claim("m5.large", "m5.xlarge", zones=[B]), MIXED)
    assert found is not None
    assert wanted(found) == [("m5.large", B)]
    assert found.dropped == (("m5.xlarge", "it is not available where the claim allows it"),)


def test_nothing_available_is_no_request() -> None:
    assert request(claim("m5.large", zones=["us-east-1c"]), MIXED) is None
    assert request(claim("m5.2xlarge"), MIXED) is None


@pytest.mark.parametrize("exotic", ["g5.xlarge", "m5.metal", "trn1.2xlarge"])
def test_devices_and_bare_metal_only_where_nothing_plain_would_do(exotic: str) -> None:
    market = {**MIXED, **sold((exotic, A, "spot", 0.001))}
    found = request(claim(exotic, "m5.large"), market)
    assert found is not None
    assert {each for each, _ in wanted(found)} == {"m5.large"}
    assert found.dropped == ((exotic, "it has devices or is bare metal, and plain types would do"),)
    assert wanted(request(claim(exotic), market)) == [(exotic, A)]
    assert wanted(request(claim(exotic, "m5.large", min_values=2), market))[0] == (exotic, A)


def test_spot_dearer_than_the_cheapest_on_demand_is_not_asked_for() -> None:
    market = {**MIXED, **sold(("m5.4xlarge", A, "spot", 0.097), ("m5.2xlarge", A, "spot", 0.096))}
    found = request(claim("m5.large", "m5.2xlarge", "m5.4xlarge"), market)
    assert found is not None
    assert [each for each, _ in wanted(found)] == ["m5.large", "m5.large", "m5.2xlarge"]
    assert found.dropped == (("m5.4xlarge", "its spot price is above the cheapest on demand"),)


def test_dear_spot_stays_where_on_demand_is_not_allowed_or_values_are_counted() -> None:
    market = {**MIXED, **sold(("m5.4xlarge", A, "spot", 0.097))}
    for each in (claim("m5.large", "m5.4xlarge", capacity=["spot"]), claim("m5.large", "m5.4xlarge", min_values=2)):
        assert wanted(request(each, market))[-1] == ("m5.4xlarge", A)


def test_one_cheap_zone_keeps_a_type_and_all_its_zones() -> None:
    """The filter drops types, not offerings (filter.go)."""
    market = sold(("m5.large", A, "on-demand", 0.1), ("m5.large", A, "spot", 0.05), ("m5.large", B, "spot", 0.2))
    assert wanted(request(claim("m5.large"), market)) == [("m5.large", A), ("m5.large", B)]


def test_a_type_without_spot_is_dropped_when_spot_is_asked_for() -> None:
    market = {**MIXED, **sold(("m5.2xlarge", A, "on-demand", 0.4))}
    found = request(claim("m5.large", "m5.2xlarge"), market)
    assert found is not None
    assert found.dropped == (("m5.2xlarge", "it is not to be had as spot"),)


PLAIN = [each for each in TYPES.values() if each.category in "cmr" and "metal" not in each.size][:70]


def many(types: Sequence[InstanceType]) -> Market:
    """The further down the list, the cheaper."""
    return sold(*((each.name, A, "on-demand", 100.0 - i) for i, each in enumerate(types)))


def test_the_sixty_cheapest_are_asked_for() -> None:
    found = request(claim(*(each.name for each in PLAIN)), many(PLAIN))
    assert found is not None
    assert [each.type for each in found.offerings] == PLAIN[:9:-1]
    assert [each for each in found.dropped if each[1] == "60 types are cheaper"] == [
        (each.name, "60 types are cheaper") for each in PLAIN[:10]
    ]


def test_min_values_that_sixty_types_cannot_meet_are_no_request() -> None:
    names = [each.name for each in PLAIN]
    assert request(claim(*names, min_values=60), many(PLAIN)) is not None
    assert request(claim(*names, min_values=61), many(PLAIN)) is None


# -- what EC2 gives --


def offered(*rows: tuple[str, float, float], capacity: CapacityType = "spot") -> Request:
    """Zone, price, depth."""
    return Request(
        capacity, tuple(Offering(TYPES["m5.large"], zone, capacity, usd, depth=depth) for zone, usd, depth in rows)
    )


def draws(of: Request, count: int = 400, **rest: float) -> Counter[str]:
    chance = random.Random(7)
    found = (fleet(of, {}, chance, **rest) for _ in range(count))
    return Counter(each.zone for each in found if each is not None)


def test_on_demand_is_the_cheapest_that_is_there() -> None:
    found = offered((A, 0.2, 0.0), (B, 0.1, 0.0), capacity="on-demand")
    assert draws(found) == {B: 400}
    out = {("m5.large", B, "on-demand"): False, ("m5.large", A, "on-demand"): True}
    assert fleet(found, out, random.Random(1)) == found.offerings[0]


def test_zones_at_the_same_price_share() -> None:
    found = draws(offered((A, 0.1, 1.0), (B, 0.1, 1.0), capacity="on-demand"))
    assert sum(found.values()) == 400
    assert min(found.values()) > 150


def test_spot_is_the_cheapest_of_those_deep_enough() -> None:
    shallow_is_cheap = offered((A, 0.01, 0.4), (B, 0.05, 0.6), ("us-east-1c", 0.06, 1.0))
    assert draws(shallow_is_cheap) == {B: 400}
    assert draws(shallow_is_cheap, deep_enough=0.4) == {A: 400}
    assert draws(shallow_is_cheap, deep_enough=0.7) == {"us-east-1c": 400}


def test_without_a_deep_one_depth_for_the_money_decides_by_chance() -> None:
    """0.4 / 0.02 against 0.2 / 0.04: four to one."""
    found = draws(offered((A, 0.02, 0.4), (B, 0.04, 0.2)), count=2000)
    assert 1500 < found[A] < 1700
    assert found[A] + found[B] == 2000


def test_spot_of_no_depth_at_all_is_still_given() -> None:
    assert set(draws(offered((A, 0.02, 0.0), (B, 0.04, 0.0)))) == {A, B}


def test_no_capacity_anywhere() -> None:
    found = offered((A, 0.1, 1.0))
    assert fleet(found, {("m5.large", A, "spot"): False}, random.Random(1)) is None
    assert fleet(found, {("m5.large", A, "on-demand"): False}, random.Random(1)) is not None


@given(
    st.lists(st.tuples(st.sampled_from((A, B)), st.floats(0.01, 10), st.floats(0, 1)), min_size=1, max_size=6),
    st.integers(0, 2**32),
)
def test_what_is_given_was_asked_for_and_is_the_same_for_the_same_chance(
    rows: list[tuple[str, float, float]], seed: int
) -> None:
    of = offered(*rows)
    found = fleet(of, {}, random.Random(seed))
    assert found in of.offerings
    assert fleet(of, {}, random.Random(seed)) is found

"""What a cluster can buy, and at what price."""

import pytest

from stoker.catalog.ec2 import instance_types
from stoker.catalog.labels import CAPACITY_TYPE, ZONE
from stoker.policy.market import has_own_price, market, on_demand_usd_per_hour, suits, without
from stoker.policy.requirements import all_of, requirement

TYPES = instance_types()
G5, P5E, B200 = TYPES["g5.xlarge"], TYPES["p5e.48xlarge"], TYPES["p6-b200.48xlarge"]


def test_each_type_is_sold_in_each_zone_both_ways() -> None:
    found = market("us-east-1", ("us-east-1a", "us-east-1b"), [G5])
    assert [(each.zone, each.capacity, each.usd_per_hour, each.depth) for each in found["g5.xlarge"]] == [
        ("us-east-1a", "on-demand", 1.006, 1.0),
        ("us-east-1b", "on-demand", 1.006, 1.0),
        ("us-east-1a", "spot", pytest.approx(1.006 * 0.41), 0.2),
        ("us-east-1b", "spot", pytest.approx(1.006 * 0.41), 0.2),
    ]
    assert all(each.is_available for each in found["g5.xlarge"])


def test_depth_follows_the_bucket_of_interruptions() -> None:
    found = market("us-east-1", ("us-east-1a",), [TYPES["m5.large"], TYPES["g6e.xlarge"]])
    spot = {name: each.depth for name, held in found.items() for each in held if each.capacity == "spot"}
    assert spot == {"m5.large": 0.4, "g6e.xlarge": 0.8}


def test_without_names_all_types_that_have_a_price_are_for_sale() -> None:
    found = market("us-east-1", ("us-east-1a",))
    assert len(found) == 264
    assert set(TYPES) - set(found) == {"p5e.48xlarge", "trn2.48xlarge"}
    assert market("us-east-1", ("us-east-1a",), [P5E]) == {}


def test_what_has_no_spot_market_is_sold_on_demand_alone() -> None:
    assert [each.capacity for each in market("us-east-1", ("us-east-1a",), [B200])["p6-b200.48xlarge"]] == ["on-demand"]


def test_a_zone_whose_id_is_known_has_its_own_price() -> None:
    zones = {"us-east-1a": "use1-az4", "us-east-1b": "use1-az1"}
    found = market("us-east-1", tuple(zones), [TYPES["g5.2xlarge"]], zones)["g5.2xlarge"]
    spot = {each.zone: each.usd_per_hour for each in found if each.capacity == "spot"}
    assert spot["us-east-1b"] == 0.5218
    assert spot["us-east-1a"] != spot["us-east-1b"]


def test_the_price_of_us_east_1_stands_in_where_the_region_has_none() -> None:
    assert (on_demand_usd_per_hour(G5, "eu-west-1"), has_own_price(G5, "eu-west-1")) == (1.006, False)
    assert (on_demand_usd_per_hour(G5, "us-east-1"), has_own_price(G5, "us-east-1")) == (1.006, True)
    assert has_own_price(TYPES["m5.large"], "us-gov-west-1")


def test_what_was_refused_is_not_available_and_the_rest_is_untouched() -> None:
    whole = market("us-east-1", ("us-east-1a", "us-east-1b"), [G5, TYPES["m5.large"]])
    less = without(whole, "g5.xlarge", "us-east-1b", "spot")
    assert [each.is_available for each in less["g5.xlarge"]] == [True, True, True, False]
    assert less["m5.large"] is whole["m5.large"]
    assert all(each.is_available for each in whole["g5.xlarge"])
    assert without(whole, "p5.48xlarge", "us-east-1b", "spot") is whole


def test_zone_and_capacity_type_are_an_offerings_own() -> None:
    offering = market("us-east-1", ("us-east-1a",), [G5])["g5.xlarge"][0]
    assert suits(offering, {})
    assert suits(
        offering, all_of([requirement(ZONE, "In", ["us-east-1a"]), requirement(CAPACITY_TYPE, "NotIn", ["spot"])])
    )
    assert not suits(offering, all_of([requirement(ZONE, "In", ["us-east-1b"])]))
    assert not suits(offering, all_of([requirement(CAPACITY_TYPE, "In", ["spot"])]))

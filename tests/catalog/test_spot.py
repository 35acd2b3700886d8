"""Spot prices and interruptions that ship."""

import csv
import importlib.util
import json
import math
import os
from pathlib import Path

import pytest

from stoker.catalog.ec2 import instance_types
from stoker.catalog.spot import Advice, advice, interruptions_per_hour, regions, spot_usd_per_hour

ROOT = Path(__file__).parents[2]


def test_a_price_that_was_seen_in_the_zone_counts() -> None:
    assert spot_usd_per_hour("g5.2xlarge", "us-east-1", "use1-az1") == 0.5218
    assert spot_usd_per_hour("g5.2xlarge", "us-east-1", "use1-az2") == 0.5933
    assert spot_usd_per_hour("g5.xlarge", "ap-northeast-2", "apne2-az4") == 0.3701


def test_without_a_zone_it_is_the_mean_of_those_seen_in_the_region() -> None:
    assert spot_usd_per_hour("g5.2xlarge", "eu-west-1") == pytest.approx((0.6191 + 0.6179 + 0.6185) / 3)


def test_else_the_on_demand_price_less_the_savings() -> None:
    assert advice("g5.xlarge", "us-east-1") == Advice(59, 4)
    for zone in (None, "use1-az4"):
        assert spot_usd_per_hour("g5.xlarge", "us-east-1", zone) == pytest.approx(1.006 * 0.41)
    assert spot_usd_per_hour("p5.48xlarge", "us-east-1", "use1-az9") == pytest.approx(55.04 * 0.48)


def test_the_on_demand_price_of_us_east_1_stands_in_for_that_of_the_region() -> None:
    advised = advice("m5.large", "eu-west-1")
    assert advised is not None
    assert spot_usd_per_hour("m5.large", "eu-west-1") == pytest.approx(0.096 * (100 - advised.savings_percent) / 100)


def test_a_zone_of_another_region_is_not_this_regions() -> None:
    advised = advice("g5.2xlarge", "us-east-1")
    assert advised is not None
    expected = 1.212 * (100 - advised.savings_percent) / 100
    assert spot_usd_per_hour("g5.2xlarge", "us-east-1", "euw1-az1") == pytest.approx(expected)


@pytest.mark.parametrize("name", ["p6-b200.48xlarge", "trn2.48xlarge", "x9.large"])
def test_where_nothing_is_known_of_a_spot_market_there_is_none(name: str) -> None:
    assert spot_usd_per_hour(name, "us-east-1") is None
    assert interruptions_per_hour(name, "us-east-1") is None


def test_a_region_that_is_not_in_the_list() -> None:
    assert "us-gov-west-1" not in regions()
    assert len(regions()) == 33
    assert spot_usd_per_hour("m5.large", "us-gov-west-1") is None


@pytest.mark.parametrize(
    ("name", "bucket", "monthly"),
    [("g5.xlarge", 4, 0.25), ("m5.large", 3, 0.175)],
)
def test_the_rate_gives_the_part_that_is_taken_away_in_a_month(name: str, bucket: int, monthly: float) -> None:
    advised, rate = advice(name, "us-east-1"), interruptions_per_hour(name, "us-east-1")
    assert advised is not None
    assert rate is not None
    assert advised.bucket == bucket
    assert 1 - math.exp(-rate * 730) == pytest.approx(monthly)


def test_more_often_interrupted_is_a_higher_rate() -> None:
    by_bucket: dict[int, float] = {}
    for name in instance_types():
        advised, rate = advice(name, "us-east-1"), interruptions_per_hour(name, "us-east-1")
        if advised is not None and rate is not None:
            by_bucket[advised.bucket] = rate
    assert sorted(by_bucket) == [0, 1, 2, 3, 4]
    assert [by_bucket[each] for each in range(5)] == sorted(by_bucket.values())


def test_what_ships_is_what_the_script_writes(tmp_path: Path) -> None:
    facts = Path(os.environ.get("STOKER_SHARED", ROOT.parent / "shared")) / "data" / "ec2"
    if not (facts / "spot_prices_sample.csv").exists():
        pytest.skip("the collected facts are not at hand: set STOKER_SHARED to their folder")
    spec = importlib.util.spec_from_file_location("build_ec2", ROOT / "scripts" / "build_ec2.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    advisor = json.loads((facts / "spot_advisor_2025-06.json").read_text())
    prices = list(csv.DictReader((facts / "spot_prices_sample.csv").read_text().splitlines()))
    script.write(tmp_path / "spot.json.gz", script.spot(advisor, prices, set(instance_types())))
    shipped = ROOT / "src" / "stoker" / "catalog" / "data" / "ec2" / "spot.json.gz"
    assert (tmp_path / "spot.json.gz").read_bytes() == shipped.read_bytes()

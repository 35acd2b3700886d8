"""Prices of AWS beside EC2 that ship."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from stoker.catalog import aws_prices
from stoker.catalog.aws_prices import Price, auto_mode_share, known, price

DATA = Path(aws_prices.__file__).with_name("data") / "aws"


def test_a_price_of_the_region_that_is_asked_for() -> None:
    assert price("vpc.nat-gateway", "us-west-2") == Price(
        "vpc.nat-gateway", Decimal("0.045"), "hour", "us-west-2", "2026"
    )


def test_us_east_1_stands_in_and_the_price_says_so() -> None:
    found = price("elasticache.valkey.cache.r7g.large", "eu-central-1")
    assert found is not None
    assert (found.usd, found.region) == (Decimal("0.1752"), "us-east-1")


def test_what_is_known_of_one_other_region_stands_in_for_all() -> None:
    found = price("eks.capability.kro", "us-east-1")
    assert found is not None
    assert (found.usd, found.region) == (Decimal("0.004757"), "us-west-2")


def test_what_costs_the_same_everywhere_is_of_every_region() -> None:
    for region in ("us-east-1", "eu-central-1"):
        found = price("eks.cluster", region)
        assert found is not None
        assert (found.usd, found.region) == (Decimal("0.10"), region)


def test_what_is_not_on_the_list_has_no_price() -> None:
    assert price("elasticache.valkey.cache.x9g.large", "us-east-1") is None


@pytest.mark.parametrize(
    ("type", "share"),
    [
        ("m6i.large", "0.12"),
        ("g6.xlarge", "0.078"),
        ("gr6.4xlarge", "0.078"),
        ("p5.48xlarge", "0.048"),
        ("inf2.xlarge", "0.12"),
    ],
)
def test_auto_mode_takes_a_part_of_the_price_on_demand(type: str, share: str) -> None:
    assert auto_mode_share(type) == Decimal(share)


def test_each_price_is_positive_dated_and_has_a_source() -> None:
    sources = set(re.findall(r"^\| ([a-z0-9-]+) \|", (DATA / "SOURCES.md").read_text(), re.MULTILINE)) - {"source"}
    rows = aws_prices._read()["prices"]
    assert set(rows) == set(known())
    assert len(rows) == 56
    for what, row in rows.items():
        assert set(row) == {"unit", "usd", "source", "asOf"}, what
        assert re.fullmatch(r"20\d\d(-\d\d(-\d\d)?)?", row["asOf"]), what
        assert all(Decimal(usd) > 0 for usd in row["usd"].values()), what
    used = {row["source"] for row in rows.values()} | {aws_prices._read()["autoMode"]["source"]}
    assert used == sources

"""Prices over time: steps, their sums, and what is wrong with a file of them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, NotFound
from stoker.catalog import ec2
from stoker.meter.prices import EPOCH, Prices, read_prices
from stoker.policy.cluster import Offering

BEGAN = datetime(2026, 11, 2, 8, tzinfo=UTC)
KEY = ("g6.xlarge", "us-west-2a", "spot")


def test_a_price_holds_until_the_next_and_the_first_also_before_it() -> None:
    prices = Prices({KEY: ((-60.0, 0.30), (100.0, 0.50), (400.0, 0.20))})
    assert [prices.at(KEY, now, 9.0) for now in (-1000.0, -60.0, 0.0, 99.9, 100.0, 400.0, 1e9)] == [
        *(0.30, 0.30, 0.30, 0.30),
        *(0.50, 0.20, 0.20),
    ]
    assert prices.at(("g5.xlarge", "us-west-2a", "spot"), 0.0, 9.0) == 9.0


def test_a_stay_is_cut_where_the_price_changes() -> None:
    prices = Prices({KEY: ((0.0, 0.30), (100.0, 0.50), (400.0, 0.20))})
    assert prices.pieces(KEY, 50.0, 500.0, 9.0) == [(50.0, 0.30), (300.0, 0.50), (100.0, 0.20)]
    assert prices.pieces(KEY, 100.0, 400.0, 9.0) == [(300.0, 0.50)]
    assert prices.pieces(("x", "y", "spot"), 50.0, 500.0, 9.0) == [(450.0, 9.0)]
    assert prices.changes() == [100.0, 400.0]


def test_the_market_of_a_moment_has_its_prices_and_keeps_all_else() -> None:
    g6, g5 = ec2.instance_types()["g6.xlarge"], ec2.instance_types()["g5.xlarge"]
    market = {
        "g6.xlarge": (Offering(g6, "us-west-2a", "spot", 0.4, depth=0.5), Offering(g6, "us-west-2a", "on-demand", 0.8)),
        "g5.xlarge": (Offering(g5, "us-west-2a", "spot", 0.5),),
    }
    found = Prices({KEY: ((0.0, 0.30),)}).applied(market, 10.0)
    assert found["g6.xlarge"] == (Offering(g6, "us-west-2a", "spot", 0.30, depth=0.5), market["g6.xlarge"][1])
    assert found["g5.xlarge"] == market["g5.xlarge"]


def test_what_the_aws_cli_prints_is_read_as_it_is(tmp_path: Path) -> None:
    rows = [
        ("2026-11-02T10:00:00+00:00", "0.4100", "Linux/UNIX"),
        ("2026-11-02T07:00:00Z", "0.3900", "Linux/UNIX"),
        ("2026-11-02T09:00:00Z", "9.9900", "Windows"),
    ]
    listed = [
        {
            "AvailabilityZone": "us-west-2a",
            "InstanceType": "g6.xlarge",
            "ProductDescription": product,
            "SpotPrice": price,
            "Timestamp": at,
        }
        for at, price, product in rows
    ]
    file = tmp_path / "history.json"
    file.write_text(json.dumps({"SpotPriceHistory": listed}))
    found = read_prices(str(file), BEGAN)
    assert found.steps == {KEY: ((-3600.0, 0.39), (7200.0, 0.41))}
    assert found.notes == ()


def test_a_history_of_other_days_is_moved_by_whole_days_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "type,zone,capacity,usd_per_hour,time\n"
        "g6.xlarge,us-west-2a,spot,0.39,2026-01-05T07:00:00Z\n"
        "g6.xlarge,us-west-2a,spot,0.41,2026-01-05T12:00:00+02:00\n"
    )
    found = read_prices(str(file), BEGAN)
    assert found.steps == {KEY: ((-3600.0, 0.39), (7200.0, 0.41))}
    assert found.notes == ("prices of 2026-01-05 are taken for those of 2026-11-02: moved by whole days",)


def test_a_table_may_have_seconds_or_no_times_at_all(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "type,zone,capacity,usd_per_hour,at_s\ng6.xlarge,us-west-2a,spot,0.5,30\ng5.xlarge,z,on-demand,1,\n"
    )
    found = read_prices(str(file), BEGAN)
    assert found.steps == {KEY: ((30.0, 0.5),), ("g5.xlarge", "z", "on-demand"): ((0.0, 1.0),)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type,zone,capacity\n", "row 1: no column usd_per_hour"),
        ("type,zone,capacity,usd_per_hour\na,b,spots,1\n", "row 2: capacity 'spots'"),
        ("type,zone,capacity,usd_per_hour\na,b,spot,dear\n", "row 2: the price is 'dear'"),
        ("type,zone,capacity,usd_per_hour\na,b,spot,1\na,b,spot,-1\n", "row 3: the price -1"),
        ("type,zone,capacity,usd_per_hour\na,b,spot,nan\n", "row 2: the price is 'nan'"),
        (
            "type,zone,capacity,usd_per_hour,time\na,b,spot,1,2026-11-02T08:00:00\n",
            "row 2: the time '2026-11-02T08:00:00'",
        ),
        ("type,zone,capacity,usd_per_hour,at_s\na,b,spot,1,soon\n", "row 2: at_s is 'soon'"),
        ('{"SpotPriceHistory": 3}', "row 1: no list SpotPriceHistory"),
        ('{"SpotPriceHistory": [7]}', "row 1: the time None"),
        ("{", "is no JSON"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "prices"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_prices(str(file), BEGAN)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="no file of prices /no/such"):
        read_prices("/no/such", BEGAN)


def test_prices_of_a_run_stay_where_they_were(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("type,zone,capacity,usd_per_hour,time\ng6.xlarge,us-west-2a,spot,0.4,2026-01-05T08:00:00Z\n")

    found = read_prices(str(file), EPOCH, may_move=False)

    assert found.steps == {KEY: ((datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp(), 0.4),)}
    assert found.notes == ()

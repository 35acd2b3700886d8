"""What machines and volumes cost: AWS's prices, per second, and what EC2 lets off."""

import numpy as np
import pytest
from worlds import model, pool, run, trace

from stoker.policy.volumes import Volume, volume_usd_per_hour
from stoker.simulate import bill
from stoker.simulate.explain import explain
from stoker.simulate.result import NodeLife

MONTH_H = 730
HOUR = 3600.0


def life(type_: str = "g6.xlarge", capacity: str = "spot", zone: str = "us-east-1a", **times: float | None) -> NodeLife:
    found = NodeLife("n", "gpu", type_, zone, capacity, 1, 0.5, asked_at=0.0, launched_at=2.0)
    for key, value in times.items():
        setattr(found, key, value)
    return found


def parts(one: NodeLife, ends_at: float = 10 * HOUR, auto_mode: frozenset[str] = frozenset()) -> dict[str, int]:
    found = bill.costs(
        *([one], []), ends_at=ends_at, volumes={}, auto_mode=auto_mode, requests={}, work_s={}, models=()
    )
    return dict(found.by_part)


@pytest.mark.parametrize(
    ("volume", "usd_per_month"),
    [
        pytest.param(Volume(size_gib=100), 8.0, id="gp3-100-GiB"),
        pytest.param(Volume(size_gib=100, throughput_mibs=1000), 8.0 + 875 * 0.04, id="gp3-875-MiBps-more"),
        pytest.param(Volume(size_gib=100, iops=16000), 8.0 + 13000 * 0.005, id="gp3-13000-IOPS-more"),
        pytest.param(Volume(size_gib=100, throughput_mibs=100, iops=1000), 8.0, id="gp3-what-is-free"),
        pytest.param(Volume(size_gib=100, kind="gp2"), 10.0, id="gp2"),
        pytest.param(Volume(size_gib=100, kind="io2", iops=4000), 12.5 + 4000 * 0.065, id="io2"),
    ],
)
def test_volumes_at_the_prices_of_us_east_1(volume: Volume, usd_per_month: float) -> None:
    assert volume_usd_per_hour(volume) * MONTH_H == pytest.approx(usd_per_month)


@pytest.mark.parametrize(
    ("gone_at", "seconds"),
    [(2.5, 60.0), (61.0, 60.0), (62.0, 60.0), (63.0, 61.0), (3602.0, 3600.0), (None, 10 * HOUR - 2.0)],
)
def test_by_the_second_and_a_minute_at_least(gone_at: float | None, seconds: float) -> None:
    assert parts(life(gone_at=gone_at))["instances"] == round(0.5 * seconds / HOUR * 1e9)


@pytest.mark.parametrize(
    ("capacity", "noticed_at", "gone_at", "is_free"),
    [
        pytest.param("spot", 1000.0, 1120.0, True, id="taken-by-EC2-in-its-first-hour"),
        pytest.param("spot", 1000.0, 1030.0, False, id="ended-by-us-before-EC2-did"),
        pytest.param("spot", 3500.0, 3620.0, False, id="taken-after-an-hour"),
        pytest.param("spot", None, 1120.0, False, id="without-a-notice"),
        pytest.param("on-demand", 1000.0, 1120.0, False, id="on-demand"),
    ],
)
def test_a_spot_machine_that_ec2_takes_in_its_first_hour_costs_its_volumes_alone(
    capacity: str, noticed_at: float | None, gone_at: float, is_free: bool
) -> None:
    one = life(capacity=capacity, noticed_at=noticed_at, gone_at=gone_at)
    found = parts(one)
    assert (found["instances"] == 0) is is_free
    assert found["volumes"] > 0
    rate = bill.usd_per_hour_at([one], np.array([500.0]), {}, frozenset())[0]
    assert rate == pytest.approx(volume_usd_per_hour(Volume()) + (0.0 if is_free else 0.5))


def test_a_run_knows_who_ended_a_spot_node() -> None:
    """The pod's grace is longer than two minutes; with a short one the node is drained sooner, and paid for."""
    taken, drained = (
        run(
            pool(capacity="spot"),
            model(replicas=1, grace=grace),
            requests=trace(1000.0, answer=6000),
            available=((0.0, 1), (1010.0, 0)),
            hours=0.5,
            cold=True,
            retries=False,
        )
        for grace in (600, 30)
    )
    assert taken.nodes[0].gone_at == 1010 + 120
    assert taken.costs.by_part["instances"] == 0
    assert "not billed, since EC2 took it back in its first hour" in explain(taken, f"node {taken.nodes[0].name}")
    assert (drained.nodes[0].gone_at or 0) < 1010 + 120
    assert drained.costs.by_part["instances"] > 0


@pytest.mark.parametrize(
    ("type_", "zone", "capacity", "usd"),
    [
        pytest.param("m5.large", "us-east-1a", "on-demand", 0.12 * 0.096, id="on-demand"),
        pytest.param("m5.large", "us-east-1a", "spot", 0.12 * 0.096, id="spot-pays-as-much"),
        pytest.param("m5.large", "us-gov-west-1a", "on-demand", 0.12 * 0.121, id="the-region-has-its-own-price"),
        pytest.param("g6.xlarge", "us-east-1a", "on-demand", 0.12 * 0.65 * 0.8048, id="G-35-per-cent-less"),
        pytest.param("p5.48xlarge", "us-east-1a", "on-demand", 0.12 * 0.40 * 55.04, id="P-60-per-cent-less"),
        pytest.param("trn1.2xlarge", "us-east-1a", "on-demand", 0.12 * 0.40 * 1.34375, id="Trainium-60-per-cent-less"),
        pytest.param("inf2.xlarge", "us-east-1a", "on-demand", 0.12 * 0.7582, id="Inferentia"),
        pytest.param("m7g.large", "us-east-1a", "on-demand", 0.12 * 0.0816, id="Graviton-is-no-G"),
    ],
)
def test_auto_mode_adds_a_share_of_the_on_demand_price(type_: str, zone: str, capacity: str, usd: float) -> None:
    one = life(type_, zone=zone, capacity=capacity, gone_at=2 + HOUR)
    assert parts(one, auto_mode=frozenset({"gpu"}))["auto mode"] == pytest.approx(usd * 1e9, rel=1e-6)
    with_fee, without = (
        bill.usd_per_hour_at([one], np.array([500.0]), {}, pools)[0] for pools in (frozenset({"gpu"}), frozenset[str]())
    )
    assert with_fee - without == pytest.approx(usd)

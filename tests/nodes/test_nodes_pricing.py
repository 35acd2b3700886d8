"""What a machine costs per hour, to the nano-dollar."""

import pytest

from stoker.catalog.ec2 import instance_types
from stoker.nodes.pricing import Pricing, volumes_of
from stoker.nodes.seeing import share_of
from stoker.policy.volumes import Volume

ZONE = "us-west-2a"
GIB = 2**30
GP3_MONTH = 0.08


def test_on_demand_is_the_catalogues_price_of_the_region() -> None:
    pricing = Pricing()
    assert pricing.on_demand("m5.xlarge", "us-east-1a") == round(
        instance_types()["m5.xlarge"].prices["us-east-1"] * 1e9
    )
    assert pricing.unknown == set()
    assert pricing.on_demand("z9.huge", ZONE) == 0
    assert pricing.unknown == {"z9.huge"}


def test_all_volumes_of_the_class_count_and_auto_mode_has_a_fee() -> None:
    pricing = Pricing()
    two = {"spec": {"blockDeviceMappings": [{"ebs": {"volumeSize": "4Gi"}}, {"ebs": {"volumeSize": "96Gi"}}]}}
    assert pricing.volumes_and_fee("m5.xlarge", ZONE, "EC2NodeClass", two) == round(100 * GP3_MONTH / 730 * 1e9)
    assert pricing.volumes_and_fee("m5.xlarge", ZONE, "", None) == round(20 * GP3_MONTH / 730 * 1e9)

    fee = 0.12 * pricing.on_demand("m5.xlarge", ZONE)
    volume = 80 * GP3_MONTH / 730 * 1e9
    assert pricing.volumes_and_fee("m5.xlarge", ZONE, "NodeClass", None) == pytest.approx(fee + volume, abs=1)


def test_a_volume_that_cannot_be_read_is_the_usual_one() -> None:
    said = {"spec": {"blockDeviceMappings": [{"ebs": {"volumeSize": "many", "iops": 4000, "volumeType": "io2"}}]}}
    assert vars(volumes_of(said, is_auto=False)[0]) == vars(Volume(iops=4000, kind="io2"))


@pytest.mark.parametrize(
    ("requests", "allocatable", "share"),
    [
        ({"cpu": 1000, "nvidia.com/gpu": 1}, {"cpu": 4000, "nvidia.com/gpu": 4}, 0.25),
        ({"cpu": 3000}, {"cpu": 4000, "nvidia.com/gpu": 4}, 0.0),
        ({"cpu": 1000, "memory": GIB}, {"cpu": 4000, "memory": 2 * GIB}, 0.5),
        ({"nvidia.com/mig-1g.5gb": 2}, {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.5gb": 7}, 2 / 7),
        ({"cpu": 9000}, {"cpu": 4000}, 1.0),
        ({}, {}, 0.0),
    ],
)
def test_the_share_of_a_node(requests: dict[str, int], allocatable: dict[str, int], share: float) -> None:
    assert share_of(requests, allocatable) == share

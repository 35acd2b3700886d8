"""What a run writes down of its machines: by it the cost is counted, and how often a checkpoint is due."""

from typing import Any

import pytest

from stoker.base.clock import SystemClock
from stoker.catalog import ec2, spot
from stoker.instance.metadata import Facts
from stoker.spec.run import Run
from stoker.testing.imds import FakeImds
from stoker.train.nodes import Instance, interruptions_per_hour, node_of, nodes_of
from stoker.train.world import World

pytestmark = pytest.mark.torch

SPOT = Facts("i-0123456789abcdef0", "g5.xlarge", "us-west-2a", "us-west-2", "spot")


def run_of(**more: Any) -> Run:
    return Run.model_validate({"name": "tune", "data": ("data.jsonl",), **more}, by_name=True)


def environ_of(imds: FakeImds) -> dict[str, str]:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url, "HOSTNAME": "pod-1"}


def asked(run: Run, imds: FakeImds) -> dict[str, Any]:
    environ = environ_of(imds)
    (node,) = nodes_of(run, World({}, gpus=0), Instance(run, environ, SystemClock()), environ)
    return node


def test_an_instance_says_what_it_is_and_the_catalogue_what_it_costs() -> None:
    with FakeImds() as imds:
        node = asked(run_of(), imds)
    price = spot.spot_usd_per_hour("g5.xlarge", "us-west-2")
    assert node == {
        "id": "i-0123456789abcdef0",
        "type": "g5.xlarge",
        "zone": "us-west-2a",
        "region": "us-west-2",
        "capacity": "spot",
        "usd_per_hour": price,
    }
    assert price is not None
    assert interruptions_per_hour([node, node]) == 2 * (spot.interruptions_per_hour("g5.xlarge", "us-west-2") or 0)


def test_on_demand_is_never_taken_away() -> None:
    with FakeImds(life_cycle="on-demand") as imds:
        node = asked(run_of(prices={"capacity": "spot"}), imds)
    found = ec2.find("g5.xlarge")
    assert found is not None
    assert (node["capacity"], node["usd_per_hour"]) == ("on-demand", found.usd_per_hour("us-west-2"))
    assert interruptions_per_hour([node]) == 0


def test_what_the_run_file_says_of_type_and_price_goes_before() -> None:
    said = {"instance_type": "p5.48xlarge", "usd_per_hour": 12.5, "region": "eu-west-1"}
    node = node_of(run_of(prices=said), SPOT, {})
    assert (node["type"], node["usd_per_hour"], node["region"]) == ("p5.48xlarge", 12.5, "us-west-2")


def test_where_nobody_answers_the_run_file_says_it_all() -> None:
    """Beyond the hop limit a connection is made and no token comes; the start waits a second for it."""
    with FakeImds() as imds:
        imds.tokens_arrive = False
        node = asked(run_of(prices={"instance_type": "g5.xlarge", "capacity": "spot", "region": "us-west-2"}), imds)
    assert node == {**node_of(run_of(), SPOT, {}), "id": "pod-1", "zone": None}


def test_on_a_laptop_nothing_is_known() -> None:
    with FakeImds() as imds:
        gone = environ_of(imds)
    run = run_of()
    (node,) = nodes_of(run, World({}, gpus=0), Instance(run, gone, SystemClock()), {})
    assert (node["id"], node["type"], node["usd_per_hour"]) == (None, None, None)


@pytest.mark.parametrize("how", ["watch is off", "the environment forbids it"])
def test_who_is_not_to_be_asked_is_not(how: str) -> None:
    with FakeImds() as imds:
        environ = environ_of(imds) | ({} if how == "watch is off" else {"AWS_EC2_METADATA_DISABLED": "true"})
        run = run_of(spot={"watch": False} if how == "watch is off" else {})
        assert Instance(run, environ, SystemClock()).facts() is None
        assert imds.requests == []


def test_what_is_no_word_is_not_taken_for_one() -> None:
    with FakeImds() as imds:
        imds.say("instance-type", "<html>an error of a proxy</html>")
        imds.say("placement/region", "")
        node = asked(run_of(), imds)
    assert (node["type"], node["region"], node["id"]) == (None, "us-east-1", "i-0123456789abcdef0")

"""What machines cost, to the nano-dollar: by the second, whose it was, and how it changes with prices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from stoker.meter.attribution import IDLE, PLATFORM, STARTING
from stoker.meter.prices import Prices
from stoker.policy.pod_resources import CPU, MEMORY, Amounts
from stoker.policy.volumes import Volume, volume_usd_per_hour
from stoker.simulate import bill
from stoker.simulate.result import Costs, NodeLife, ReplicaLife

NOTHING = Volume(size_gib=0)
GI = 1 << 30
MODEL: Amounts = {"nvidia.com/gpu": 1, CPU: 2000}


def node(name: str = "n", type: str = "g6.12xlarge", **of: Any) -> NodeLife:
    """Launched at 100, usable at 200, of 3.6 dollars per hour: a tenth of a cent per second."""
    given = {"usd_per_hour": 3.6, "asked_at": 90.0, "launched_at": 100.0, "ready_at": 200.0, **of}
    return NodeLife(name, "gpu", type, "us-east-1a", given.pop("capacity", "on-demand"), 4, **given)


def pod(name: str, model: str = "general", **of: Any) -> ReplicaLife:
    given = {"workload": f"Deployment ai/{model or name}", "created_at": 0.0, "node": "n", "bound_at": 200.0, **of}
    return ReplicaLife(name, model=model, **given)


def costs(
    nodes: list[NodeLife],
    pods: list[ReplicaLife] | None = None,
    *,
    ends_at: float = 1100.0,
    volume: Volume = NOTHING,
    auto_mode: tuple[str, ...] = (),
    requests: Mapping[str, Amounts] | None = None,
    work_s: Mapping[str, Mapping[str, float]] | None = None,
    prices: Prices | None = None,
) -> Costs:
    return bill.costs(
        *(nodes, pods or []),
        ends_at=ends_at,
        volumes={"gpu": volume},
        auto_mode=frozenset(auto_mode),
        requests=requests or {"Deployment ai/general": MODEL, "Deployment ai/code": MODEL},
        work_s=work_s or {},
        models=("general", "code"),
        **({} if prices is None else {"prices": prices}),
    )


@pytest.mark.parametrize(
    ("life", "is_billed"),
    [
        (node(), (100.0, 1100.0)),
        (node(gone_at=400.0), (100.0, 400.0)),
        (node(gone_at=130.0), (100.0, 160.0)),  # a minute at least
        (node(launched_at=1080.0, gone_at=1085.0), (1080.0, 1100.0)),  # as much of the minute as the run has
        (node(launched_at=-500.0), (0.0, 1100.0)),  # what came before is not billed
        (node(launched_at=-500.0, gone_at=-300.0), (0.0, 0.0)),
        (node(launched_at=-20.0, gone_at=-10.0), (0.0, 40.0)),
        (node(launched_at=None), (0.0, 0.0)),
        (node(launched_at=1100.0), (0.0, 0.0)),
        (node(gone_at=1100.0), (100.0, 1100.0)),
    ],
)
def test_from_when_to_when(life: NodeLife, is_billed: tuple[float, float]) -> None:
    assert bill.billed(life, 1100.0) == is_billed


@pytest.mark.parametrize(
    ("volume", "usd_per_month"),
    [
        (Volume(size_gib=100), 8.0),
        (Volume(size_gib=100, throughput_mibs=1000), 8.0 + 875 * 0.04),
        (Volume(size_gib=100, iops=16000), 8.0 + 13000 * 0.005),
        (Volume(size_gib=100, throughput_mibs=100, iops=100), 8.0),
        (Volume(size_gib=100, kind="gp2", throughput_mibs=1000, iops=16000), 10.0),
        (Volume(size_gib=100, kind="io2", iops=1000), 12.5 + 65.0),
        (Volume(size_gib=100, kind="unheard"), 8.0),
    ],
)
def test_a_volume_costs_its_size_and_what_it_does_above_what_is_free(volume: Volume, usd_per_month: float) -> None:
    assert volume_usd_per_hour(volume) == pytest.approx(usd_per_month / 730)


def test_the_parts_of_a_bill() -> None:
    """1,000 s at a tenth of a cent; 73 GiB are 0.008 dollars per hour; Auto Mode takes 12 % of the on-demand price of a
    g6.12xlarge, 4.6016 dollars per hour, less 35 % for a G, whatever the instance costs."""
    found = costs([node(capacity="spot")], volume=Volume(size_gib=73), auto_mode=("gpu",))
    assert found.by_part == {
        "instances": 1_000_000_000,
        "volumes": round(0.008 / 3.6 * 1e9),
        "auto mode": round(0.12 * 0.65 * 4.6016 / 3.6 * 1e9),
    }
    assert found.total == sum(found.by_part.values())
    assert found.by_capacity == {"spot": found.total}
    assert found.by_pool == {"gpu": found.total}
    assert found.by_node_type == {"g6.12xlarge": found.total}


def test_of_another_pool_auto_mode_takes_nothing() -> None:
    found = costs([node()], auto_mode=("other",))
    assert found.by_part == {"instances": 1_000_000_000}


def test_a_price_that_changes_counts_from_its_moment_on() -> None:
    """400 s at 3.6 dollars per hour, 600 at 7.2. The first price holds before it was said, too."""
    key = "g6.12xlarge", "us-east-1a", "spot"
    prices = Prices({key: ((300.0, 3.6), (500.0, 7.2), (5000.0, 99.0))})
    assert costs([node(capacity="spot", usd_per_hour=1.0)], prices=prices).total == 400_000_000 + 1_200_000_000
    assert costs([node(usd_per_hour=1.8)], prices=prices).total == 500_000_000  # on demand is another price


def test_gpus_are_what_a_node_with_gpus_is_bought_for() -> None:
    """One of four GPUs for the 900 s that it is usable; until then it starts up. The pod without one has nothing."""
    agent = pod("agent", "", workload="Deployment ai/agent")
    requests = {"Deployment ai/general": MODEL, "Deployment ai/agent": {CPU: 48000}}
    found = costs([node()], [pod("a"), agent], requests=requests)
    assert found.by_model == {STARTING: 100_000_000, "general": 225_000_000, IDLE: 675_000_000}


def test_of_other_nodes_the_larger_share_of_processors_and_memory_counts() -> None:
    """An m6i.xlarge has 3.92 cores to give; 1.96 of them are half of it, whatever little memory is with them."""
    requests = {"Deployment ai/gateway": {CPU: 1960, MEMORY: GI}}
    gateway = pod("gateway", "", workload="Deployment ai/gateway")
    found = costs([node(type="m6i.xlarge")], [gateway], requests=requests)
    assert found.by_model == {STARTING: 100_000_000, PLATFORM: 450_000_000, IDLE: 450_000_000}
    assert bill.share_of({CPU: 196, MEMORY: 8 * GI}, "m6i.xlarge") > 0.5
    assert bill.share_of({"nvidia.com/gpu": 3}, "g6.12xlarge") == 0.75


def test_a_pod_pays_from_being_bound_to_being_gone() -> None:
    leaves = pod("a", bound_at=300.0, leaving_at=500.0, gone_at=700.0)
    stays = pod("b", "code", bound_at=1000.0)
    never = pod("c", node=None, bound_at=None)
    found = costs([node()], [leaves, stays, never])
    assert found.by_model == {STARTING: 100_000_000, "general": 100_000_000, "code": 25_000_000, IDLE: 775_000_000}


def test_a_node_that_never_was_ready_starts_up_to_its_end() -> None:
    found = costs([node(ready_at=None, gone_at=400.0)])
    assert found.by_model == {STARTING: 300_000_000}


def test_tenants_pay_for_the_time_that_their_requests_took() -> None:
    """The replica has a quarter of the node for 900 s. It needs 100 of them to be ready; of the other 800 two tenants
    computed in 90 and 180. What it waited is nobody's."""
    found = costs([node()], [pod("a", ready_at=300.0)], work_s={"general": {"acme": 90.0, "globex": 180.0}})
    assert found.by_tenant == {
        STARTING: 100_000_000 + 25_000_000,
        "acme": 22_500_000,
        "globex": 45_000_000,
        IDLE: 675_000_000 + 132_500_000,
    }
    assert found.by_model == {STARTING: 100_000_000, "general": 225_000_000, IDLE: 675_000_000}
    assert sum(found.by_tenant.values()) == found.total


def test_pods_of_one_replica_are_all_paid_for_by_whose_requests_it_ran() -> None:
    """A leader and a worker, half of the node together: acme computed in half of the 900 s that the replica was there,
    so half of what both cost is acme's."""
    pods = [pod("leader", ready_at=200.0), pod("worker", ready_at=200.0, stands_for_all=False)]
    found = costs([node()], pods, work_s={"general": {"acme": 450.0}})
    assert found.by_tenant == {STARTING: 100_000_000, "acme": 225_000_000, IDLE: 450_000_000 + 225_000_000}


def test_a_tenant_pays_on_each_kind_of_machine_and_for_each_part() -> None:
    spot = node("s", capacity="spot", usd_per_hour=1.8)
    pods = [pod("a", ready_at=200.0), pod("b", node="s", ready_at=200.0)]
    found = costs([node(), spot], pods, volume=Volume(size_gib=73), work_s={"general": {"acme": 900.0}})
    of = {(cell.part, cell.capacity, cell.item, cell.model, cell.who): nano for cell, nano in found.cells.items()}
    assert of["work", "on-demand", "instances", "general", ("acme",)] == 112_500_000
    assert of["work", "spot", "instances", "general", ("acme",)] == 56_250_000
    assert of["idle", "spot", "instances", "general", ()] == 56_250_000
    assert of["idle", "spot", "instances", "", ()] == 337_500_000
    assert of["start-up", "spot", "volumes", "", ()] == 222_222  # a tenth of 1,000 s at 0.008 dollars per hour
    assert sum(of.values()) == sum(found.cells.values()) == found.total


def test_the_time_before_the_trace_is_neither_paid_nor_there() -> None:
    """Bound long before: 1,100 s count for the model, of which its tenant took all."""
    old = node(launched_at=-3000.0, ready_at=-2900.0)
    found = costs([old], [pod("a", bound_at=-2900.0, ready_at=-2800.0)], work_s={"general": {"acme": 1100.0}})
    assert found.by_tenant == {"acme": 275_000_000, IDLE: 825_000_000}


def test_dollars_per_hour_over_time() -> None:
    key = "g6.12xlarge", "us-east-1a", "spot"
    prices = Prices({key: ((0.0, 1.0), (500.0, 2.0))})
    lives = [node(capacity="spot", gone_at=800.0), node("m", launched_at=600.0), node("never", launched_at=None)]
    volumes = {"gpu": Volume(size_gib=73)}
    times = np.array([0.0, 100.0, 499.0, 500.0, 700.0, 800.0])
    found = bill.usd_per_hour_at(lives, times, volumes, frozenset(), prices)
    assert found == pytest.approx([0.0, 1.008, 1.008, 2.008, 2.008 + 3.608, 3.608])
    surcharged = bill.usd_per_hour_at(lives[1:2], times, volumes, frozenset({"gpu"}), prices)
    assert surcharged[-1] == pytest.approx(3.608 + 0.12 * 0.65 * 4.6016)

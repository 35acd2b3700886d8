"""Small clusters for the tests of disruption: nodes of a few types of which every price is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stoker.catalog.ec2 import find
from stoker.catalog.labels import CAPACITY_TYPE, HOSTNAME, INSTANCE_TYPE, NODE_POOL, ZONE, labels_of
from stoker.policy.cluster import Budget, CapacityType, Disruption, Market, Node, Offering, Pod, PodShape
from stoker.policy.disruption import Command, View, look
from stoker.policy.placement import NodePoolView, PodView, allocatable_of
from stoker.policy.requirements import Requirement, Requirements, all_of, requirement
from stoker.policy.taints import Taint

A, B = "us-east-1a", "us-east-1b"
GI = 1024**3
USD = {"m5.large": 0.096, "m5.xlarge": 0.192, "m5.2xlarge": 0.384, "m5.4xlarge": 0.768, "g5.xlarge": 1.006}
SPOT = 0.25
"""What spot costs in zone a, of the price on demand; in zone b, twice that."""
AT = datetime(2026, 2, 27, 12, tzinfo=UTC)
NOW = 10_000.0
FREELY = Disruption(budgets=(Budget(100, is_percent=True),))
GPU = "nvidia.com/gpu"


def typed(name: str) -> Any:
    found = find(name)
    assert found is not None
    return found


def offer(name: str, zone: str, capacity: CapacityType, usd: float, there: bool = True) -> Offering:
    return Offering(typed(name), zone, capacity, usd, there)


def on_demand(prices: Mapping[str, float] = USD, zones: Sequence[str] = (A,)) -> Market:
    return {name: tuple(offer(name, zone, "on-demand", usd) for zone in zones) for name, usd in prices.items()}


def with_spot(prices: Mapping[str, float] = USD) -> Market:
    return {
        name: (
            offer(name, A, "on-demand", usd),
            offer(name, B, "on-demand", usd),
            offer(name, A, "spot", usd * SPOT),
            offer(name, B, "spot", usd * SPOT * 2),
        )
        for name, usd in prices.items()
    }


def asked(
    types: Sequence[str], capacities: Sequence[str] = ("on-demand",), zones: Sequence[str] = (A,)
) -> Requirements:
    lines = ((INSTANCE_TYPE, types), (CAPACITY_TYPE, capacities), (ZONE, zones))
    return all_of(requirement(key, "In", list(values)) for key, values in lines)


def pool(
    name: str = "cpu",
    types: Sequence[str] = tuple(USD),
    capacities: Sequence[str] = ("on-demand",),
    zones: Sequence[str] = (A,),
    **rest: Any,
) -> NodePoolView:
    return NodePoolView(name, asked(types, capacities, zones), **rest)


def shape(cpu: float = 1.0, memory_gi: float = 1.0, gpus: int = 0, **rest: Any) -> PodShape:
    requests = {"cpu": round(cpu * 1000), "memory": round(memory_gi * GI)} | ({GPU: gpus} if gpus else {})
    view = rest.pop("view", {})
    return PodShape(PodView(requests=requests, **view), **rest)


SMALL = shape(0.5)


def node(
    name: str,
    type: str = "m5.xlarge",
    pods: Sequence[PodShape] = (),
    pool: str = "cpu",
    zone: str = A,
    capacity: CapacityType = "on-demand",
    **rest: Any,
) -> Node:
    """Ready since second 100, without a pod event since."""
    kind = typed(type)
    own = {ZONE: zone, CAPACITY_TYPE: capacity, NODE_POOL: pool, HOSTNAME: name}
    made = Node(
        name=name,
        pool=pool,
        type=kind,
        zone=zone,
        capacity=capacity,
        usd_per_hour=0.0,
        labels={**labels_of(kind), **own},
        taints=rest.pop("taints", ()),
        allocatable=allocatable_of(kind),
        created_at=rest.pop("created_at", 0.0),
        ready_at=rest.pop("ready_at", 100.0),
        **rest,
    )
    for each in pods:
        add(made, each)
    return made


def add(to: Node, of: PodShape, **rest: Any) -> Pod:
    made = Pod(f"{to.name}-{len(to.pods)}", of, 0.0, node=to.name, bound_at=100.0, ready_at=110.0)
    for key, value in rest.items():
        setattr(made, key, value)
    to.pods[made.name] = made
    for key, amount in {**of.requests, "pods": 1}.items():
        to.used[key] = to.used.get(key, 0) + amount
    return made


def roomy(name: str = "spare", type: str = "m5.4xlarge", **rest: Any) -> Node:
    """A node that Karpenter does not keep, with room for others' pods."""
    return node(name, type, pool="fixed", **rest)


SHUT = (Taint("own", "yes"),)


def view(nodes: Sequence[Node], *pools: NodePoolView, settings: Disruption = FREELY, **rest: Any) -> View:
    """Of the pool `cpu` where none is named; all pools with the same settings."""
    held = {each.name: each for each in (pools or (pool(),))}
    made = View(
        now=rest.pop("now", NOW),
        clock_utc=rest.pop("clock_utc", AT),
        nodes=nodes,
        waiting=rest.pop("waiting", ()),
        pools=held,
        settings=rest.pop("by_pool", dict.fromkeys(held, settings)),
        market=rest.pop("market", on_demand()),
    )
    return replace(made, **rest)


def only_spot(requirements: Requirements) -> bool:
    return requirements[CAPACITY_TYPE] == Requirement(CAPACITY_TYPE, frozenset({"spot"}))


def taken(of: View, only: frozenset[str] | None = None) -> Command:
    found = look(of, only).command
    assert found is not None
    return found


def no(of: View, name: str) -> str:
    """Why nothing comes of this node."""
    found = look(of)
    assert found.command is None
    return found.refused[name]

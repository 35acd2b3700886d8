"""Node groups of one type each, as the Cluster Autoscaler keeps them: from the command line, or made out of NodePools.

A group's nodes have the labels and taints of the NodePool that it stands for, so that the same pods fit them.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from stoker.base.errors import InvalidInput
from stoker.catalog import ec2
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import CAPACITY_TYPE, INSTANCE_TYPE
from stoker.policy.placement import NodePoolView, by_price, daemon_overhead, fitting_types, pool_types
from stoker.policy.pod_resources import Amounts
from stoker.policy.requirements import Requirements, all_of, both, requirement
from stoker.simulate import gpu_sharing
from stoker.simulate.scenario import NodeGroup, Pool, Scenario, Volume

MOST_NODES = 1000
_FORM = "TYPE[,min=N][,max=N][,spot][,pool=NODEPOOL], such as g6.2xlarge,min=0,max=10,spot"


def parse(text: str, scenario: Scenario) -> NodeGroup:
    """`g6.2xlarge,min=0,max=10,spot,pool=gpu`. Without `pool` it stands for the NodePool of the greatest weight that
    allows such nodes; for none where none does. Raises InvalidInput."""
    name, *words = [each.strip() for each in text.split(",")]
    instance = ec2.find(name)
    if instance is None:
        raise _wrong(text, f"there is no instance type {name[:60]!r}")
    given: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in ("min", "max", "spot", "on-demand", "pool") or key in given:
            raise _wrong(text, f"{word[:60]!r} is not understood")
        given[key] = value
    if "spot" in given and "on-demand" in given:
        raise _wrong(text, "a group has one capacity type")
    least, most = _number(text, given.get("min", "0")), _number(text, given.get("max", "10"))
    if least > most:
        raise _wrong(text, f"min ({least}) is above max ({most})")
    capacity = "spot" if "spot" in given else "on-demand"
    pool = _pool(text, given.get("pool"), instance, capacity, scenario)
    return _group(instance, capacity, pool, least, most)


def instead_of_pools(scenario: Scenario) -> tuple[NodeGroup, ...]:
    """What a person with node groups would have: for each workload and the NodePool of the greatest weight that takes
    it, a group of the cheapest type that one of its pods fits, spot where the pool allows spot."""
    found: dict[str, NodeGroup] = {}
    types = tuple(ec2.instance_types().values())
    for workload in scenario.workloads:
        for pool in _by_weight(scenario.pools):
            overhead = daemon_overhead(pool.view, scenario.daemons)
            allowed = sorted(pool_types(pool.view, types), key=by_price)
            fitting = list(islice(fitting_types(workload.shape.view, pool.view, allowed, overhead), 1))
            if fitting:
                asked = pool.view.capacity_types
                group = _group(fitting[0], "spot" if "spot" in asked else "on-demand", pool, 0, MOST_NODES)
                found.setdefault(group.view.name, group)
                break
    return tuple(found.values())


def with_groups(scenario: Scenario, groups: Iterable[NodeGroup]) -> Scenario:
    """The same workloads, on groups alone."""
    return replace(scenario, groups=tuple(groups), pools=())


def _group(instance: InstanceType, capacity: str, pool: Pool | None, least: int, most: int) -> NodeGroup:
    own = {
        INSTANCE_TYPE: requirement(INSTANCE_TYPE, "In", [instance.name]),
        CAPACITY_TYPE: requirement(CAPACITY_TYPE, "In", [capacity]),
    }
    if pool is None:
        view = NodePoolView(name=f"{instance.name}-{capacity}", requirements=all_of(own.values()))
        return NodeGroup(view, instance.name, least, most, Volume(size_gib=100))
    view = replace(
        pool.view,
        name=f"{pool.view.name}-{instance.name}-{capacity}",
        requirements=both(pool.view.requirements, own),
        limits={},
        weight=0,
        replicas=None,
        min_values={},
        overlays=_offered(instance, pool),
    )
    return NodeGroup(view, instance.name, least, most, pool.volume, pool.sharing)


def _offered(instance: InstanceType, pool: Pool) -> tuple[tuple[Requirements, Amounts], ...]:
    """The Cluster Autoscaler goes by what nodes of a group tell of themselves, and knows no NodeOverlays."""
    devices = gpu_sharing.offered(instance, pool.sharing)
    return (({}, devices),) if devices else pool.view.overlays


def _pool(text: str, name: str | None, instance: InstanceType, capacity: str, scenario: Scenario) -> Pool | None:
    if name is not None:
        found = next((each for each in scenario.pools if each.view.name == name), None)
        if found is None:
            there = ", ".join(each.view.name for each in scenario.pools) or "none"
            raise _wrong(text, f"there is no NodePool {name[:60]!r}; there are: {there}")
        return found
    for pool in _by_weight(scenario.pools):
        asked = pool.view.capacity_types
        if pool_types(pool.view, [instance]) and (not asked or capacity in asked):
            return pool
    return None


def _by_weight(pools: Iterable[Pool]) -> list[Pool]:
    return sorted(pools, key=lambda pool: (-pool.view.weight, pool.view.name))


def _number(text: str, written: str) -> int:
    if not (written.isascii() and written.isdigit() and int(written[:9]) <= MOST_NODES):
        raise _wrong(text, f"{written[:20]!r} is no number of nodes from 0 to {MOST_NODES}")
    return int(written)


def _wrong(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"--node-group {text[:100]!r}: {why}", param="--node-group", hint=_FORM)

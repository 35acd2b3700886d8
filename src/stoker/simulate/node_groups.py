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
from stoker.policy.placement import (
    Blocker,
    NodePoolView,
    by_price,
    daemon_overhead,
    fitting_types,
    place,
    pool_types,
)
from stoker.policy.pod_resources import Amounts
from stoker.policy.requirements import Requirements, all_of, both, requirement
from stoker.policy.volumes import Volume
from stoker.simulate import gpu_sharing
from stoker.simulate.scenario import NO_NODES, NodeGroup, Pool, Scenario, Workload

MOST_NODES = 1000
_FORM = "TYPE[,min=N][,max=N][,spot][,pool=NODEPOOL], such as g6.2xlarge,min=0,max=10,spot"


def parse(text: str, scenario: Scenario) -> NodeGroup:
    """`g6.2xlarge,min=0,max=10,spot,pool=gpu`. Without `pool` it stands for the NodePool that allows such nodes and
    whose nodes would take the most pods of those that serve models; for none where none allows them. Raises
    InvalidInput."""
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
    """The same workloads, on groups alone. Groups that are of no use are named in the notes."""
    found = tuple(groups)
    notes = [said for each in found if (said := _useless(each, scenario))]
    notes += [each for each in scenario.notes if each != NO_NODES or not found]
    return replace(scenario, groups=found, pools=(), notes=tuple(dict.fromkeys(notes)))


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
    allowing = [
        pool
        for pool in _by_weight(scenario.pools)
        if pool_types(pool.view, [instance]) and (not pool.view.capacity_types or capacity in pool.view.capacity_types)
    ]
    # Of equal ones the first, which has the greatest weight.
    return max(allowing, key=lambda pool: _taken(_group(instance, capacity, pool, 0, 1), scenario), default=None)


def _taken(group: NodeGroup, scenario: Scenario) -> tuple[int, int]:
    """How many pods of those that serve models, and of all, fit the group's nodes, by what is written: each workload
    counts as one pod at least."""
    fitting = [each for each in scenario.workloads if not in_the_way(each, group, scenario)]
    counts = [(each.serving is not None, max(each.replicas, 1) * each.pods_per_replica) for each in fitting]
    return sum(many for serves, many in counts if serves), sum(many for _, many in counts)


def in_the_way(workload: Workload, group: NodeGroup, scenario: Scenario) -> tuple[Blocker, ...]:
    """What keeps the workload's pods off the group's nodes."""
    overhead = daemon_overhead(group.view, scenario.daemons)
    instance = ec2.instance_types()[group.type]
    found = place(workload.shape.view, group.view, [instance], overhead)
    return (*found.against_pool, *found.against_type.get(group.type, ()))


def _useless(group: NodeGroup, scenario: Scenario) -> str:
    """What to say of a group on which no model can be served though it has GPUs, or that takes no pod at all; else
    nothing."""
    instance = ec2.instance_types()[group.type]
    has_devices = bool(instance.gpu_count or instance.accelerator_count)
    wanted = [each for each in scenario.workloads if each.serving is not None or not has_devices]
    against = [(each.name, in_the_way(each, group, scenario)) for each in wanted]
    if not against or not all(blockers for _, blockers in against):
        return ""
    name, blockers = min(against, key=lambda each: len(each[1]))
    who = "that serves a model " if has_devices else ""
    return f"node group {group.view.name}: no pod {who}fits it; {name}: {', '.join(_said(each) for each in blockers)}"


def _said(blocker: Blocker) -> str:
    if blocker.kind == "taint":
        return f"the taint {blocker.offered} is not tolerated"
    if isinstance(blocker.wanted, str):
        return f"the label {blocker.key} must be {blocker.wanted} and is {blocker.offered or 'not there'}"
    return f"too little {blocker.key}"


def _by_weight(pools: Iterable[Pool]) -> list[Pool]:
    return sorted(pools, key=lambda pool: (-pool.view.weight, pool.view.name))


def _number(text: str, written: str) -> int:
    if not (written.isascii() and written.isdigit() and int(written[:9]) <= MOST_NODES):
        raise _wrong(text, f"{written[:20]!r} is no number of nodes from 0 to {MOST_NODES}")
    return int(written)


def _wrong(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"--node-group {text[:100]!r}: {why}", param="--node-group", hint=_FORM)

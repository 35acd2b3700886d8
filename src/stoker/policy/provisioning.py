"""Karpenter's provisioner: which pods that wait go onto which nodes, and what nodes to launch for the rest.

The scheduling simulation, in its order: pods by size, existing and coming nodes (first fit), claims of this round, a
new claim from the pools by weight; preferences are relaxed one by one. Also what consolidation asks: "and without these
nodes?".
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from stoker.catalog.ec2 import InstanceType
from stoker.policy.cluster import Market, Node, Pod
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.pod_resources import Amounts
from stoker.policy.requirements import Requirements

BATCH_IDLE_S = 1.0
BATCH_MAX_S = 10.0
NOMINATED_S = 20.0


@dataclass(frozen=True, eq=False)
class Claim:
    """A node to launch: of any of `types` (the cheapest first), in what `requirements` leave of zones and capacity
    types, for these pods."""

    pool: NodePoolView
    pods: tuple[Pod, ...]
    types: tuple[InstanceType, ...]
    requirements: Requirements
    requests: Amounts
    """Of its pods, without DaemonSets."""


@dataclass(frozen=True, eq=False)
class Plan:
    """`onto`: pod name -> name of an existing or coming node. `unplaced`: pod name -> why, a line per pool."""

    onto: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    unplaced: Mapping[str, str] = field(default_factory=dict)


def plan(
    pods: Sequence[Pod],
    nodes: Sequence[Node],
    pools: Sequence[NodePoolView],
    market: Market,
    *,
    daemons: Collection[PodView] = (),
    may_launch: bool = True,
) -> Plan:
    """One round. `nodes` are all that are there or coming; those that are leaving are no choice, and count towards
    their pool's limits. Pods of `nodes` that are not among `pods` stay where they are."""
    raise NotImplementedError

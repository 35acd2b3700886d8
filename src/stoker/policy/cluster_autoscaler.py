"""The classic Cluster Autoscaler with node groups of one type each: what people compare Karpenter with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from stoker.catalog.ec2 import InstanceType
from stoker.policy.cluster import DisruptionBudget, Node, Pod
from stoker.policy.placement import NodePoolView, PodView

SCAN_S = 10.0
UNNEEDED_S = 600.0
AFTER_ADD_S = 600.0
THRESHOLD = 0.5
MAX_PROVISION_S = 900.0


@dataclass(frozen=True, eq=False)
class Group:
    """`nodes` are those it has, coming ones among them (a Node whose `ready_at` is None)."""

    view: NodePoolView
    type: InstanceType
    zones: tuple[str, ...]
    minimum: int
    maximum: int
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class State:
    """`unneeded_since`: by node. `failed_until`: groups that could not grow lately."""

    unneeded_since: Mapping[str, float] = field(default_factory=dict)
    last_add_at: float | None = None
    failed_until: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Decision:
    """`grow`: group -> how many nodes more. `remove`: node names. `why`: lines, the subject first."""

    grow: Mapping[str, int] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    why: tuple[tuple[str, str], ...] = ()


def scan(
    state: State,
    waiting: Sequence[Pod],
    nodes: Sequence[Node],
    groups: Sequence[Group],
    now: float,
    *,
    daemons: Collection[PodView] = (),
    budgets: Sequence[DisruptionBudget] = (),
) -> tuple[State, Decision]:
    """One scan."""
    raise NotImplementedError

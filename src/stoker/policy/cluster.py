"""What the policies that place pods and keep nodes look at: pods, nodes, what a cloud sells. Data only.

`scheduling` (kube-scheduler), `provisioning`, `launching` and `disruption` (Karpenter) and `cluster_autoscaler` read it
and return what to do; whoever keeps the cluster (today the simulator) does it. Times are seconds of one clock, amounts
are as in `pod_resources`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.catalog.ec2 import InstanceType
from stoker.policy.placement import PodView
from stoker.policy.pod_resources import Amounts
from stoker.policy.requirements import Requirements
from stoker.policy.taints import Taint

CapacityType = Literal["spot", "on-demand", "reserved"]


@dataclass(frozen=True, slots=True)
class Spread:
    """One topology spread constraint. `selector` matches labels of pods of the same namespace."""

    key: str
    max_skew: int
    selector: Requirements
    is_required: bool = True
    """`DoNotSchedule`; else `ScheduleAnyway`, which only makes nodes better or worse."""
    min_domains: int = 1
    honor_affinity: bool = True
    """Whether only nodes that the pod's own selector and affinity allow are domains (`nodeAffinityPolicy: Honor`)."""
    honor_taints: bool = False


@dataclass(frozen=True, slots=True)
class PodTerm:
    """One term of pod affinity, or of anti-affinity: pods that match, in the same domain of `key`."""

    key: str
    selector: Requirements
    namespaces: tuple[str, ...]
    is_required: bool = True
    weight: int = 1
    """Of a preferred term, 1 to 100."""


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One preferred term of node affinity."""

    requirements: Requirements
    weight: int


@dataclass(frozen=True, eq=False)
class PodShape:
    """What all pods of one template have in common."""

    view: PodView
    """Requests, requirements, tolerations, priority."""
    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    """What makes them, as text: `Deployment agentic-ai/model-code`."""
    replica_set: str = ""
    """Pods with the same text share a ReplicaSet."""
    spread: tuple[Spread, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    preferred: tuple[NodeTerm, ...] = ()
    grace_s: float = 30.0
    """`terminationGracePeriodSeconds`."""
    do_not_disrupt: bool = False
    deletion_cost: int = 0
    may_preempt: bool = True
    """False with `preemptionPolicy: Never`."""

    @property
    def requests(self) -> Amounts:
        return self.view.requests

    @property
    def priority(self) -> int:
        return self.view.priority or 0


@dataclass(slots=True, eq=False)
class Pod:
    """`node` is the name of the node it is bound to; `leaving_since` is when it was told to stop."""

    name: str
    shape: PodShape
    created_at: float
    node: str | None = None
    bound_at: float | None = None
    ready_at: float | None = None
    """None: not ready (yet)."""
    leaving_since: float | None = None
    restarts: int = 0


@dataclass(slots=True, eq=False)
class Node:
    """A machine, from the moment it is asked for. `ready_at` is when it was initialised: Ready, without startup taints,
    its devices registered; None while it is not. `used` is what its pods request, the count of them among it (`pods`);
    `daemons` is what DaemonSets take of it, which is not in `used`."""

    name: str
    pool: str
    """NodePool, or node group."""
    type: InstanceType
    zone: str
    capacity: CapacityType
    usd_per_hour: float
    """When it was launched."""
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Amounts
    created_at: float
    daemons: Amounts = field(default_factory=dict)
    ready_at: float | None = None
    leaving_since: float | None = None
    """Tainted and being drained, or about to be: no pod is put there."""
    pods: dict[str, Pod] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    last_pod_event_at: float | None = None
    """A pod bound, ended, or began to leave."""
    nominated_until: float = float("-inf")
    """Until then pods are expected that made it be launched, so that nobody takes it away."""
    is_drifted: bool = False
    known: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """What others have found out about labels and taints, which never change: a place to remember it."""

    @property
    def free(self) -> dict[str, int]:
        """What pods can still have."""
        return {
            key: amount - self.daemons.get(key, 0) - self.used.get(key, 0) for key, amount in self.allocatable.items()
        }


@dataclass(frozen=True, slots=True)
class Offering:
    """One way to buy one type: in one zone, as spot or on demand (or from a reservation, which costs nothing more)."""

    type: InstanceType
    zone: str
    capacity: CapacityType
    usd_per_hour: float
    is_available: bool = True
    depth: float = 1.0
    """Of spot: how much is thought to be there, 0 to 1; what price-capacity-optimized goes by."""


Market = Mapping[str, tuple[Offering, ...]]
"""By name of the type: all its offerings in the cluster's zones, those that have just been refused marked as not
available. A type that is not in it is not sold there."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One disruption budget of a NodePool. `nodes`: a number, or a percentage of the pool's nodes."""

    nodes: int
    is_percent: bool = False
    reasons: tuple[str, ...] = ()
    """`Underutilized`, `Empty`, `Drifted`; none: every reason."""
    schedule: str = ""
    """Cron, UTC; empty: always."""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Disruption:
    """How the nodes of one NodePool end. None: never."""

    policy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"] = "WhenEmptyOrUnderutilized"
    consolidate_after_s: float | None = 0.0
    budgets: tuple[Budget, ...] = (Budget(10, is_percent=True),)
    expire_after_s: float | None = 720 * 3600.0
    termination_grace_s: float | None = None
    """`terminationGracePeriod` of the nodes: how long a drain may take at most. None: as long as it takes."""


@dataclass(frozen=True, eq=False)
class DisruptionBudget:
    """A PodDisruptionBudget: how many of the pods that it selects may be away at once."""

    name: str
    namespace: str
    selector: Requirements
    min_available: int | None = None
    max_unavailable: int | None = None
    is_percent: bool = False

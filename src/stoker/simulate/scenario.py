"""What the manifests say, as the simulation needs it. Data only; `reading` makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from stoker.policy import hpa, keda
from stoker.policy.cluster import Disruption, DisruptionBudget, PodShape
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.volumes import Volume

Dispatch = Literal["queue", "balance"]
"""`queue`: requests wait in one place, and a replica takes one whenever it has room (Stoker; any worker on a stream).
`balance`: each is sent to a replica as it comes and waits there, in the engine's own queue (a Service, a router)."""


NO_NODES = "no NodePool is in sight, and no node group is given: no pod finds a node"
"""A note of a scenario without either."""


@dataclass(frozen=True, eq=False)
class Serving:
    """How the replicas of one model serve it, as far as the pods' command lines say."""

    model: str
    """The name that clients ask for."""
    weights: str
    """`Qwen/Qwen3-8B`; empty where nothing says."""
    gpus: int
    """Of one replica, over all its nodes."""
    dispatch: Dispatch
    concurrency: int
    """Requests that a replica has at once at most: the worker's, or `--max-num-seqs`."""
    max_model_len: int | None = None
    """Tokens of prompt and answer; None: the model's own."""
    max_batched_tokens: int = 8192
    memory_share: float = 0.9
    """`--gpu-memory-utilization`."""
    quantization: str = ""
    prefix_caching: bool = True


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    size_bytes: int
    """Compressed, as pulled."""
    unpacked_bytes: int
    is_lazy: bool = False
    """Read as it is needed (SOCI), or on the node's volume already."""


@dataclass(frozen=True, eq=False)
class Load:
    """What one replica of a workload does between being bound and being ready."""

    images: tuple[Image, ...] = ()
    weights_bytes: int = 0
    weights_from: Literal["hub", "s3", "volume", "node", "none"] = "none"
    probe_period_s: float = 10.0
    """Of the startup or readiness probe: it is seen ready by the next of them."""
    prestop_s: float = 0.0
    """How long `preStop` waits at least before it looks whether requests still run."""
    drains: bool = True
    """Whether `preStop` or the process itself waits for requests that run; else they are cut off at once."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Pods of one template. `name` is `Deployment agentic-ai/model-code`. With `pods_per_replica` above 1 (a
    LeaderWorkerSet) a replica is ready when all its pods are."""

    name: str
    kind: str
    shape: PodShape
    replicas: int
    """As written, 1 where nothing is; a scaler moves it from there."""
    load: Load = field(default_factory=Load)
    serving: Serving | None = None
    pods_per_replica: int = 1
    has_identity: bool = False
    """A StatefulSet's pods have numbers: one that goes comes back with the same, and not before it is gone; of several
    the last goes first."""
    in_order: bool = False
    """With numbers: the next is not made before all others are ready (`OrderedReady`)."""
    keeps_zone: bool = False
    """With numbers: each has volumes of its own, which are in one zone for good (EBS)."""


SignalKind = Literal[
    "waiting",  # tasks that no worker has taken: lag of the stream's group
    "pending",  # taken and not acknowledged
    "length",  # all entries of the stream: waiting and pending (and what nobody deletes: `never_falls`)
    "in_flight",  # requests that replicas have: running, and waiting in engines
    "engine_waiting",  # in engines' own queues
    "requests_per_s",
    "tokens_per_s",
    "gpu_utilization",  # 0 to 100, mean over replicas
    "cpu_utilization",
    "kv_usage",  # 0 to 1
    "time",  # KEDA's cron trigger
    "unknown",  # cannot be computed: an error, as when the source does not answer
    "running",  # in replicas, without what waits in engines
]


@dataclass(frozen=True, slots=True)
class Signal:
    """What one trigger or HPA metric reads of the model that it scales."""

    kind: SignalKind
    delay_s: float = 0.0
    """How old it is at most: scrape interval, CloudWatch's period. The value is that of the last multiple."""
    window_s: float = 0.0
    """Over how long it is a mean or a rate; 0: the value at that moment."""
    factor: Fraction = Fraction(1)
    model: str = ""
    """Whose; empty: of the workload that is scaled."""
    cron: tuple[str, str, str, int] | None = None
    """Start, end, time zone and replicas of a cron trigger."""
    said: str = ""
    """The trigger as written, in a few words."""
    across: Literal["", "sum", "mean"] = ""
    """Over the ready replicas; empty: as the kind says (counts and rates: the sum; utilisations and `kv_usage`: the
    mean)."""
    by_pods: Literal["", "Utilization", "AverageValue"] = ""
    """A metric that the HPA takes pod by pod (`Resource`), with its target's type; empty: one number for all."""
    otherwise: int | None = None
    """Of `unknown`: what is read all the time, in thousandths, as CloudWatch's `minMetricValue` where nobody publishes
    the metric. None: an error."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """A ScaledObject (`scaled`) or an HPA alone (`autoscaler`). `signals` are by the trigger's or metric's name."""

    name: str
    target: str
    """The workload's `name`."""
    signals: Mapping[str, Signal]
    scaled: keda.ScaledObject | None = None
    autoscaler: hpa.Autoscaler | None = None
    targets: Mapping[str, tuple[int, hpa.MetricType]] = field(default_factory=dict)
    """Of an HPA alone: target in thousandths and type, by metric."""
    paused_at: int | None = None


@dataclass(frozen=True, slots=True)
class Sharing:
    """How several pods have one GPU, as the device plugin of the nodes is told."""

    how: Literal["time-slicing", "mps", "mig"]
    places: int = 0
    """Pods on each GPU; 0 with `mig`, where the profile says it."""
    profile: str = ""
    """Of `mig`: `3g.40gb`; empty where nothing says."""
    resource: str = "nvidia.com/gpu"
    """What pods ask for."""


@dataclass(frozen=True, eq=False)
class Pool:
    """A NodePool with its node class."""

    view: NodePoolView
    disruption: Disruption = field(default_factory=Disruption)
    volume: Volume = field(default_factory=Volume)
    is_auto_mode: bool = False
    sharing: Sharing | None = None
    """None: each pod has its GPUs for itself."""
    node_class: str = ""


@dataclass(frozen=True, eq=False)
class NodeGroup:
    """Nodes of one type that something other than Karpenter keeps: an Auto Scaling group, scaled by the Cluster
    Autoscaler between `minimum` and `maximum` (both the same: fixed)."""

    view: NodePoolView
    type: str
    minimum: int
    maximum: int
    volume: Volume = field(default_factory=Volume)
    sharing: Sharing | None = None


@dataclass(frozen=True, eq=False)
class Scenario:
    """`default_model` is where requests go that name none. `notes` are for the person: what was taken for granted, what
    was passed over and why."""

    workloads: tuple[Workload, ...]
    scalers: tuple[Scaler, ...] = ()
    pools: tuple[Pool, ...] = ()
    groups: tuple[NodeGroup, ...] = ()
    budgets: tuple[DisruptionBudget, ...] = ()
    daemons: tuple[PodView, ...] = ()
    zones: tuple[str, ...] = ()
    region: str = "us-east-1"
    default_model: str = ""
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.serving.model for each in self.workloads if each.serving is not None))

"""All that came of one run, for reports: plain data.

Times are seconds since the trace began; before 0 is warm-up, which is neither counted nor billed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stoker.meter.bill import Cell
from stoker.simulate.trace import Trace

IN_FLIGHT, SERVED, TOO_LONG, TIMED_OUT, NO_REPLICA, LOST = range(6)
"""What became of a request: still there at the end; answered; more tokens than the model takes; waited longer than it
may; no replica was there and nothing that it could wait in; cut off with its replica, and nobody runs it again. All
after SERVED are rejected."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One row per request of the trace, in its order. NaN where it did not happen."""

    state: NDArray[np.int8]
    model: NDArray[np.int16]
    """Index into `Result.models`."""
    started_at: NDArray[np.float64]
    """A replica took it (the last that did)."""
    first_at: NDArray[np.float64]
    """First token."""
    done_at: NDArray[np.float64]
    completion_tokens: NDArray[np.int32]
    """Produced: fewer than asked for where the model's length cut it."""
    cached_tokens: NDArray[np.int32]
    """Of the prompt, that were not computed again."""
    attempts: NDArray[np.int16]
    replica: NDArray[np.int32]
    """Index into `Result.replicas`, of the last that took it; -1: none."""


@dataclass(slots=True)
class ReplicaLife:
    """One pod (of a serving workload: one replica), by phase. None: it did not get there. Times in order:
    created, scheduled onto a node, its image there, weights loaded, ready, told to leave, gone."""

    name: str
    workload: str
    model: str
    created_at: float
    node: str | None = None
    bound_at: float | None = None
    pulled_at: float | None = None
    loaded_at: float | None = None
    ready_at: float | None = None
    leaving_at: float | None = None
    gone_at: float | None = None
    why_gone: str = ""
    requests: int = 0
    gpus: int = 0
    stands_for_all: bool = True
    """Of the pods of one replica (a LeaderWorkerSet's leader and workers) the first, whose phases are the replica's: it
    is ready when all are."""


@dataclass(slots=True)
class NodeLife:
    """One machine. It is billed from `launched_at` to `gone_at`."""

    name: str
    pool: str
    type: str
    zone: str
    capacity: str
    gpus: int
    usd_per_hour: float
    asked_at: float
    launched_at: float | None = None
    registered_at: float | None = None
    ready_at: float | None = None
    leaving_at: float | None = None
    gone_at: float | None = None
    why: str = ""
    """Why it was launched: the first pods it was for."""
    why_gone: str = ""
    noticed_at: float | None = None
    """EC2's notice that it takes the machine back."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """How many accelerators it offered to pods, where that is not what its type has: shares of GPUs."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal. `kind` is of a small vocabulary (`journal.KINDS`); `subject` is the pod, node, model or
    pool that it is about; `data` is what a person who doubts it wants to see."""

    at: float
    kind: str
    subject: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spell:
    """For how long an autoscaler would have had more replicas of the workload `subject` than its `limit`; `asked` is
    the most that its metrics asked for."""

    subject: str
    scaler: str
    from_s: float
    to_s: float
    limit: int
    asked: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """Columns over `at`, one value per step. By model: replicas wanted and ready, waiting, running; by (pool, type,
    capacity): nodes; dollars per hour."""

    at: NDArray[np.float64]
    wanted: Mapping[str, NDArray[np.int32]]
    ready: Mapping[str, NDArray[np.int32]]
    waiting: Mapping[str, NDArray[np.int32]]
    running: Mapping[str, NDArray[np.int32]]
    nodes: Mapping[tuple[str, str, str], NDArray[np.int32]]
    """(pool, type, capacity type)"""
    usd_per_hour: NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Nano-dollars; each mapping sums to `total` exactly."""

    total: int
    by_node_type: Mapping[str, int]
    by_capacity: Mapping[str, int]
    by_model: Mapping[str, int]
    """Models, and `(platform)`: pods that serve none; `(start-up)`: nodes before they could run anything; `(idle)`:
    what no pod had of a node."""
    by_tenant: Mapping[str, int]
    """Tenants, and the same; of models, `(start-up)` is what replicas cost before they were ready, and `(idle)` what
    they cost while they computed nothing."""
    by_pool: Mapping[str, int] = field(default_factory=dict)
    by_part: Mapping[str, int] = field(default_factory=dict)
    """`instances`, `volumes`, `auto mode`."""
    cells: Mapping[Cell, int] = field(default_factory=dict)
    """All of it at once; `who` is the tenant."""


@dataclass(frozen=True, eq=False)
class Result:
    trace: Trace
    models: tuple[str, ...]
    outcomes: Outcomes
    replicas: tuple[ReplicaLife, ...]
    nodes: tuple[NodeLife, ...]
    timeline: Timeline
    journal: tuple[Event, ...]
    costs: Costs
    began_at: str
    """The moment 0, ISO 8601 UTC."""
    ended_at_s: float
    seed: int
    notes: tuple[str, ...]
    assumptions: Mapping[str, Any]
    """Names and values of what was assumed, for `docs/simulate/assumptions.md`."""
    wall_s: float = 0.0
    kind: Literal["karpenter", "groups", "fixed", "none"] = "karpenter"
    spells: tuple[Spell, ...] = ()
    """When autoscalers were at their maximum."""

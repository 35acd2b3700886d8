"""What happened in a run, line by line, and what it comes to. No torch; the fold is pure.

One file for each launch, `record/e0003.jsonl` in the run's store (in parts of a few MB: `e0003-0001.jsonl`); appended to
as things happen where the store is a folder, sent behind training (with each checkpoint, at the end, and once a minute)
where it is S3. Every line has `kind` and `at` (seconds since the epoch).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.registry.stores import Store

KINDS: Mapping[str, tuple[str, ...]] = {
    # epoch, nodes: [{id, type, zone, capacity, region, usd_per_hour}], processes, run, config_digest, data_digest,
    # base_digest, started_at (of the process), steps (of the whole run)
    "launch": ("epoch", "nodes", "processes", "started_at", "steps"),
    # of which checkpoint, what was skipped and why, seconds of reading it
    "resume": ("step", "name", "skipped", "seconds"),
    # number of steps done, loss (repr of a float64, exact), tokens, rate, norm; seconds of the step as a whole; of these
    # waiting for data, and stalled by a save. samples: sha256 (16 hex digits) of the step's example indices
    "step": ("step", "loss", "tokens", "rate", "norm", "seconds", "data_s", "stall_s", "samples"),
    "validate": ("step", "loss", "seconds"),
    # durable: name, step, stall_s (training waited), seconds (until HEAD named it), bytes, why (interval, notice, end...)
    "save": ("step", "name", "stall_s", "seconds", "bytes", "why"),
    "save_failed": ("step", "name", "why"),
    "wish": ("wish", "reason"),
    # still there; written every few seconds, so that the end of a process that was killed is known
    "alive": (),
    # completed, preempted, budget, failed, fenced
    "end": ("state", "why", "step"),
}


class Writer:
    """Append records of one launch. Cheap: 20 microseconds a line; never raises because the store is away."""

    def __init__(self, store: Store, epoch: int) -> None:
        raise NotImplementedError

    def add(self, kind: str, at: float, **fields: Any) -> None:
        raise NotImplementedError

    def send(self) -> None:
        """What was added and is not in the store yet; called behind training. Errors are logged once."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def read(store: Store) -> list[dict[str, Any]]:
    """All records of a run, by launch and in order. A last line that is cut off is left out."""
    raise NotImplementedError


@dataclass(frozen=True)
class Money:
    """Nano-dollars: `paid` by the nodes, and who had it; sums to `paid`."""

    paid: int
    by_cause: Mapping[str, int]


CAUSES = ("useful", "start", "restore", "recompute", "save", "data", "evaluate", "idle")
"""Where the seconds of a run's nodes went: steps that count; process start to the first step; reading a checkpoint; steps
that were lost and done again; training stalled by saves; waiting for data; measuring the validation loss; the rest
(between the last sign of life and the next launch only while a node is paid for)."""


@dataclass(frozen=True)
class Summary:
    """What a run comes to. `losses`: by step, of the launch that counts. `lost_work_s`: seconds of steps that had to be
    done again, or are lost so far. `goodput`: useful seconds / all seconds that were paid for. `seconds`: by cause, of
    node-time divided by nodes; sums to the paid time."""

    run: str
    state: str
    """running, completed, preempted, budget, failed, lost (no sign of life)."""
    steps: int
    steps_of_all: int
    losses: Mapping[int, float]
    validation: Mapping[int, float]
    samples: Mapping[int, str]
    tokens: int
    launches: int
    interruptions: tuple[str, ...]
    lost_steps: int
    lost_work_s: float
    seconds: Mapping[str, float]
    goodput: float | None
    usd: float | None
    usd_by_cause: Mapping[str, float] = field(default_factory=dict)
    checkpoints: int = 0
    started_at: float | None = None
    ended_at: float | None = None


def summary(records: Iterable[Mapping[str, Any]], *, now: float) -> Summary:
    """Fold. Each launch is a segment for each of its nodes, from started_at to its end or last sign of life; each costs its
    price times its time (`usd_per_hour` of the record, or the price timeline)."""
    raise NotImplementedError

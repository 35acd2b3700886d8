"""Before anything starts: does it fit, how long does a save take, which guarantee holds, what will it cost. No torch.

Pure but for `measure`, which writes a file to see how fast the place of checkpoints is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stoker.registry.stores import Store
from stoker.spec import Run


@dataclass(frozen=True)
class Size:
    """Of what is trained: parameters in all, those that are trained, bytes of one checkpoint (weights that are trained in
    float32, two moments each), FLOPs of one token forward and backward."""

    parameters: int
    trained: int
    checkpoint_bytes: int
    flops_per_token: float


def save_seconds(checkpoint_bytes: int, *, bytes_per_s: float, writers: int, fixed_s: float) -> float:
    """How long a save takes, from the step's end until HEAD names it; `writers` write at once, each at that speed."""
    raise NotImplementedError


def measure(store: Store, *, bytes_at_most: int = 64 << 20) -> tuple[float, float]:
    """Bytes per second of a write like a shard's, and the fixed seconds of a small one. Leaves nothing behind."""
    raise NotImplementedError


@dataclass(frozen=True)
class Guarantee:
    """`holds`: a save that begins with a notice is durable within the grace. `words` say it with the figures, and what
    would be right where it does not."""

    holds: bool
    predicted_s: float
    grace_s: float
    words: str


def guarantee(run: Run, size: Size, *, bytes_per_s: float, fixed_s: float, step_s: float) -> Guarantee:
    """One step is finished first."""
    raise NotImplementedError


def interval_s(save_s: float, interruptions_per_hour: float) -> float:
    """Young's: sqrt(2 * seconds of a save * mean seconds between failures) (arXiv 2410.18124 repeats it), 30 s at least,
    an hour at most. `save_s` is what a save costs training, at least 0.1 s."""
    raise NotImplementedError


@dataclass(frozen=True)
class Option:
    """One way to buy the run. `interruptions`: expected in all. `usd_low` and `usd_high` where the price is a range."""

    instance_type: str
    nodes: int
    capacity: str
    hours: float
    interruptions: float
    usd: float | None
    usd_per_million_tokens: float | None
    note: str = ""


def options(run: Run, size: Size, tokens: int, *, save_s: float, regions: Sequence[str]) -> list[Option]:
    """The run on each GPU type of the catalogue that holds it, on demand and on spot, cheapest first: FLOPs over the
    peak of the GPU times the part of it that fine-tuning reaches; on spot, expected interruptions each cost half an
    interval and a restart. What the guide's table shows, computed."""
    raise NotImplementedError


def choose_capacity(*, hours_left: float, hours_to_deadline: float, spot_available: bool, restart_h: float) -> str:
    """spot or on-demand, now, for a run that has a deadline: on spot as long as what is left, done on demand, would still
    be in time (Can't Be Late, NSDI 2024: its safety net, with Uniform Progress in between)."""
    raise NotImplementedError

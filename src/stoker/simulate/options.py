"""What a person may ask of a run, beside manifests and trace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, eq=False)
class Options:
    """Times in seconds. The moment 0 is when the trace begins."""

    seed: int = 0
    hours: float | None = None
    """When the run ends; None: when all requests are done, at most `after_s` after the last of them came."""
    after_s: float = 1800.0
    cold: bool = False
    """Nothing runs at 0. Otherwise the cluster has had `warm_up_s` without a request, which is not billed."""
    warm_up_s: float = 3600.0
    timeout_s: float = 600.0
    """How long a request waits for a replica at most: the time-out of OpenAI's clients."""
    retries: bool | None = None
    """Whether what is cut off with its replica runs again; None: where it comes from a queue."""
    lease_s: float = 60.0
    """After how long a queue hands out again what a dead worker held."""
    began_at: datetime | None = None
    """UTC; None: the trace's own, or a Monday, 00:00."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Where requests go that name no model of the scenario: shares by model. Empty: all to the default."""
    interruptions_per_hour: float | None = None
    """Of each spot node; None: by the Spot Instance Advisor's bucket of its type."""
    rebalance_s: float = 900.0
    """How long before its notice a spot node is recommended for rebalancing, which Karpenter only logs."""
    available: tuple[tuple[float, int], ...] = ()
    """A recorded spot market: from each time on, how many spot nodes there are to be had."""
    prices: str = ""
    """A file of prices over time (`prices.read_prices`); empty: the catalogue's, which do not change."""
    no_capacity: float = 0.0
    """Share of all offerings that have no capacity at any one time; drawn anew every 10 minutes."""
    spot_to_spot: bool = False
    drift_at: float | None = None
    """When all nodes there are begin to differ from their pools (a new AMI)."""
    priors: Mapping[str, float] = field(default_factory=dict)
    """Overrides of `latencies.Priors`, by name."""
    step_s: float = 15.0
    """Of the timeline, at least; a long run has longer steps."""

"""Which nodes Karpenter takes away by itself: empty, drifted, underused ones, within the budgets of their pools.

One pass in its order: emptiness, drift, several nodes at once, one node. What a command does (taint, launch, wait,
drain) is the caller's; so are expiry and interruption, which no budget holds back.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from stoker.policy.cluster import Budget, Disruption, DisruptionBudget, Market, Node, Pod
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.provisioning import Claim

PASS_S = 10.0
"""A pass that did nothing is followed by the next after this long; one that acted, at once."""
VALIDATION_S = 15.0
MEMO_S = 300.0
"""A pass that found nothing is not repeated before something changes, or this long."""

Reason = Literal["Empty", "Drifted", "Underutilized"]


@dataclass(frozen=True, eq=False)
class Command:
    """Take `nodes` away, once `replacement` (None: nothing) is ready. `why` is a line with the figures.

    With `needs_validation` the caller waits VALIDATION_S, asks again with `only` these nodes, and drops it when the
    answer differs."""

    reason: Reason
    nodes: tuple[str, ...]
    replacement: Claim | None
    saves_usd_per_hour: float
    why: str
    needs_validation: bool = True


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass came to. `refused`: node -> why it is no candidate, or why nothing better was found for it, for
    people who ask why it is still there. `is_blocked_by_budget`: not to be remembered as nothing found."""

    command: Command | None
    refused: Mapping[str, str]
    is_blocked_by_budget: bool = False


@dataclass(frozen=True, eq=False)
class View:
    """All that a pass looks at. `waiting` are pods that no node has. `disrupting`: names of nodes that a command that
    goes on is about. `clock_utc` is the moment, for budgets with a schedule."""

    now: float
    clock_utc: datetime
    nodes: Sequence[Node]
    waiting: Sequence[Pod]
    pools: Mapping[str, NodePoolView]
    settings: Mapping[str, Disruption]
    market: Market
    budgets: Sequence[DisruptionBudget] = ()
    daemons: Collection[PodView] = ()
    disrupting: frozenset[str] = frozenset()
    spot_to_spot: bool = False


def look(view: View, only: frozenset[str] | None = None) -> Pass:
    """One pass; with `only`, as the validation of a command about these nodes."""
    raise NotImplementedError


def allowed(budgets: Sequence[Budget], reason: Reason, total: int, away: int, at: datetime) -> int:
    """How many more nodes of a pool may be disrupted for `reason` now; `total` are its initialised nodes, `away` those
    that are not ready or being disrupted already."""
    raise NotImplementedError

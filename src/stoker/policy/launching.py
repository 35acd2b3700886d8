"""What AWS is asked for a NodeClaim, and what it gives: Karpenter's filters of offerings, and CreateFleet's choice."""

import random
from dataclasses import dataclass

from stoker.policy.cluster import CapacityType, Market, Offering
from stoker.policy.provisioning import Claim

UNAVAILABLE_S = 180.0
"""How long an offering that was refused is not asked for again."""
MOST_TYPES = 60


@dataclass(frozen=True, eq=False)
class Request:
    """One CreateFleet: of one capacity type, any of these, the most wanted first."""

    capacity: CapacityType
    offerings: tuple[Offering, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    """Type and why it was not asked for, of types that the claim allowed."""


def request(claim: Claim, market: Market) -> Request | None:
    """What Karpenter asks for; None where nothing that the claim allows is available."""
    raise NotImplementedError


def fleet(request: Request, has_capacity: dict[tuple[str, str, str], bool], chance: random.Random) -> Offering | None:
    """What EC2 gives: on demand the cheapest that is there, spot by price and depth. `has_capacity` is by (type, zone,
    capacity type), True where it is not said. None: insufficient capacity everywhere."""
    raise NotImplementedError

"""Machines, who was on them, and what they cost an hour: plain data, without the database that `lives` keeps it in."""

from dataclasses import dataclass

LOCAL = "local"
"""The capacity of a machine that nobody bought by the hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLife:
    """One machine. `id` is the instance's where it has one; `capacity` is "on-demand", "spot", "reserved" or "local".

    Money is nano-dollars per hour: `nano_usd_per_hour` for the instance where no price step says otherwise, and
    `extra_nano_usd_per_hour` for its volumes and fees. It is billed from `began_at`; pods could run on it from
    `usable_at` on. Times are seconds since the epoch; `ended_at` None: it was still there when it was last seen.
    `why` it is taken away, in Karpenter's words (Underutilized, Empty, Drifted), where it was said.
    """

    id: str
    pool: str
    capacity: str
    type: str
    zone: str
    nano_usd_per_hour: int
    extra_nano_usd_per_hour: int = 0
    began_at: float
    usable_at: float | None = None
    seen_at: float
    ended_at: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StayLife:
    """Somebody had `share` (0 to 1) of a machine. `replica` is the name that usage records have for it, `model` what it
    served; both are empty for what serves no model. From `ready_at` on it could serve."""

    id: str
    machine: str
    workload: str
    model: str = ""
    replica: str = ""
    share: float
    began_at: float
    ready_at: float | None = None
    seen_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceStep:
    """What an offering cost from a moment on."""

    type: str
    zone: str
    capacity: str
    at: float
    nano_usd_per_hour: int

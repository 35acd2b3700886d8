"""Whose money a machine was: its bill split over who was on it, and over tenants by the work that they caused.

Pure and exact: nano-dollars are split by the largest remainder, so the parts of a bill sum to the bill. Used by the
simulator for what would be paid, and by `stoker cost` for what was.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

STARTING = "(start-up)"
"""A machine before anything could run on it."""
IDLE = "(idle)"
"""What nobody had of a machine, and what a replica had of one while it computed nothing."""
PLATFORM = "(platform)"
"""What serves no model: gateway, queue, ledger, monitoring."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`nano_usd` is its whole bill from `began_at` to `ended_at`; pods could run on it from `usable_at` on (never,
    where that is after its end). Times are seconds."""

    name: str
    nano_usd: int
    began_at: float
    usable_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Stay:
    """`who` had `share` of a machine (0 to 1, of whatever it is bought for: GPUs where it has some) for a time."""

    machine: str
    who: str
    share: float
    began_at: float
    ended_at: float


Name = TypeVar("Name", bound="Comparable")


class Comparable(Hashable, Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


def split(total: int, weights: Mapping[Name, float]) -> dict[Name, int]:
    """`total` in parts by weight, in whole numbers that sum to it: each its floor, and what is left one by one to the
    largest remainders (then by name). Without weight, nobody has anything. Raises ValueError for a negative weight."""
    if any(weight < 0 for weight in weights.values()):
        raise ValueError(f"a weight below 0: {weights}")
    exact = {name: weight.as_integer_ratio() for name, weight in weights.items() if weight > 0}
    if not exact:
        return {}
    # Denominators of floats are powers of two: the largest is a multiple of each.
    scale = max(denominator for _, denominator in exact.values())
    whole = {name: numerator * (scale // denominator) for name, (numerator, denominator) in exact.items()}
    sum_of_all = sum(whole.values())
    found, rest = {}, {}
    for name, weight in whole.items():
        found[name], rest[name] = divmod(total * weight, sum_of_all)
    left = total - sum(found.values())
    for name in sorted(rest, key=lambda name: (-rest[name], name))[:left]:
        found[name] += 1
    return found


def by_user(machines: Iterable[Machine], stays: Sequence[Stay]) -> dict[str, int]:
    """All bills by who was on the machines, with STARTING and IDLE; sums to the bills. Where those on a machine had
    more than all of it (of processors one, of memory the other), each has that much less."""
    of: dict[str, list[Stay]] = {}
    for stay in stays:
        of.setdefault(stay.machine, []).append(stay)
    found: dict[str, int] = {}
    for machine in machines:
        usable_at = min(max(machine.usable_at, machine.began_at), machine.ended_at)
        usable_s = machine.ended_at - usable_at
        weights: dict[str, float] = {}
        for stay in of.get(machine.name, ()):
            lasted_s = min(stay.ended_at, machine.ended_at) - max(stay.began_at, usable_at)
            if lasted_s > 0 and stay.share > 0:
                weights[stay.who] = weights.get(stay.who, 0.0) + lasted_s * stay.share
        used_s = sum(weights.values())
        if used_s > usable_s:
            weights = {who: weight * usable_s / used_s for who, weight in weights.items()}
        else:
            weights[IDLE] = weights.get(IDLE, 0.0) + usable_s - used_s
        weights[STARTING] = usable_at - machine.began_at
        if not any(weight > 0 for weight in weights.values()):
            weights[STARTING] = 1.0  # it was billed, and ended in the moment it began
        for who, part in split(machine.nano_usd, weights).items():
            found[who] = found.get(who, 0) + part
    return found


def by_tenant(
    models: Mapping[str, int], work_s: Mapping[str, Mapping[str, float]], capacity_s: Mapping[str, float]
) -> dict[str, int]:
    """`models` is what `by_user` found. The money of each model goes to tenants by `work_s`: seconds of a replica that
    their requests took, of the `capacity_s` that its replicas were there; the rest of it is IDLE. What is no model
    stays what it is. Sums to the same."""
    found: dict[str, int] = {}
    for who, nano in models.items():
        weights = dict(work_s.get(who, {}))
        if who not in capacity_s:
            parts = {who: nano}
        else:
            idle_s = max(0.0, capacity_s[who] - sum(weights.values()))
            parts = split(nano, {**weights, IDLE: weights.get(IDLE, 0.0) + idle_s}) or {IDLE: nano}
        for name, part in parts.items():
            found[name] = found.get(name, 0) + part
    return found

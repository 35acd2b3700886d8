"""What machines cost an hour at this moment. Pure; `lives` has them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stoker.meter.attribution import IDLE, PLATFORM, STARTING
from stoker.meter.lives import MachineLife, PriceStep, StayLife
from stoker.meter.prices import recorded

FRESH_S = 90.0
"""A life that was seen longer ago is over, or nobody looks any more."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars an hour: by pool and capacity, by type and capacity, and by model (IDLE: what nobody has of a
    machine; STARTING: one on which nothing can run yet). All sum to the same, but for what is rounded."""

    by_pool: dict[tuple[str, str], int] = field(default_factory=dict)
    by_type: dict[tuple[str, str], int] = field(default_factory=dict)
    by_model: dict[str, float] = field(default_factory=dict)


def rates(
    machines: Iterable[MachineLife], stays: Iterable[StayLife], prices: Sequence[PriceStep], *, now: float
) -> Rates:
    found = Rates()
    on: dict[str, list[StayLife]] = {}
    for stay in stays:
        if _is_there(stay, now) and stay.share > 0:
            on.setdefault(stay.machine, []).append(stay)
    history = recorded(prices)
    for machine in machines:
        if not _is_there(machine, now):
            continue
        offering = machine.type, machine.zone, machine.capacity
        nano = int(history.at(offering, now, machine.nano_usd_per_hour)) + machine.extra_nano_usd_per_hour
        for sums, name in ((found.by_pool, machine.pool), (found.by_type, machine.type)):
            sums[name, machine.capacity] = sums.get((name, machine.capacity), 0) + nano
        if machine.usable_at is None or machine.usable_at > now:
            _add(found, STARTING, nano)
            continue
        here = on.get(machine.id, [])
        of_all = sum(stay.share for stay in here)
        for stay in here:
            _add(found, stay.model or PLATFORM, nano * stay.share / max(1.0, of_all))
        _add(found, IDLE, nano * max(0.0, 1.0 - of_all))
    return found


def _is_there(life: MachineLife | StayLife, now: float) -> bool:
    return life.ended_at is None and life.seen_at >= now - FRESH_S


def _add(found: Rates, model: str, nano: float) -> None:
    if nano:
        found.by_model[model] = found.by_model.get(model, 0.0) + nano

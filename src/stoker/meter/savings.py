"""What machines would have cost otherwise: on demand instead of spot, and every pool at its peak all the time (a
laptop's has none: nobody buys it by the hour). Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from stoker.meter.bill import end_of
from stoker.meter.bill_lines import Bill, nano_of
from stoker.meter.costs import machine_lines
from stoker.meter.lives import LOCAL, Lives, MachineLife, PriceStep
from stoker.meter.money import dollars

OnDemand = Callable[[str, str], int | None]
"""Type and zone -> nano-dollars per hour on demand; None where nobody knows it."""
_HOW_SPOT = "each spot machine's time at its type's on-demand price, less what it was billed; volumes cost the same"
_HOW_SCALING = "the most that each pool's machines cost in an hour, at once, for the whole time, less what they cost"
_HOW_CONSOLIDATION = (
    "what each machine that Karpenter took away as empty or underutilized would have cost on until its pool grew again,"
    " less its replacement's cost; a part of scaling"
)
_NO_CONSOLIDATION = "not told apart: no machine that ended says why, so it is part of scaling"
CONSOLIDATED = ("Empty", "Underutilized")
REPLACED_WITHIN_S = 900.0
"""Karpenter starts what replaces a machine first, and takes the machine away when that is ready and it is drained."""


def list_prices(steps: Iterable[PriceStep] = ()) -> OnDemand:
    """The platform's own on-demand prices, the last of each; else the catalogue's of the zone's region."""
    own = {(step.type, step.zone): step.nano_usd_per_hour for step in steps if step.capacity == "on-demand"}

    def price(type_: str, zone: str) -> int | None:
        from stoker.catalog.ec2 import REGION, instance_types, region_of

        if (type_, zone) in own:
            return own[type_, zone]
        known = instance_types().get(type_)
        usd = None if known is None else known.prices.get(region_of(zone) or REGION)
        return None if usd is None else round(usd * 1e9)

    return price


def of_lives(lives: Lives, *, since: float, until: float) -> dict[str, Any]:
    """From when the first machine began, if that is later: before it there was no platform that could save. Raises
    Unavailable."""
    first = lives.first()
    since = since if first is None else min(max(since, first), until)
    prices = lives.prices(until=until)
    machines = lives.machines(since=since, until=until)
    return of_machines(machines, prices, list_prices(prices), since=since, until=until)


def of_machines(
    machines: Sequence[MachineLife], prices: Sequence[PriceStep], on_demand: OnDemand, *, since: float, until: float
) -> dict[str, Any]:
    by_id = {machine.id: machine for machine in machines}
    lines = machine_lines(machines, prices, since=since, until=until)
    spot: dict[tuple[str, str], list[float]] = {}
    unknown: set[str] = set()
    for line in lines:
        machine = by_id[line.machine]
        if machine.capacity != "spot" or line.item != "instance":
            continue
        per_hour = on_demand(machine.type, machine.zone)
        if per_hour is None:
            unknown.add(machine.type)
            continue
        hours = (line.ended_at - line.began_at) / 3600
        sums = spot.setdefault((machine.type, machine.zone), [0.0, 0, 0])
        sums[0] += hours
        sums[1] += line.nano_usd
        sums[2] += round(per_hour * hours)
    return {
        "since": since,
        "until": until,
        "spot": _spot(spot, sorted(unknown)),
        "scaling": _scaling(machines, lines, since, until),
        "consolidation": _consolidation(machines, prices, since, until),
    }


def of_bill(bill: Bill, on_demand: OnDemand) -> dict[str, Any]:
    """From the hours by type that a bill says: of all purchase types, groups and days."""
    spot: dict[tuple[str, str], list[float]] = {}
    unknown: set[str] = set()
    for type_ in sorted({each.type for each in bill.hours if each.capacity == "spot"}):
        mine = [each for each in bill.hours if (each.capacity, each.type) == ("spot", type_)]
        hours, per_hour = sum(each.hours for each in mine), on_demand(type_, "")
        if per_hour is None:
            unknown.add(type_)
        else:
            paid = nano_of(sum((each.usd for each in mine), Decimal()))
            spot[type_, ""] = [hours, paid, round(per_hour * hours)]
    plans: dict[str, int] = {}
    for line in bill.lines:
        if line.item.startswith("instance ("):
            plans[line.item] = plans.get(line.item, 0) + line.nano_usd
    return {
        "source": bill.source,
        "spot": _spot(spot, sorted(unknown)),
        "plans": {item: dollars(nano) for item, nano in sorted(plans.items())},
    }


def _spot(found: Mapping[tuple[str, str], Sequence[float]], unknown: Sequence[str]) -> dict[str, Any]:
    paid, otherwise = sum(int(each[1]) for each in found.values()), sum(int(each[2]) for each in found.values())
    return {
        "paid_usd": dollars(paid),
        "on_demand_usd": dollars(otherwise),
        "saved_usd": dollars(otherwise - paid),
        "saved_percent": round(100 * (otherwise - paid) / otherwise, 2) if otherwise else None,
        "hours": round(sum(each[0] for each in found.values()), 3),
        "rows": [
            {
                "type": type_,
                "zone": zone,
                "hours": round(hours, 3),
                "paid_usd": dollars(int(each)),
                "on_demand_usd": dollars(int(at_list)),
            }
            for (type_, zone), (hours, each, at_list) in sorted(found.items())
        ],
        "without_a_price": list(unknown),
        "how": _HOW_SPOT,
    }


def _scaling(machines: Sequence[MachineLife], lines: Sequence[Any], since: float, until: float) -> dict[str, Any]:
    pool_of = {machine.id: machine.pool for machine in machines if machine.capacity != LOCAL}
    paid: dict[str, int] = {}
    changes: dict[str, dict[float, float]] = {}
    for line in lines:
        if (pool := pool_of.get(line.machine)) is None:
            continue
        paid[pool] = paid.get(pool, 0) + line.nano_usd
        per_s = line.nano_usd / (line.ended_at - line.began_at)
        at = changes.setdefault(pool, {})
        at[line.began_at] = at.get(line.began_at, 0.0) + per_s
        at[line.ended_at] = at.get(line.ended_at, 0.0) - per_s
    rows = []
    for pool, nano in sorted(paid.items()):
        rate = most = 0.0
        for at_time in sorted(changes[pool]):
            rate += changes[pool][at_time]
            most = max(most, rate)
        at_peak = max(nano, round(most * (until - since)))
        rows.append((pool, nano, at_peak))
    return {
        "paid_usd": dollars(sum(nano for _, nano, _ in rows)),
        "at_peak_usd": dollars(sum(peak for _, _, peak in rows)),
        "saved_usd": dollars(sum(peak - nano for _, nano, peak in rows)),
        "rows": [
            {
                "nodepool": pool,
                "paid_usd": dollars(nano),
                "at_peak_usd": dollars(peak),
                "saved_usd": dollars(peak - nano),
            }
            for pool, nano, peak in rows
        ],
        "how": _HOW_SCALING,
    }


def _consolidation(
    machines: Sequence[MachineLife], prices: Sequence[PriceStep], since: float, until: float
) -> dict[str, Any]:
    ended = [each for each in machines if each.ended_at is not None and since <= each.ended_at < until]
    if ended and not any(each.why for each in ended):
        return {"saved_usd": None, "how": _NO_CONSOLIDATION, "rows": []}
    gone = sorted((each for each in ended if each.why in CONSOLIDATED), key=end_of)
    saved: dict[str, int] = {}
    for pool in sorted({each.pool for each in gone}):
        otherwise = _otherwise(
            [each for each in machines if each.pool == pool], [each for each in gone if each.pool == pool], until
        )
        there, instead = zip(*otherwise, strict=True)
        saved[pool] = _cost(there, prices, until) - _cost([each for each in instead if each is not None], prices, until)
    return {
        "saved_usd": dollars(sum(saved.values())),
        "how": _HOW_CONSOLIDATION,
        "rows": [
            {"nodepool": pool, "machines": sum(each.pool == pool for each in gone), "saved_usd": dollars(nano)}
            for pool, nano in saved.items()
        ],
    }


def _otherwise(
    pool: Sequence[MachineLife], gone: Sequence[MachineLife], until: float
) -> Iterable[tuple[MachineLife, MachineLife | None]]:
    """Each machine that was taken away, as it would have been there from then on, and what replaced it, for the same
    time: as long as the replacement was there; without one, until a machine started that it would have stood for."""
    by_begin = sorted(pool, key=lambda each: each.began_at)
    taken: set[str] = set()
    replaced: dict[str, MachineLife] = {}
    for machine in gone:
        ended = end_of(machine)
        recent = [
            each
            for each in by_begin
            if ended - REPLACED_WITHIN_S <= each.began_at < ended < end_of(each) and each.id not in taken
        ]
        if machine.why == "Underutilized" and recent:
            replaced[machine.id] = recent[-1]
            taken.add(recent[-1].id)
    for machine in gone:
        instead = replaced.get(machine.id)
        if instead is not None:
            stop = until if instead.ended_at is None else min(instead.ended_at, until)
            yield _there(machine, end_of(machine), stop), _there(instead, end_of(machine), stop)
            continue
        later = (each for each in by_begin if each.began_at >= end_of(machine) and each.id not in taken)
        grown = next(later, None)
        if grown is not None:
            taken.add(grown.id)
        yield _there(machine, end_of(machine), until if grown is None else min(grown.began_at, until)), None


def _there(machine: MachineLife, since: float, until: float) -> MachineLife:
    return replace(machine, began_at=since, ended_at=None, seen_at=until)


def _cost(machines: Sequence[MachineLife], prices: Sequence[PriceStep], until: float) -> int:
    """Nano-dollars."""
    return sum(line.nano_usd for line in machine_lines(machines, prices, since=0.0, until=until))

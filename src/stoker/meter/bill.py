"""A bill over machines, machines over who was on them, replicas over whose requests they ran. Pure and exact.

    lines of a bill -> the machines that each is for -> start-up, replicas, idle -> the requests of each moment

Each step splits whole nano-dollars by the largest remainder (`attribution.split`), so what comes out sums to the bill,
whatever went in. What nobody can be found for is said, not spread: `Part`.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from stoker.meter.attribution import split
from stoker.meter.machines import MachineLife, StayLife
from stoker.meter.timelines import Timeline

DAY_S = 86400
MOST_DAYS = 400
"""A line of more days than that is not cut."""

Part = Literal["work", "idle", "start-up", "platform", "unmatched", "shared"]
"""What a part of a bill was for. work: requests that ran. idle: a replica that ran none, and what of a machine nobody
had. start-up: before a machine, or a replica on it, could do anything. platform: what serves no model (gateway, queue).
unmatched: machines of which nobody saw what they did. shared: what is no machine's (data, control plane)."""

PARTS: tuple[Part, ...] = get_args(Part)

Who = tuple[str, ...]
"""Whose requests they were: as many names as the caller asks for."""
NOBODY: Who = ()
NONE = "(none)"
"""Of a request that belongs to no team, session, run or agent."""


@dataclass(frozen=True, slots=True)
class Line:
    """So many nano-dollars (below 0: a credit) for a time, in seconds since the epoch.

    `machine` is the id of a machine; where the bill does not say it, what it does say (`pool`, `capacity`, `type`,
    `zone`; "" for what it does not) tells for which machines it is. `is_shared`: it is for none. `item` is what was
    bought: "instance", "volumes", "fee", "data".
    """

    nano_usd: int
    began_at: float
    ended_at: float
    item: str = "instance"
    machine: str = ""
    pool: str = ""
    capacity: str = ""
    type: str = ""
    zone: str = ""
    is_shared: bool = False


class Cell(NamedTuple):
    """The smallest part of a bill that is told apart."""

    day: int
    """Days since the epoch, UTC, at which its line began."""
    part: Part
    item: str
    pool: str
    capacity: str
    type: str
    zone: str
    model: str
    who: Who


class _For(NamedTuple):
    """What a part of one machine's time was for."""

    part: Part
    model: str = ""
    who: Who = NOBODY


def attribute(
    lines: Iterable[Line],
    machines: Sequence[MachineLife],
    stays: Iterable[StayLife],
    timelines: Mapping[str, Timeline[Who]],
) -> dict[Cell, int]:
    """Nano-dollars by cell; their sum is that of the lines. `timelines`: by name of a replica, whose requests it ran
    when."""
    on: dict[str, list[StayLife]] = {}
    for stay in stays:
        on.setdefault(stay.machine, []).append(stay)
    known = {machine.id: machine for machine in machines}
    cells: dict[Cell, int] = {}
    last, seconds = None, dict[_For, float]()  # a machine's lines of one time (its volumes', too) come together
    for line in lines:
        for machine_id, nano in _machines_of(line, known).items():
            machine = known.get(machine_id)
            if machine is None:
                part: Part = "shared" if line.is_shared else "unmatched"
                found = {_For(part): nano}
                where = (line.pool, line.capacity, line.type, line.zone)
            else:
                time = machine_id, line.began_at, line.ended_at
                if time != last:
                    last, seconds = time, _seconds(machine, line, on.get(machine_id, ()), timelines)
                found = split(nano, seconds)
                where = (machine.pool, machine.capacity, machine.type, machine.zone)
            for each, amount in found.items():
                cell = Cell(int(line.began_at // DAY_S), each.part, line.item, *where, each.model, each.who)
                cells[cell] = cells.get(cell, 0) + amount
    return cells


def by_days(lines: Iterable[Line], machines: Sequence[MachineLife]) -> dict[int, list[Line]]:
    """Lines cut at midnight UTC, by days since the epoch. What a line of several days costs each of them goes by what
    the machines that it is for would have cost then; without any, by how long each is."""
    found: dict[int, list[Line]] = {}
    for line in lines:
        first, last = int(line.began_at // DAY_S), int(-(-line.ended_at // DAY_S)) - 1
        if not 0 < last - first <= MOST_DAYS:
            found.setdefault(first, []).append(line)
            continue
        pieces = {
            day: replace(line, began_at=max(line.began_at, day * DAY_S), ended_at=min(line.ended_at, (day + 1) * DAY_S))
            for day in range(first, last + 1)
        }
        of_machines = {day: _weight(piece, machines) for day, piece in pieces.items()}
        by_length = {day: piece.ended_at - piece.began_at for day, piece in pieces.items()}
        weights = of_machines if any(of_machines.values()) else by_length
        for day, nano in split(line.nano_usd, weights).items():
            found.setdefault(day, []).append(replace(pieces[day], nano_usd=nano))
    return found


def _weight(line: Line, machines: Sequence[MachineLife]) -> float:
    if line.is_shared:
        return 0.0
    return sum(
        _rate(machine) * max(0.0, _overlap_s(line, machine))
        for machine in machines
        if (machine.id == line.machine if line.machine else _fits(line, machine))
    )


def _rate(machine: MachineLife) -> float:
    return 1.0 + machine.nano_usd_per_hour + machine.extra_nano_usd_per_hour


def _machines_of(line: Line, known: Mapping[str, MachineLife]) -> dict[str, int]:
    """The line over its machines, by what each would have cost in its time; "" where there is none."""
    if line.is_shared or (line.machine and line.machine not in known):
        return {"": line.nano_usd}
    if line.machine:
        return {line.machine: line.nano_usd}
    weights = {
        machine.id: _rate(machine) * lasted_s
        for machine in known.values()
        if _fits(line, machine) and (lasted_s := _overlap_s(line, machine)) > 0
    }
    return split(line.nano_usd, weights) or {"": line.nano_usd}


def _fits(line: Line, machine: MachineLife) -> bool:
    said = (line.pool, line.capacity, line.type, line.zone)
    has = (machine.pool, machine.capacity, machine.type, machine.zone)
    return all(not wanted or wanted == found for wanted, found in zip(said, has, strict=True))


def _overlap_s(line: Line, machine: MachineLife) -> float:
    return min(line.ended_at, end_of(machine)) - max(line.began_at, machine.began_at)


def end_of(life: MachineLife | StayLife) -> float:
    """When it ended, or was seen last."""
    return life.seen_at if life.ended_at is None else life.ended_at


def _seconds(
    machine: MachineLife, line: Line, stays: Sequence[StayLife], timelines: Mapping[str, Timeline[Who]]
) -> dict[_For, float]:
    """Seconds of the whole machine in the time of the line, by what they were for. Never without any."""
    began = max(line.began_at, machine.began_at)
    ended = min(line.ended_at, end_of(machine))
    if ended <= began:  # a bill may round, or its machine was seen later than it was paid for
        return {_For("start-up" if machine.usable_at is None else "idle"): 1.0}
    usable = ended if machine.usable_at is None else min(max(machine.usable_at, began), ended)
    found: dict[_For, float] = {}
    _add(found, _For("start-up"), usable - began)
    there = [stay for stay in stays if stay.share > 0 and stay.began_at < ended and end_of(stay) > usable]
    bounds = {usable, ended}
    for stay in there:
        bounds.update(at for at in (stay.began_at, end_of(stay), stay.ready_at) if at and usable < at < ended)
    here: list[StayLife] = []
    coming = deque(sorted(there, key=lambda stay: stay.began_at))
    for since, until in pairwise(sorted(bounds)):
        while coming and coming[0].began_at <= since:
            here.append(coming.popleft())
        here = [stay for stay in here if end_of(stay) > since]
        of_all = sum(stay.share for stay in here)
        _add(found, _For("idle"), (until - since) * max(0.0, 1.0 - of_all))
        for stay in here:
            # Of processors one may have all and of memory another: together they have no more than the machine.
            _add_stay(found, stay, since, until, stay.share / max(1.0, of_all), timelines)
    return found


def _add_stay(
    found: dict[_For, float],
    stay: StayLife,
    since: float,
    until: float,
    share: float,
    timelines: Mapping[str, Timeline[Who]],
) -> None:
    """A time in which nothing about it changes."""
    if not stay.model:
        _add(found, _For("platform"), (until - since) * share)
    elif stay.ready_at is None or stay.ready_at >= until:
        _add(found, _For("start-up", stay.model), (until - since) * share)
    else:
        timeline = timelines.get(stay.replica)
        by = {} if timeline is None else timeline.seconds(since, until)
        for who, seconds in by.items():
            _add(found, _For("work", stay.model, who), seconds * share)
        _add(found, _For("idle", stay.model), max(0.0, until - since - sum(by.values())) * share)


def _add(found: dict[_For, float], what: _For, seconds: float) -> None:
    if seconds > 0:
        found[what] = found.get(what, 0.0) + seconds


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sums:
    """Nano-dollars of one row, and how much of them was which part."""

    nano_usd: int = 0
    work: int = 0
    idle: int = 0
    start_up: int = 0

    def add(self, part: Part, nano: int) -> None:
        self.nano_usd += nano
        if part == "work":
            self.work += nano
        elif part == "idle":
            self.idle += nano
        elif part == "start-up":
            self.start_up += nano

    def include(self, other: "Sums") -> None:
        self.nano_usd += other.nano_usd
        self.work += other.work
        self.idle += other.idle
        self.start_up += other.start_up


def rows(cells: Mapping[Cell, int], dimensions: Sequence[str], of_who: Sequence[str]) -> dict[tuple[str, ...], Sums]:
    """Sums by the values of some dimensions: fields of `Cell`, or names of `of_who`, which are those of `Cell.who`.
    What has no value (an idle machine has no tenant) is under its part in brackets, such as "(idle)"."""
    found: dict[tuple[str, ...], Sums] = {}
    for cell, nano in cells.items():
        key = tuple(_value(cell, name, of_who) for name in dimensions)
        found.setdefault(key, Sums()).add(cell.part, nano)
    return found


def _value(cell: Cell, dimension: str, of_who: Sequence[str]) -> str:
    if dimension in of_who:
        found = cell.who[of_who.index(dimension)] if cell.who else ""
        if not found and cell.who:
            return NONE
    elif dimension == "part":
        return cell.part
    elif dimension == "day":
        return day_of(cell.day)
    else:
        found = getattr(cell, dimension)
    return found or f"({cell.item if cell.part == 'shared' else cell.part})"


def day_of(day: int) -> str:
    """Days since the epoch as a date; as they are where no calendar has them."""
    try:
        return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"day {day}"

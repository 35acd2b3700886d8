"""How machines and replicas started: seconds and dollars of each phase, by start and by model.

A replica pays for its share of its machine from when the machine is billed, so what it waits in a queue or for capacity
costs nothing. A machine's own start is its whole price until it can be used: the same money from another side, so the
two are never summed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from stoker.meter.bill import end_of
from stoker.meter.lives import PHASES, Lives, MachineLife, Phase, StayLife
from stoker.meter.money import dollars
from stoker.meter.prices import Prices, recorded

EARLIER_S = 6 * 3600.0
"""A start takes no longer: phases of one that began before `since` are looked for no further back."""
WOULD_HELP: Mapping[str, str] = {
    "queue": "ask sooner: a shorter keda.pollingInterval, a lower threshold, or replicas.min 1 more",
    "capacity": "low-priority pods that hold a spare machine, more instance types or zones, a reservation",
    "boot": "an operating system that boots sooner (Bottlerocket), fewer DaemonSets, less user data",
    "image": "smaller images, images on the node's volume (a snapshot), or lazy loading (SOCI)",
    "weights": "weights near by: llm.inference.cache.kind s3 (streamed) or fsx, a smaller or quantized model",
    "warm-up": "less to compile: keep the engine's compile cache on a volume, fewer graph sizes",
}
"""By the phase that takes longest."""


@dataclass(frozen=True, slots=True)
class Part:
    """`seconds` None: it is not over. What it has cost so far is in `nano_usd`."""

    phase: str
    began_at: float
    seconds: float | None
    nano_usd: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class Start:
    """One start. `model` and `share` are of a replica; a machine has neither and is paid for as a whole."""

    kind: str
    name: str
    model: str
    machine: str
    pool: str
    type: str
    capacity: str
    began_at: float
    ready_at: float | None
    parts: tuple[Part, ...]

    @property
    def nano_usd(self) -> int:
        return sum(part.nano_usd for part in self.parts)


def report(lives: Lives, *, since: float, until: float, model: str | None = None, most: int = 100) -> dict[str, Any]:
    """Starts that began in the time, the newest first and at most `most`; the summary is of all. JSON. Raises
    Unavailable."""
    found = starts(
        lives.machines(since=since, until=until),
        lives.stays(since=since, until=until),
        lives.phases(since=since - EARLIER_S, until=until),
        recorded(lives.prices(until=until)),
    )
    found = [each for each in found if each.began_at >= since and (model is None or each.model == model)]
    return {
        "since": since,
        "until": until,
        "starts": [_shown(each) for each in found[:most]],
        "models": [_summary(name, found) for name in sorted({each.model for each in found if each.kind == "replica"})],
    }


def starts(
    machines: Sequence[MachineLife], stays: Sequence[StayLife], phases: Sequence[Phase], prices: Prices
) -> list[Start]:
    """The newest first. A stay that serves no model has no start here."""
    of: dict[str, list[Phase]] = {}
    for phase in phases:
        of.setdefault(phase.subject, []).append(phase)
    by_id = {machine.id: machine for machine in machines}
    found: list[Start] = []
    for machine in machines:
        if machine.id in of:
            found.append(_start("machine", machine.id, "", machine, machine, 1.0, of[machine.id], prices))
    for stay in stays:
        on = by_id.get(stay.machine)
        if stay.model and on is not None and stay.id in of:
            name = stay.replica or stay.workload
            found.append(_start("replica", name, stay.model, stay, on, stay.share, of[stay.id], prices))
    return sorted(found, key=lambda each: (-each.began_at, each.kind, each.name))


def _start(
    kind: str,
    name: str,
    model: str,
    life: MachineLife | StayLife,
    machine: MachineLife,
    share: float,
    phases: Sequence[Phase],
    prices: Prices,
) -> Start:
    ordered = sorted(phases, key=lambda phase: PHASES.index(phase.phase))
    ends = min(end_of(life), end_of(machine))
    return Start(
        kind=kind,
        name=name,
        model=model,
        machine=machine.id,
        pool=machine.pool,
        type=machine.type,
        capacity=machine.capacity,
        began_at=min(phase.began_at for phase in ordered),
        ready_at=life.usable_at if isinstance(life, MachineLife) else life.ready_at,
        parts=tuple(_part(phase, ends, machine, share, prices) for phase in ordered),
    )


def _part(phase: Phase, ends: float, machine: MachineLife, share: float, prices: Prices) -> Part:
    """Of a phase that is not over, up to when who starts ended, or was last seen."""
    began = max(phase.began_at, machine.began_at)
    ended = ends if phase.ended_at is None else min(phase.ended_at, end_of(machine))
    nano = 0
    if ended > began:
        otherwise = float(machine.nano_usd_per_hour)
        pieces = prices.pieces((machine.type, machine.zone, machine.capacity), began, ended, otherwise)
        hours = sum(seconds * (own + machine.extra_nano_usd_per_hour) for seconds, own in pieces) / 3600.0
        nano = math.floor(hours * share + 0.5)
    lasted = None if phase.ended_at is None else max(0.0, phase.ended_at - phase.began_at)
    return Part(phase.phase, phase.began_at, lasted, nano, phase.detail)


def _shown(start: Start) -> dict[str, Any]:
    return {
        "kind": start.kind,
        "name": start.name,
        "model": start.model,
        "machine": start.machine,
        "nodepool": start.pool,
        "type": start.type,
        "capacity": start.capacity,
        "began_at": start.began_at,
        "ready_at": start.ready_at,
        "seconds": None if start.ready_at is None else start.ready_at - start.began_at,
        "usd": dollars(start.nano_usd),
        "phases": [
            {
                "phase": part.phase,
                "began_at": part.began_at,
                "seconds": part.seconds,
                "usd": dollars(part.nano_usd),
                "detail": part.detail,
            }
            for part in start.parts
        ],
    }


def _summary(model: str, found: Sequence[Start]) -> dict[str, Any]:
    """Of replicas. A phase that a start did not have took 0 s of it; one that is not over does not count."""
    mine = [each for each in found if each.kind == "replica" and each.model == model]
    done = [each for each in mine if each.ready_at is not None]
    seconds = {phase: [_seconds(each, phase) for each in done] for phase in PHASES}
    phases = [
        {
            "phase": phase,
            "median_s": median(took) if took else None,
            "p95_s": _p95(took),
            "usd": dollars(sum(part.nano_usd for each in mine for part in each.parts if part.phase == phase)),
        }
        for phase, took in seconds.items()
    ]
    longest = max(PHASES, key=lambda phase: sum(seconds[phase])) if done else None
    whole = [each.ready_at - each.began_at for each in done if each.ready_at is not None]
    return {
        "model": model,
        "starts": len(mine),
        "ready": len(done),
        "median_s": median(whole) if whole else None,
        "p95_s": _p95(whole),
        "usd": dollars(sum(each.nano_usd for each in mine)),
        "phases": phases,
        "dominates": longest,
        "evidence": None if longest is None else _evidence(longest, seconds[longest], whole, done),
        "would_help": None if longest is None else WOULD_HELP[longest],
    }


def _evidence(phase: str, took: Sequence[float], whole: Sequence[float], done: Sequence[Start]) -> str:
    share = 100 * sum(took) / sum(whole) if sum(whole) else 0.0
    details = sorted({part.detail for each in done for part in each.parts if part.phase == phase and part.detail})
    # Names of NodeClaims are other ones each time, and tell nothing of all.
    said = f" ({details[0]})" if len(details) == 1 and phase not in ("capacity", "boot") else ""
    return f"{phase}{said} is {share:.0f} % of {len(done)} start{'' if len(done) == 1 else 's'}"


def _seconds(start: Start, phase: str) -> float:
    return sum(part.seconds or 0.0 for part in start.parts if part.phase == phase)


def _p95(values: Sequence[float]) -> float | None:
    """The least value that no more than one of twenty exceeds."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1] if values else None

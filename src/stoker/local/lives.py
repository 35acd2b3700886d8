"""This machine and its replicas, written into the ledger for `stoker cost`: what they are priced at, and since when
they are there.

An engine has one core of the machine, since the embedded one computes with one. What runs no model (gateway, Redis,
workers, agents) has no part of its own: the machine without engines is idle.
"""

import os
import platform as this_machine
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from stoker import spec
from stoker.base.background import Background
from stoker.base.clock import Clock
from stoker.catalog.ec2 import REGION, InstanceType, instance_types
from stoker.local.board import Board, Child, Role, Status
from stoker.local.starts import Moments, phases_of
from stoker.meter.lives import LOCAL, Lives, MachineLife, Phase, StayLife
from stoker.meter.store import Store

SEEN_EVERY_S = 10.0
"""What a killed supervisor has not written down is at most this long."""
_SOLD_PART = 0.9
"""Of the memory that a type is sold with, Linux sees about this much at least."""
_BURSTABLE = "t"


@dataclass(frozen=True, slots=True)
class Price:
    """`name` is an EC2 type, or what platform.yaml says instead."""

    name: str
    nano_usd_per_hour: int


def price_of_this_machine(said: spec.Costs) -> Price:
    """As platform.yaml says; else that of the cheapest EC2 type that is no smaller."""
    machine = said.machine
    if machine.usd_per_hour is not None:
        return Price("costs.machine", _nano(machine.usd_per_hour))
    if machine.instance_type is not None:
        return _priced(instance_types()[machine.instance_type])
    return _priced(cheapest_like(cores(), memory_mib(), _arch()))


def cheapest_like(cores: int, memory_mib: int, arch: str) -> InstanceType:
    """The cheapest on-demand type (us-east-1) with at least as many processors and as much memory, without GPUs and
    whose speed is its own to the end (no T types, no bare metal); the largest there is, where none is that large."""
    priced = [
        each
        for each in instance_types().values()
        if each.arch == arch
        and each.prices.get(REGION)
        and not (each.gpu_count or each.accelerator_count or each.bare_metal or each.category == _BURSTABLE)
    ]
    enough = [each for each in priced if each.vcpu >= cores and each.memory_mib >= memory_mib * _SOLD_PART]
    if not enough:
        return max(priced, key=lambda each: (each.vcpu, each.memory_mib, each.name))
    return min(enough, key=lambda each: (each.prices[REGION], each.name))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _arch() -> str:
    return "arm64" if this_machine.machine() in ("aarch64", "arm64") else "amd64"


def _priced(each: InstanceType) -> Price:
    return Price(each.name, _nano(Decimal(repr(each.prices[REGION]))))


def _nano(usd_per_hour: Decimal) -> int:
    return int(usd_per_hour.scaleb(9).to_integral_value())


class Seen:
    """The lives of this run of the platform, as far as they were seen; the machine has no price yet."""

    def __init__(self, *, cores: int, began_at: float, pid: int) -> None:
        self._share = 1.0 / cores
        self._machine = MachineLife(
            id=f"local-{int(began_at)}-{pid}",
            pool=LOCAL,
            capacity=LOCAL,
            type=LOCAL,
            zone=LOCAL,
            nano_usd_per_hour=0,
            began_at=began_at,
            usable_at=began_at,
            seen_at=began_at,
        )
        self._stays: dict[tuple[str, int], StayLife] = {}
        self._needed_at: dict[str, float] = {}
        self._moments: dict[str, Mapping[str, float]] = {}

    def look(
        self, board: Board, *, now: float, monotonic: float, is_over: bool = False
    ) -> tuple[MachineLife, list[StayLife]]:
        """What there is now, and what has ended since the last look."""
        self._machine = replace(self._machine, seen_at=now, ended_at=now if is_over else None)
        there: set[tuple[str, int]] = set()
        for child in board.children.values():
            if child.role is Role.ENGINE and child.pid is not None:
                key = child.name, child.pid
                there.add(key)
                stay = self._stays[key] = self._seen(child, key, now, now - monotonic)
                self._moments[stay.id] = child.moments
                if not child.restarts:  # who comes back was not waited for: it is started as soon as it may be
                    self._needed_at[stay.id] = min(stay.began_at, child.added_at + now - monotonic)
        changed = [
            stay if key in there and not is_over else replace(stay, seen_at=now, ended_at=now)
            for key, stay in self._stays.items()
        ]
        self._stays = {key: stay for key, stay in self._stays.items() if key in there}
        return self._machine, changed

    def _seen(self, child: Child, key: tuple[str, int], now: float, offset: float) -> StayLife:
        known = self._stays.get(key)
        is_ready = child.status is Status.READY
        if known is None:
            replica = child.name.removeprefix("engine-")
            known = StayLife(
                id=f"{self._machine.id}/{child.name}/{child.pid}",
                machine=self._machine.id,
                workload=child.name,
                model=child.model or "",
                replica=replica,
                share=self._share,
                began_at=min(now, child.since + offset),
                seen_at=now,
            )
        if is_ready and known.ready_at is None:
            known = replace(known, ready_at=min(now, child.since + offset))
        return replace(known, seen_at=now)

    def phases(self, stays: Sequence[StayLife]) -> list[Phase]:
        """How these started. Of an engine that does not say when it has its weights, all until it can serve is boot."""
        found = []
        for stay in stays:
            needed_at, said = self._needed_at.get(stay.id), self._moments.get(stay.id, {})
            moments = Moments(needed_at=needed_at, decided_at=stay.began_at, ready_at=stay.ready_at, **said)
            found += phases_of(stay.id, moments)
        return found

    def forget(self, stays: Iterable[str]) -> None:
        """These have ended, and all of them is written."""
        for stay in stays:
            self._needed_at.pop(stay, None)
            self._moments.pop(stay, None)


class Recorder:
    """Writes what `Seen` sees, behind whoever looks: a database that is slow or away holds up nothing, and what waits
    is written when it is back."""

    def __init__(self, seen: Seen, costs: spec.Costs, ledger_url: str, clock: Clock) -> None:
        self._seen, self._costs, self._url, self._clock = seen, costs, ledger_url, clock
        self._price: Price | None = None
        self._store: Store | None = None
        self._behind: Background[tuple[MachineLife, list[StayLife]]] = Background(
            "lives", self._write, most_waiting=10_000, most_at_once=100, pause_s=5.0
        )

    def look(self, board: Board, *, is_over: bool = False) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._behind.add(self._seen.look(board, now=now, monotonic=monotonic, is_over=is_over))

    def close(self, board: Board) -> None:
        """All has ended. Waits a moment for it to be written."""
        self.look(board, is_over=True)
        self._behind.close(timeout_s=2.0)
        if self._store is not None:
            self._store.close()

    async def look_forever(self, board: Board) -> None:
        while True:
            self.look(board)
            await self._clock.sleep(SEEN_EVERY_S)

    def _write(self, looks: Sequence[tuple[MachineLife, list[StayLife]]]) -> None:
        # Here, since the catalogue takes a moment to read, and nobody who starts a platform waits for it.
        price = self._price = self._price or price_of_this_machine(self._costs)
        self._store = self._store or Store(self._url)
        machines = {
            machine.id: replace(machine, type=price.name, nano_usd_per_hour=price.nano_usd_per_hour)
            for machine, _ in looks
        }
        stays = {stay.id: stay for _, each in looks for stay in each}
        seen = list(stays.values())
        Lives(self._store).write(
            machines_seen=list(machines.values()), stays_seen=seen, phases_seen=self._seen.phases(seen)
        )
        self._seen.forget(stay.id for stay in seen if stay.ended_at is not None)

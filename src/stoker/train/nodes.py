"""Which machines a run is on, and what they cost: from what each says of itself, and from the run file."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.catalog import ec2, spot
from stoker.instance.metadata import Facts, Metadata, endpoint
from stoker.spec import Run

if TYPE_CHECKING:
    from stoker.train.world import World  # which loads torch

ANSWER_S = 1.0
"""So long a start may wait for the instance's metadata; where there is none, often nobody says so."""


class Instance:
    """Asks the instance that this is on, in a thread, so that what is done meanwhile need not wait for it. Where
    notices are not watched for (`spot.watch`), nobody is asked."""

    def __init__(self, run: Run, environ: Mapping[str, str], clock: Clock) -> None:
        self._clock = clock
        self._facts: Facts | None = None
        self._until = clock.monotonic() + ANSWER_S
        url = None if run.spot.watch is False else endpoint(environ)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask(url)), name="metadata", daemon=True)
        self._thread.start()

    def facts(self) -> Facts | None:
        """None: nobody has answered in time."""
        self._thread.join(max(0.0, self._until - self._clock.monotonic()))
        return self._facts

    async def _ask(self, url: str | None) -> None:
        if url is None:
            return
        with contextlib.suppress(StokerError, TimeoutError):
            metadata = Metadata(url, clock=self._clock)
            try:
                self._facts = await asyncio.wait_for(metadata.facts(), ANSWER_S)
            finally:
                metadata.close()


def nodes_of(run: Run, world: "World", instance: Instance | None, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """One for each node: {id, type, zone, region, capacity, usd_per_hour}; what is not known is null. `instance`: of
    the first process of each node."""
    mine = None
    if world.local_rank == 0:
        mine = json.dumps(node_of(run, None if instance is None else instance.facts(), environ))
    return [json.loads(word) for word in world.words(mine) if word is not None]


def interruptions_per_hour(nodes: list[dict[str, Any]]) -> float:
    """Of all nodes together; 0 where none is on spot, or nobody knows."""
    return sum(
        spot.interruptions_per_hour(node["type"], node["region"]) or 0.0
        for node in nodes
        if node["type"] and node["capacity"] == "spot"
    )


def process_start(clock: Clock) -> float:
    """When this process began, in seconds since the epoch; now, where that cannot be read."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return clock.now()
    return clock.now() - (up_s - ticks / os.sysconf("SC_CLK_TCK"))


def node_of(run: Run, facts: Facts | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The run file's instanceType and usdPerHour go before what the instance says; its region and capacity are for
    where it says nothing."""
    said = run.prices
    facts = facts or Facts(None, None, None, None, None)
    type_, region = said.instance_type or facts.type, facts.region or said.region
    capacity = said.capacity if facts.life_cycle is None else _capacity(facts.life_cycle)
    return {
        "id": facts.id or environ.get("HOSTNAME"),
        "type": type_,
        "zone": facts.zone,
        "region": region,
        "capacity": capacity,
        "usd_per_hour": _usd_per_hour(run, type_, region, capacity),
    }


def _capacity(life_cycle: str) -> str:
    return "spot" if life_cycle == "spot" else "on-demand"


def _usd_per_hour(run: Run, type_: str | None, region: str, capacity: str) -> float | None:
    if run.prices.usd_per_hour is not None:
        return float(run.prices.usd_per_hour)
    if type_ is None:
        return None
    if capacity == "spot":
        return spot.spot_usd_per_hour(type_, region)
    found = ec2.find(type_)
    return None if found is None else found.usd_per_hour(region)

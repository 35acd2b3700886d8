"""Which machines a run is on, and what they cost: from the run file, or from what each says of itself."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.base.clock import Clock
from stoker.catalog import ec2, spot
from stoker.spec import Run
from stoker.train.world import World


def nodes_of(run: Run, world: World, environ: Mapping[str, str], clock: Clock) -> list[dict[str, Any]]:
    """One for each node: {id, type, zone, region, capacity, usd_per_hour}; what is not known is null."""
    mine = None
    if world.local_rank == 0:
        mine = json.dumps(_this(run, environ, clock))
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


def _this(run: Run, environ: Mapping[str, str], clock: Clock) -> dict[str, Any]:
    said = run.prices
    return {
        "id": environ.get("HOSTNAME"),
        "type": said.instance_type,
        "zone": None,
        "region": said.region,
        "capacity": said.capacity,
        "usd_per_hour": _usd_per_hour(run),
    }


def _usd_per_hour(run: Run) -> float | None:
    said = run.prices
    if said.usd_per_hour is not None:
        return float(said.usd_per_hour)
    if said.instance_type is None:
        return None
    if said.capacity == "spot":
        return spot.spot_usd_per_hour(said.instance_type, said.region)
    found = ec2.find(said.instance_type)
    return None if found is None else found.usd_per_hour(said.region)

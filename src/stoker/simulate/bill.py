"""Machines and volumes -> what they would cost: per second with the minimum of a minute, at the price of the moment.

AWS bills Linux instances by the second, 60 s at least, from running to shutting-down; EBS volumes likewise.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stoker.catalog import ec2
from stoker.catalog.aws_prices import auto_mode_share
from stoker.catalog.ec2 import region_of
from stoker.meter.attribution import split
from stoker.meter.bill import NOBODY, Cell, Line, Who, attribute, rows
from stoker.meter.machines import MachineLife, StayLife
from stoker.meter.prices import Key, Prices
from stoker.policy.market import on_demand_usd_per_hour
from stoker.policy.placement import allocatable_of
from stoker.policy.pod_resources import CPU, GPUS, MEMORY, NOTHING, OF_GPUS, Amounts
from stoker.policy.volumes import Volume, volume_usd_per_hour
from stoker.simulate import gpu_sharing
from stoker.simulate.machines import NOTICE_S
from stoker.simulate.result import Costs, NodeLife, ReplicaLife

OF_WHO = ("tenant",)
"""What a cell's `who` is here."""
LEAST_S = 60.0
FREE_WITHIN_S = 3600.0
"""Of a spot machine that EC2 takes back this soon, nothing is billed but its volumes."""
AS_LAUNCHED = Prices()
"""Each node costs to its end what it cost when it was launched."""


def billed(life: NodeLife, ends_at: float) -> tuple[float, float]:
    """From when to when it is billed, within [0, ends_at]; a machine that ended sooner than a minute after it began is
    billed for that minute."""
    if life.launched_at is None or life.launched_at >= ends_at:
        return 0.0, 0.0
    ends = ends_at
    if life.gone_at is not None and life.gone_at < ends_at:
        ends = min(ends_at, max(life.gone_at, life.launched_at + LEAST_S))
    began = max(0.0, life.launched_at)
    return (began, ends) if ends > began else (0.0, 0.0)


def is_free(life: NodeLife) -> bool:
    """Whether EC2 took it back within its first hour (EC2's user guide, billing for interrupted Spot Instances). One
    that was drained and ended before EC2 did so is paid for, as any that its owner ends."""
    if life.noticed_at is None or life.gone_at is None or life.launched_at is None:
        return False
    is_taken = life.gone_at >= life.noticed_at + NOTICE_S
    return life.capacity == "spot" and is_taken and life.gone_at - life.launched_at < FREE_WITHIN_S


def auto_mode_usd_per_hour(life: NodeLife) -> float:
    usd = on_demand_usd_per_hour(ec2.instance_types()[life.type], region_of(life.zone) or ec2.REGION)
    return float(auto_mode_share(life.type)) * (life.usd_per_hour if usd is None else usd)


def key_of(life: NodeLife) -> Key:
    return life.type, life.zone, life.capacity


def nano(usd_per_hour: float, seconds: float) -> int:
    return math.floor(usd_per_hour * seconds / 3600.0 * 1e9 + 0.5)


def costs(
    nodes: Sequence[NodeLife],
    replicas: Sequence[ReplicaLife],
    *,
    ends_at: float,
    volumes: Mapping[str, Volume],
    auto_mode: frozenset[str],
    requests: Mapping[str, Amounts],
    work_s: Mapping[str, Mapping[str, float]],
    models: Iterable[str],
    prices: Prices = AS_LAUNCHED,
) -> Costs:
    """`volumes` and `auto_mode` by pool; `requests` by workload, of one pod; `work_s` by model and tenant."""
    lines, machines = [], []
    for life in nodes:
        began, ended = billed(life, ends_at)
        seconds = ended - began
        if seconds <= 0:
            continue
        pieces = () if is_free(life) else prices.pieces(key_of(life), began, ended, life.usd_per_hour)
        parts = {
            "instances": sum(nano(usd, lasted_s) for lasted_s, usd in pieces),
            "volumes": nano(volume_usd_per_hour(volumes.get(life.pool, Volume())), seconds),
            "auto mode": nano(auto_mode_usd_per_hour(life), seconds) if life.pool in auto_mode else 0,
        }
        lines += [Line(amount, began, ended, part, life.name) for part, amount in parts.items() if amount]
        machines.append(_machine(life, began, ended))
    cells = attribute(lines, machines, list(_stays(nodes, replicas, requests, ends_at)), {})
    return costs_of(_over_tenants(cells, work_s, _ready_s(replicas, models, ends_at)))


def costs_of(cells: Mapping[Cell, int]) -> Costs:
    def by(dimension: str) -> dict[str, int]:
        found = rows(cells, [dimension], OF_WHO)
        return {name: sums.nano_usd for (name,), sums in sorted(found.items())}

    return Costs(
        total=sum(cells.values()),
        by_node_type=by("type"),
        by_capacity=by("capacity"),
        by_model=by("model"),
        by_tenant=by("tenant"),
        by_pool=by("pool"),
        by_part={"instances": 0, **by("item")},
        cells=cells,
    )


def _machine(life: NodeLife, began: float, ended: float) -> MachineLife:
    return MachineLife(
        id=life.name,
        pool=life.pool,
        capacity=life.capacity,
        type=life.type,
        zone=life.zone,
        nano_usd_per_hour=0,  # its lines say what it cost
        began_at=began,
        usable_at=life.ready_at,
        seen_at=ended,
        ended_at=ended,
    )


def _stays(
    nodes: Sequence[NodeLife], replicas: Sequence[ReplicaLife], requests: Mapping[str, Amounts], ends_at: float
) -> Iterable[StayLife]:
    machines = {life.name: life for life in nodes}
    for pod in replicas:
        if pod.node is None or pod.bound_at is None:
            continue
        machine = machines[pod.node]
        yield StayLife(
            id=pod.name,
            machine=pod.node,
            workload=pod.workload,
            model=pod.model,
            share=share_of(requests.get(pod.workload, {}), machine.type, machine.devices),
            began_at=pod.bound_at,
            ready_at=pod.ready_at,
            seen_at=ends_at,
            ended_at=pod.gone_at,
        )


def _ready_s(replicas: Sequence[ReplicaLife], models: Iterable[str], ends_at: float) -> dict[str, float]:
    """For how long replicas of each model could serve, pods of one replica counted once: `work_s` is of replicas."""
    found = dict.fromkeys(models, 0.0)
    for pod in replicas:
        if pod.model in found and pod.stands_for_all and pod.ready_at is not None:
            ended = ends_at if pod.gone_at is None else min(pod.gone_at, ends_at)
            found[pod.model] += max(0.0, ended - max(0.0, pod.ready_at))
    return found


def _over_tenants(
    cells: Mapping[Cell, int], work_s: Mapping[str, Mapping[str, float]], ready_s: Mapping[str, float]
) -> dict[Cell, int]:
    """What replicas cost while they could serve, over the tenants whose requests took their time; the rest of it is
    idle. Over the whole run, not by moment: of millions of requests that would take longer than the run."""
    found: dict[Cell, int] = {}
    for cell, amount in cells.items():
        work = work_s.get(cell.model, {}) if cell.part == "idle" else {}
        if not work:
            found[cell] = amount
            continue
        weights: dict[Who, float] = {(tenant,): seconds for tenant, seconds in work.items()}
        weights[NOBODY] = max(0.0, ready_s[cell.model] - sum(work.values()))
        for who, part in split(amount, weights).items():
            found[cell if who == NOBODY else cell._replace(part="work", who=who)] = part
    return found


def share_of(requests: Amounts, type_name: str, devices: Amounts = NOTHING) -> float:
    """Of a machine with GPUs, the share of them; of any other, of processors or memory, whichever is more. `devices`:
    what it offers of its GPUs, where that is not what its type has."""
    instance = ec2.instance_types()[type_name]
    whole = {**allocatable_of(instance), **devices}
    of_gpus = [key for key in whole if key in GPUS or key.startswith(OF_GPUS)]
    if of_gpus and any(whole[key] for key in of_gpus):
        return sum(gpu_sharing.part_of(key, instance, whole[key]) * requests.get(key, 0) for key in of_gpus)
    return max(requests.get(CPU, 0) / whole[CPU], requests.get(MEMORY, 0) / whole[MEMORY])


def usd_per_hour_at(
    nodes: Sequence[NodeLife],
    times: NDArray[np.float64],
    volumes: Mapping[str, Volume],
    auto_mode: frozenset[str],
    prices: Prices = AS_LAUNCHED,
) -> NDArray[np.float64]:
    """What all nodes that are billed at each of `times` cost per hour."""
    found = np.zeros(len(times))
    for life in nodes:
        began, ended = billed(life, float("inf")) if life.launched_at is not None else (0.0, 0.0)
        if ended > began:
            rate = volume_usd_per_hour(volumes.get(life.pool, Volume()))
            if life.pool in auto_mode:
                rate += auto_mode_usd_per_hour(life)
            there = np.flatnonzero((times >= began) & (times < ended))
            paid = 0.0 if is_free(life) else 1.0
            found[there] += [rate + paid * prices.at(key_of(life), float(at), life.usd_per_hour) for at in times[there]]
    return found

"""The run on other machines: which of the catalogue hold it, how long it takes there, what it costs; spot or on demand.

Estimates, from data sheets and published means: see docs/training/cost.md for what they leave out. Pure, no torch.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from stoker.catalog import ec2, gpus, spot
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.gpus import Gpu
from stoker.spec.run import Run

MFU = 0.35
"""Part of the data sheet's FLOPs that training reaches: torchtitan's Llama 3.1 8B on 8 H100 with FSDP2 gets 33 to 39 %
in bf16 (pytorch/torchtitan, benchmarks/llama3_h100_202412_torchtitan.md). Small models and short rows reach less."""
RESTART_S = 300.0
"""From the moment a node is taken away until the run goes on on another: a new node is ready in 2 to 4 minutes, with
its image pulled; then the process starts and reads its checkpoint."""
MEMORY_SHARE = 0.9
"""Of a GPU's memory, what tensors may take: the rest is the context's and lost between blocks."""
ACTIVATION_BYTES = 34.0
"""For each token, hidden unit and layer, in 16 bits, attention computed in blocks (Korthikanti et al., arXiv
2205.05198, equation 2 without the term of the scores)."""
MOST_NODES = 64
SAVE_COST_S = 0.1
"""What an overlapped save costs training."""


@dataclass(frozen=True)
class Size:
    """Of what is trained: parameters in all, those that are trained, bytes of one checkpoint (weights that are trained
    in float32, two moments each), FLOPs of one token forward and backward."""

    parameters: int
    trained: int
    checkpoint_bytes: int
    flops_per_token: float
    hidden: int = 0
    layers: int = 0


@dataclass(frozen=True)
class Option:
    """One way to buy the run. `hours`: with saves, interruptions and what they cost. `interruptions`: expected in all.
    `usd` None: the catalogue has no price."""

    instance_type: str
    nodes: int
    capacity: str
    hours: float
    interruptions: float
    usd: float | None
    usd_per_million_tokens: float | None
    note: str = ""
    gpu: str = ""
    gpus: int = 0
    """In all."""
    region: str = ""
    usd_per_hour: float | None = None
    """Of one node."""


def memory_bytes(run: Run, size: Size) -> tuple[float, float]:
    """What is cut in pieces over all GPUs, and what each needs besides. Cut: all weights in float32, and of those that
    are trained a gradient and two moments (16 bytes for each in all). Besides: activations of one forward pass in 16
    bits, and of one layer its weights in 16 bits."""
    cut = 4.0 * size.parameters + 12.0 * size.trained
    tokens = run.batch.micro_rows * run.dataset.max_length
    of_layer = tokens * size.hidden * ACTIVATION_BYTES
    kept = of_layer + 2.0 * tokens * size.hidden * size.layers if run.recompute else of_layer * size.layers
    return cut, kept + 2.0 * size.parameters / max(1, size.layers)


def options(run: Run, size: Size, tokens: int, *, save_s: float, regions: Sequence[str]) -> list[Option]:
    """The run on each GPU type of the catalogue that holds it, on demand and on spot, cheapest first: FLOPs over the
    peak of the GPU times the part of it that fine-tuning reaches; on spot, expected interruptions each cost half an
    interval and a restart. What the guide's table shows, computed.

    Of sizes with the same GPUs the cheapest; of `regions` the cheapest; as few nodes as hold it, and no fewer than the
    run file says. GPUs without bf16 (T4, V100) are left out."""
    best: dict[tuple[str, int, str], Option] = {}
    for instance, gpu in _with_gpus():
        nodes = _nodes(run, size, instance, gpu)
        if nodes is None:
            continue
        for region, capacity in product(regions, ("on-demand", "spot")):
            found = _option(run, size, tokens, instance, gpu, nodes, region, capacity, save_s)
            if found is None:
                continue
            key = gpu.key, instance.gpu_count, capacity
            if key not in best or _order(found) < _order(best[key]):
                best[key] = found
    return sorted(best.values(), key=_order)


def _order(option: Option) -> tuple[bool, float, float, str]:
    return option.usd is None, option.usd or 0.0, option.hours, option.instance_type


def _with_gpus() -> Iterator[tuple[InstanceType, Gpu]]:
    for instance in ec2.instance_types().values():
        gpu = gpus.find(instance.gpu_name, instance.gpu_memory_mib) if instance.gpu_count else None
        if gpu is not None and gpu.has_bf16:
            yield instance, gpu


def _nodes(run: Run, size: Size, instance: InstanceType, gpu: Gpu) -> int | None:
    """How many hold it; None: not so many as are sensible, or not however many there are."""
    cut, besides = memory_bytes(run, size)
    room = gpu.memory_gib * 2**30 * MEMORY_SHARE - besides
    if run.parallel == "replicate":
        return None if cut > room else run.nodes
    if room <= 0:
        return None
    nodes = max(run.nodes, math.ceil(cut / (room * instance.gpu_count)))
    return nodes if nodes <= MOST_NODES else None


def _option(
    run: Run,
    size: Size,
    tokens: int,
    instance: InstanceType,
    gpu: Gpu,
    nodes: int,
    region: str,
    capacity: str,
    save_s: float,
) -> Option | None:
    is_spot = capacity == "spot"
    usd = spot.spot_usd_per_hour(instance.name, region) if is_spot else instance.usd_per_hour(region)
    if usd is None and (is_spot or region != ec2.REGION):
        return None
    rate = (spot.interruptions_per_hour(instance.name, region) or 0.0) * nodes if is_spot else 0.0
    of_gpus = instance.gpu_count * nodes
    plain_h = tokens * seconds_per_token(run, size, instance, gpu, nodes) / 3600.0
    hours, interruptions = with_interruptions(run, plain_h, rate, save_s)
    if not math.isfinite(hours):
        return None
    cost = None if usd is None else usd * hours * nodes
    return Option(
        instance_type=instance.name,
        nodes=nodes,
        capacity=capacity,
        hours=hours,
        interruptions=interruptions,
        usd=cost,
        usd_per_million_tokens=None if cost is None or not tokens else cost / tokens * 1e6,
        note=_note(run, instance, nodes),
        gpu=gpu.key,
        gpus=of_gpus,
        region=region,
        usd_per_hour=usd,
    )


def seconds_per_token(run: Run, size: Size, instance: InstanceType, gpu: Gpu, nodes: int) -> float:
    """Of all nodes together: computing, or moving weights and gradients between nodes, whichever takes longer, since
    they overlap. In a pass with FSDP each node gets the weights of the others twice in 16 bits, and gives gradients in
    float32; with replicas, gradients alone."""
    compute_s = size.flops_per_token / (gpu.flops * MFU * instance.gpu_count * nodes)
    if nodes == 1:
        return compute_s
    moved = 4.0 * size.trained + (0.0 if run.parallel == "replicate" else 4.0 * size.parameters)
    moved_s = moved * (nodes - 1) / nodes / (max(instance.network_mbps, 1) * 1e6 / 8.0)
    tokens_of_pass = instance.gpu_count * nodes * run.batch.micro_rows * run.dataset.max_length
    return max(compute_s, moved_s / tokens_of_pass)


def with_interruptions(run: Run, plain_h: float, rate_per_hour: float, save_s: float) -> tuple[float, float]:
    """Hours with a start, with what saves cost, and with interruptions at that rate; and how many of those. Time T in
    all has rate * T of them, each of which costs half an interval and a restart: T = begun + plain * (1 + saves) + rate
    * T * cost. Never done (inf) where an interruption costs more than the time between two."""
    from stoker.train.planning import interval_s

    cost_s = save_s if run.checkpointing.mode == "sync" else min(save_s, SAVE_COST_S)
    every_s = run.checkpointing.every_seconds or max(interval_s(cost_s, rate_per_hour), save_s)
    lost_h = (every_s / 2.0 + RESTART_S) / 3600.0
    needed_h = RESTART_S / 3600.0 + plain_h * (1.0 + cost_s / every_s)
    if rate_per_hour * lost_h >= 1.0:
        return math.inf, math.inf
    hours = needed_h / (1.0 - rate_per_hour * lost_h)
    return hours, hours * rate_per_hour


def _note(run: Run, instance: InstanceType, nodes: int) -> str:
    said = []
    if nodes > run.nodes:
        said.append(f"{nodes} nodes, since fewer do not hold it")
    if nodes > 1 and not instance.efa_count:
        said.append(f"network of {instance.network_mbps / 1000:g} Gb/s without EFA")
    return "; ".join(said)


def choose_capacity(
    *,
    hours_left: float,
    hours_to_deadline: float,
    spot_available: bool,
    restart_h: float,
    running_on: str | None = None,
    pace: float | None = None,
) -> str:
    """spot, on-demand or wait (for spot), now, for a run that has a deadline. The rules, after Uniform Progress (Can't
    Be Late, NSDI 2024, section 4):

    safety net    not on spot, and what is left would not be in time after one more change of machine that fails: on
                  demand, to the end
    taking risks  spot where there is some
    staying       on demand is left for spot alone. The paper leaves it two restarts ahead of uniform progress, and
                  waits then; where restarts take minutes, that change back and forth costs more than it saves
    uniform       idle and behind it: on demand; idle and ahead: wait

    `running_on`: what it runs on now; None: on nothing. `pace`: hours of work per hour, all of the work over all of the
    time; None: without uniform progress, so that it waits for spot until the safety net."""
    left_h = max(0.0, hours_left)
    if running_on == "spot" and spot_available:
        return "spot"
    if hours_to_deadline < left_h + 2.0 * restart_h:
        return "on-demand"
    if spot_available:
        return "spot"
    is_behind = pace is not None and left_h > hours_to_deadline * pace
    return "on-demand" if is_behind or running_on == "on-demand" else "wait"


def cheapest(found: Iterable[Option], capacity: str) -> Option | None:
    return next((each for each in found if each.capacity == capacity and each.usd is not None), None)

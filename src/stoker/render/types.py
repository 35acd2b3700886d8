"""Which instance types each NodePool allows, and its limits: chosen from the catalogue so that what runs there fits.

Pools name types and not families: a type that no pod fits, or that is above a price ceiling, is then not among them.
Prices are those on demand in the cluster's region where the catalogue has them all, and else those of us-east-1.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import ceil, floor
from typing import TYPE_CHECKING, Literal

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import InstanceType, families, instance_types, regions
from stoker.catalog.labels import AUTO_MODE
from stoker.manifests.quantities import bytes_of, format_cpu
from stoker.policy.pod_resources import added, fits, times
from stoker.render.facts import (
    CPU,
    GPU,
    GPU_TAINT,
    STACK_REPLICAS,
    TRAINING,
    TRAINING_TAINT,
    Pool,
    Served,
    TrainingPods,
    shared_by,
    short,
)
from stoker.render.sharing import offered, profiles, slice_mib, slices
from stoker.spec import NodePool

if TYPE_CHECKING:
    from stoker.render.plan import Plan

_MIB, _GIB = 1024**2, 1024**3
DAEMONS = {"cpu": 400, "memory": _GIB, "pods": 12}
"""What is kept free on each node for DaemonSets: network, storage, device plugins, exporters, log collectors."""
_MEMORY_SOLD = Decimal("0.9")
"""A GPU that is sold with 24 GB reports 22.4 GiB: what a device has counts if it is nine tenths of what is asked."""
_DEAR = 3
"""A type whose place for one replica costs more than this many times the cheapest is left out: eight GPUs for a model
that needs one would be the fall-back of an hour without capacity, and of its price."""
_DEAR_ON_SPOT = 5
"""The same on spot, where more types mean fewer interruptions, and the cheapest that has room is taken anyway."""
_SURGE = 1
"""Pods beyond the maximum while a rollout goes on."""
_KEPT = 50
"""The part of a machine, a fiftieth, that a training pod leaves."""

GENERAL_POOL = NodePool(instance_families=("m7i", "m7a", "m6i", "m6a"), spot_enabled=False)
TRAINING_POOL = NodePool(use="training", instance_families=("p4d", "p4de", "p5"))
_GENERAL_VCPU = range(4, 33)
_GENERAL_LIMIT_VCPU = 256
"""Room for everything that needs no GPU: gateway, queue, agents, operators. Models on the CPU come on top."""
_OF_AUTO_MODE = ("general-purpose", "system")
"""NodePools that EKS Auto Mode brings itself and lets nobody change (EKS user guide, set-builtin-node-pools)."""


@dataclass(frozen=True)
class Choice:
    """The types that do, the cheapest first, and what was left out and why."""

    types: tuple[InstanceType, ...]
    left_out: tuple[str, ...]


def check_families(plan: "Plan") -> None:
    """Raises InvalidInput for a family that EC2 does not have, or whose types all are without a price."""
    for name, said in plan.spec.karpenter.node_pools.items():
        path = f"karpenter.nodePools.{name}.instanceFamilies"
        for family in said.instance_families if said.enabled else ():
            if family not in families():
                near = difflib.get_close_matches(family, sorted(families()), n=3, cutoff=0.5)
                raise InvalidInput(
                    f"{path}: {family} is no instance family that is known here",
                    param=path,
                    hint=f"did you mean {', '.join(near)}?" if near else "such as g5, g6 or p5",
                )
        if (
            said.enabled
            and said.use != "general"
            and not any(family in _by_family() for family in said.instance_families)
        ):
            raise InvalidInput(
                f"{path}: {', '.join(said.instance_families)} has no type with a price on demand and an x86 processor; "
                "what is sold as capacity blocks only is not chosen",
                param=path,
                hint="add a family, such as p5",
            )


def inference_pools(plan: "Plan", name: str, said: NodePool) -> Iterator[Pool]:
    """One pool for each model of the spec's pool `name`, and one of spot that those share that can."""
    models = [each for each in plan.served if each.pool == name]
    choices = {each.name: _within_limit(plan, _for_model(plan, name, said, each, _DEAR), [each]) for each in models}
    if said.max_usd_per_hour is not None:
        capped = _within_cap(plan, name, said.max_usd_per_hour, choices, models)
        choices = {each.name: _within_limit(plan, capped[each.name], [each]) for each in models}
    sharing = [each for each in models if each.shares_nodes]
    # A cap holds over all pools together, and pods could be on any: with one it is one pool for each model.
    has_spot_pool = said.spot_enabled and said.max_usd_per_hour is None and bool(sharing)
    reserved = ("reserved",) if said.capacity_reservation else ()
    if has_spot_pool:
        together = _union([_for_model(plan, name, said, each, _DEAR_ON_SPOT) for each in sharing])
        together = _within_limit(plan, together, sharing)
        limit = sum(_most_gpus(plan, each, together.types) for each in sharing)
        # The pool that is tried first: with a reservation it has to know it, too.
        yield _pool(
            plan, name, name, shared_by(name), said, together, (*reserved, "spot"), _gpu_limit(limit), weight=10
        )
    for each in models:
        alone = not (has_spot_pool and each.shares_nodes)
        spot = ("spot",) if said.spot_enabled and alone and not each.spans_nodes else ()
        choice = choices[each.name]
        yield _pool(
            plan,
            name,
            short(f"{name}.{each.name}"),
            each.serves,
            said,
            choice,
            (*reserved, *spot, "on-demand"),
            _gpu_limit(_most_gpus(plan, each, choice.types)),
            sharing=each,
        )


def training_pool(plan: "Plan") -> Pool:
    name, said = _of_use(plan, "training", TRAINING_POOL)
    choice = _for_training(plan, name, said)
    capacity = ("spot", "on-demand") if said.spot_enabled else ("on-demand",)
    reserved = ("reserved",) if said.capacity_reservation else ()
    gpus = _training_gpus(plan, choice.types)
    if said.max_usd_per_hour is not None:
        while (worst := gpus * _per_gpu(plan, choice.types)) > said.max_usd_per_hour:
            choice = _without_dearest(plan, name, said.max_usd_per_hour, choice, f"{gpus} GPUs", worst)
            gpus = _training_gpus(plan, choice.types)
    return _pool(plan, name, name, TRAINING, said, choice, (*reserved, *capacity), _gpu_limit(gpus))


def training_pods(plan: "Plan") -> TrainingPods:
    """What each of the pool's types has for a pod but a fiftieth: the least over them, in whole cores and GiB."""
    name, said = _of_use(plan, "training", TRAINING_POOL)
    types = _for_training(plan, name, said).types
    gpus, efa = plan.spec.training.gpus, plan.spec.training.efa
    # A pod with EFA has its node alone: one pod for each network card.
    parts = [1 if efa else max(each.gpu_count // gpus, 1) for each in types]
    cpu = min(_left(each, "cpu") // part for each, part in zip(types, parts, strict=True))
    memory = min(_left(each, "memory") // part for each, part in zip(types, parts, strict=True))
    return TrainingPods(
        pool=name,
        cpu=format_cpu(cpu // 1000 * 1000 or cpu),
        memory=f"{memory // _GIB}Gi",
        gpus=gpus,
        efa=types[0].efa_count if efa else 0,
    )


def general_pools(plan: "Plan") -> Iterator[Pool]:
    """Those of the spec for general use, or else one of usual types."""
    pools = plan.spec.karpenter.node_pools.items()
    said = {name: pool for name, pool in pools if pool.use == "general" and pool.enabled}
    said = said or {_free_name(plan, "general"): GENERAL_POOL}
    on_cpu = [each for each in plan.served if not each.is_on_gpu]
    choices = {name: _for_general(plan, name, pool) for name, pool in said.items()}
    for served in on_cpu:
        if not any(fits(served.requests, free(each)) for choice in choices.values() for each in choice.types):
            raise InvalidInput(
                f"llm.models.{served.name}: a replica with {served.cpu} CPU and {served.memory} fits no instance type "
                f"of 4 to 32 vCPUs of the pools for general use ({', '.join(choices)})",
                param=f"llm.models.{served.name}.serving",
                hint="ask for less, or give a pool with `use: general` families with more memory, such as r7i",
            )
    for name, pool in said.items():
        choice = choices[name]
        vcpus = _GENERAL_LIMIT_VCPU + len(plan.hosted) + sum(_most_vcpus(each, choice.types) for each in on_cpu)
        if pool.max_usd_per_hour is not None:
            per_vcpu = max(usd_per_hour(plan, each) / each.vcpu for each in choice.types)
            vcpus = min(vcpus, int(pool.max_usd_per_hour / per_vcpu))
            least = min(choice.types, key=lambda each: each.vcpu)
            small = tuple(each for each in choice.types if each.vcpu <= vcpus)
            large = (f"{each}: one is more than the cap buys" for each in choice.types if each not in small)
            choice = Choice(small, (*choice.left_out, *large))
            if not small:
                raise _cap_too_low(name, pool.max_usd_per_hour, f"one {least} may cost {least.vcpu * per_vcpu:.2f}")
        memory = max(ceil(Fraction(each.memory_mib, 1024 * each.vcpu)) for each in choice.types) * vcpus
        capacity = ("spot", "on-demand") if pool.spot_enabled else ("on-demand",)
        reserved = ("reserved",) if pool.capacity_reservation else ()
        limits = {"cpu": str(vcpus), "memory": f"{memory}Gi"}
        yield _pool(plan, name, name, CPU, pool, choice, (*reserved, *capacity), limits)


def worst_usd_per_hour(plan: "Plan", pool: Pool) -> Decimal:
    """What all nodes of a pool can cost at most, by its limit and the dearest of its types for what is limited."""
    if pool.has_gpus:
        return int(pool.limits[GPU]) * _per_gpu(plan, pool.types)
    return int(pool.limits["cpu"]) * max(usd_per_hour(plan, each) / each.vcpu for each in pool.types)


def _pool(
    plan: "Plan",
    key: str,
    name: str,
    serves: str,
    said: NodePool,
    choice: Choice,
    capacity: tuple[str, ...],
    limits: Mapping[str, str],
    *,
    weight: int = 0,
    sharing: "Served | None" = None,
) -> Pool:
    uses: Mapping[str, Literal["training", "general"]] = {TRAINING: "training", CPU: "general"}
    use: Literal["inference", "training", "general"] = uses.get(serves, "inference")
    zones = said.zones or (plan.zones[:1] if use == "training" else plan.zones)
    taints = {"general": (), "training": (GPU_TAINT, TRAINING_TAINT), "inference": (GPU_TAINT,)}[use]
    shared = sharing.gpu if sharing is not None and sharing.gpu.sharing != "none" else None
    domain = plan.domain(use)
    if domain == AUTO_MODE:
        _refuse_for_auto_mode(key, said, sharing if shared else None)
    return Pool(
        name=name,
        use=use,
        serves=serves,
        said=said,
        types=choice.types,
        left_out=choice.left_out,
        capacity=capacity,
        limits=limits,
        weight=weight,
        zones=zones,
        domain=domain,
        # Auto Mode has a class `default` of its own.
        node_class=name if shared else "default-nodes" if key == "default" and domain == AUTO_MODE else key,
        taints=taints,
        sharing=shared,
    )


def _refuse_for_auto_mode(key: str, said: NodePool, sharing: Served | None) -> None:
    path = f"karpenter.nodePools.{key}"
    if sharing is not None:
        raise InvalidInput(
            f"llm.models.{sharing.name}: GPU sharing ({sharing.gpu.sharing}) needs a device plugin that can be told, "
            "and EKS Auto Mode's cannot",
            param=f"llm.models.{sharing.name}.serving.gpu.sharing",
            hint="write global.cluster.mode hybrid, so that Karpenter makes the GPU nodes, or sharing none",
        )
    if key in _OF_AUTO_MODE:
        raise InvalidInput(
            f"{path}: EKS Auto Mode has a NodePool {key} of its own, which cannot be changed",
            param=path,
            hint="give the pool another name",
        )


def _for_model(plan: "Plan", name: str, said: NodePool, served: Served, dear: int) -> Choice:
    suited, reasons = [], []
    for each in _all_of_families(said):
        why = why_not(each, served) if _is_sold(plan, each) else f"not sold in {plan.region}"
        if why:
            reasons.append(f"{each}: {why}")
        else:
            suited.append(each)
    if not suited:
        gpu = served.gpu
        cut = f" cut into {gpu.mig_profile}" if gpu.sharing == "mig" else ""
        shared = f" for each of {gpu.share} that share it" if gpu.sharing in ("time-slicing", "mps") else ""
        raise InvalidInput(
            f"llm.models.{served.name}: a replica with {gpu.count} GPU of {gpu.memory}{shared}{cut}, {served.cpu} CPU "
            f"and {served.memory} fits no instance type of karpenter.nodePools.{name} "
            f"({', '.join(said.instance_families)}{_where(plan)})",
            param=f"llm.models.{served.name}.serving",
            hint=_what_would_do(plan, served),
        )
    places = {each.name: usd_per_hour(plan, each) / places_on(served, each) for each in suited}
    cheapest = min(places.values())
    kept = tuple(each for each in suited if places[each.name] <= dear * cheapest)
    reasons += [
        f"{each}: {places[each.name]:.2f} USD an hour for a replica, more than {dear} times the cheapest"
        for each in suited
        if each not in kept
    ]
    return _cheap_enough(name, said, Choice(kept, tuple(reasons)))


def why_not(instance: InstanceType, served: Served) -> str:
    """Why one replica cannot run on the type; empty where it can."""
    gpu = served.gpu
    if not instance.gpu_count or instance.gpu_manufacturer != "nvidia":
        return "no NVIDIA GPU"
    if instance.gpu_count < gpu.count:
        return f"{instance.gpu_count} GPU, {gpu.count} asked for"
    wanted_mib = Decimal(bytes_of(gpu.memory)) / _MIB * _MEMORY_SOLD
    if gpu.sharing == "mig":
        if not slices(instance, gpu.mig_profile):
            has = ", ".join(profiles(instance))
            return f"its GPU cannot be cut into {gpu.mig_profile}{f' but into {has}' if has else ''}"
        if slice_mib(gpu.mig_profile) < wanted_mib:
            return f"a slice of {gpu.mig_profile} has less than {gpu.memory}"
    else:
        share = gpu.share if gpu.sharing in ("time-slicing", "mps") else 1
        if instance.gpu_memory_mib * gpu.count < wanted_mib * share:
            shared = f" for each of {share}" if share > 1 else ""
            return f"{instance.gpu_memory_mib * gpu.count // 1024} GiB of GPU memory, {gpu.memory}{shared} asked for"
    if not fits(served.requests, free(instance)):
        return f"too small for {served.cpu} CPU and {served.memory} beside its GPUs"
    return ""


def _for_training(plan: "Plan", name: str, said: NodePool) -> Choice:
    training = plan.spec.training
    families = [each for each in _of_families(plan, said) if each.gpu_manufacturer == "nvidia"]
    suited = [each for each in families if each.gpu_count >= training.gpus and (each.efa_count or not training.efa)]
    if not suited:
        raise InvalidInput(
            f"training.gpus is {training.gpus}{' with training.efa' if training.efa else ''}, and no instance type of "
            f"{', '.join(said.instance_families)}{_where(plan)} has that many",
            param="training.gpus",
            hint="choose other instanceFamilies for the pool with `use: training`, fewer GPUs, or efa false",
        )
    choice = _cheap_enough(name, said, Choice(tuple(suited), ()))
    # All pods of a job are alike, and it goes at the pace of its slowest GPU.
    first = choice.types[0]
    alike = tuple(each for each in choice.types if _kind(each) == _kind(first))
    other = [
        f"{each}: {each.gpu_count} {each.gpu_name} and {each.efa_count} EFA, not {first.gpu_count} {first.gpu_name} "
        f"and {first.efa_count} as the cheapest"
        for each in choice.types
        if each not in alike
    ]
    return Choice(alike, (*choice.left_out, *other))


def _kind(instance: InstanceType) -> tuple[str, int, int]:
    return instance.gpu_name, instance.gpu_count, instance.efa_count


def _for_general(plan: "Plan", name: str, said: NodePool) -> Choice:
    of_family = [each for each in _of_families(plan, said) if not each.gpu_count and not each.accelerator_count]
    suited = tuple(each for each in of_family if each.vcpu in _GENERAL_VCPU)
    if not suited:
        raise InvalidInput(
            f"karpenter.nodePools.{name} is for general use, and {', '.join(said.instance_families)}{_where(plan)} "
            f"have no instance type without GPUs and with {_GENERAL_VCPU.start} to {_GENERAL_VCPU.stop - 1} vCPUs "
            "(x86-64)",
            param=f"karpenter.nodePools.{name}.instanceFamilies",
            hint="families such as m7i, c7i or r7i; a pool of GPUs is `use: inference`",
        )
    return _cheap_enough(name, said, Choice(suited, ()))


def _cheap_enough(name: str, said: NodePool, choice: Choice) -> Choice:
    """By the prices of us-east-1, as the key says."""
    ceiling = said.max_usd_per_hour_per_node
    ordered = sorted(choice.types, key=_by_price)
    kept = tuple(each for each in ordered if ceiling is None or _usual_usd(each) <= ceiling)
    above = [
        f"{each}: {_usual_usd(each)} USD an hour, above the ceiling of {ceiling}"
        for each in ordered
        if each not in kept
    ]
    if not kept:
        raise InvalidInput(
            f"karpenter.nodePools.{name}.maxUsdPerHourPerNode is {ceiling}, and the cheapest type that does "
            f"({ordered[0]}) costs {_usual_usd(ordered[0])} an hour",
            param=f"karpenter.nodePools.{name}.maxUsdPerHourPerNode",
            hint="raise it, or allow other instanceFamilies",
        )
    return Choice(kept, (*choice.left_out, *above))


def _within_cap(
    plan: "Plan", name: str, cap: Decimal, choices: Mapping[str, Choice], models: Sequence[Served]
) -> dict[str, Choice]:
    """Leave out the types that are dearest for a GPU until the limits of all pools together cost no more than the cap,
    whichever types are launched. Of GPUs that are shared each share counts as a whole one: until a node has joined,
    that is what Karpenter counts."""
    kept = dict(choices)
    while True:
        gpus = {each.name: _most_gpus(plan, each, kept[each.name].types) for each in models}
        worst = sum((gpus[each] * _per_gpu(plan, kept[each].types) for each in gpus), Decimal(0))
        if worst <= cap:
            return kept
        several = [each for each in kept if len({_usd_of_gpu(plan, one) for one in kept[each].types}) > 1]
        most = f"{sum(gpus.values())} GPUs, which {', '.join(choices)} may ask for,"
        if not several:
            raise _cap_too_low(name, cap, f"{most} cost {worst:.2f}")
        dearest = max(several, key=lambda each: _per_gpu(plan, kept[each].types))
        kept[dearest] = _without_dearest(plan, name, cap, kept[dearest], most, worst)


def _without_dearest(plan: "Plan", name: str, cap: Decimal, choice: Choice, what: str, worst: Decimal) -> Choice:
    top = _per_gpu(plan, choice.types)
    kept = tuple(each for each in choice.types if _usd_of_gpu(plan, each) < top)
    if not kept:
        raise _cap_too_low(name, cap, f"{what} cost {worst:.2f}")
    reasons = [
        f"{each}: {top:.2f} USD an hour for a GPU, too much for the cap of {cap}"
        for each in choice.types
        if each not in kept
    ]
    return Choice(kept, (*choice.left_out, *reasons))


def _cap_too_low(name: str, cap: Decimal | None, why: str) -> InvalidInput:
    return InvalidInput(
        f"karpenter.nodePools.{name}.maxUsdPerHour is {cap}, and {why} USD an hour at most",
        param=f"karpenter.nodePools.{name}.maxUsdPerHour",
        hint="raise it, or lower what runs on the pool at most: replicas.max of models, training.nodes",
    )


def _most_gpus(plan: "Plan", served: Served, types: Sequence[InstanceType]) -> int:
    """GPUs that let every replica run, and one more pod while a rollout goes on, whichever types are launched: a node
    may have more GPUs than its pods can use, and the last node is launched whole."""
    pods = _pods_at_most(plan, served)
    able = [each for each in types if not why_not(each, served)]
    used = max(Fraction(offered(each, served.gpu), places_on(served, each)) for each in able)
    return floor(used * (pods - 1)) + min(offered(each, served.gpu) for each in able)


def _within_limit(plan: "Plan", choice: Choice, models: Sequence[Served]) -> Choice:
    """Without the types of which one node is more than the pool may have, so that none is ever launched. Fewer types
    may mean a lower limit, and so on."""
    while True:
        limit = sum(_most_gpus(plan, each, choice.types) for each in models)
        kept = tuple(one for one in choice.types if all(offered(one, each.gpu) <= limit for each in models))
        if len(kept) == len(choice.types):
            return choice
        reasons = [
            f"{one}: {one.gpu_count} GPUs at once, more than the replicas of the pool can use"
            for one in choice.types
            if one not in kept
        ]
        choice = Choice(kept, (*choice.left_out, *reasons))


def _most_vcpus(served: Served, types: Sequence[InstanceType]) -> int:
    """The same for a model on the CPU."""
    able = [each for each in types if fits(served.requests, free(each))]
    pods = served.replicas.max + _SURGE
    return ceil(pods * max((Fraction(each.vcpu, times(served.requests, free(each))) for each in able), default=0))


def _training_gpus(plan: "Plan", types: Sequence[InstanceType]) -> int:
    """GPUs of all nodes of one job; a pod with EFA has its node alone."""
    training = plan.spec.training
    on_node = [1 if training.efa else each.gpu_count // training.gpus for each in types]
    return max(ceil(training.nodes / n) * each.gpu_count for each, n in zip(types, on_node, strict=True))


def places_on(served: Served, instance: InstanceType) -> int:
    """Replicas of a model beside one another on a node, as many as share its GPUs. At least 1: one was found to fit."""
    return max(times(served.requests, {**free(instance), GPU: offered(instance, served.gpu)}), 1)


def _pods_at_most(plan: "Plan", served: Served) -> int:
    """With one more of them while a rollout goes on, and with those of the AIInferenceStack on the model's nodes."""
    pods = served.replicas.max * served.serving.nodes + (0 if served.spans_nodes else _SURGE)
    return pods + (STACK_REPLICAS + _SURGE if served is plan.stack else 0)


def _gpu_limit(gpus: int) -> dict[str, str]:
    return {GPU: str(gpus)}


def _union(choices: Sequence[Choice]) -> Choice:
    found = {each.name: each for choice in choices for each in choice.types}
    reasons = {reason.partition(":")[0]: reason for choice in choices for reason in choice.left_out}
    left_out = tuple(reason for name, reason in reasons.items() if name not in found)
    return Choice(tuple(sorted(found.values(), key=_by_price)), left_out)


def _of_use(plan: "Plan", use: str, otherwise: NodePool) -> tuple[str, NodePool]:
    pools = plan.spec.karpenter.node_pools.items()
    found = next(((name, pool) for name, pool in pools if pool.use == use and pool.enabled), None)
    return found or (_free_name(plan, use), otherwise)


def _free_name(plan: "Plan", name: str) -> str:
    """The name, or one beside it where the spec gives it to a pool of another use."""
    while name in plan.spec.karpenter.node_pools:
        name += "-nodes"
    return name


def _of_families(plan: "Plan", said: NodePool) -> list[InstanceType]:
    return [each for each in _all_of_families(said) if _is_sold(plan, each)]


def _all_of_families(said: NodePool) -> Iterator[InstanceType]:
    for family in dict.fromkeys(said.instance_families):
        yield from _by_family().get(family, ())


def _is_sold(plan: "Plan", instance: InstanceType) -> bool:
    """Whether the region has the type, as far as the catalogue knows."""
    return plan.region not in regions() or plan.region in instance.prices


def _where(plan: "Plan") -> str:
    return f", in {plan.region}" if plan.region in regions() else ""


@cache
def _by_family() -> dict[str, tuple[InstanceType, ...]]:
    """Without what is sold as capacity blocks only, which has no price, and bare metal, which takes long to start."""
    found: dict[str, list[InstanceType]] = {}
    for each in instance_types().values():
        if each.arch == "amd64" and not each.bare_metal and each.prices:
            found.setdefault(each.family, []).append(each)
    return {family: tuple(sorted(each, key=_by_price)) for family, each in found.items()}


@cache
def free(instance: InstanceType) -> Mapping[str, int]:
    return added(instance.allocatable, {key: -amount for key, amount in DAEMONS.items()})


def _left(instance: InstanceType, resource: str) -> int:
    """Without a fiftieth of the machine: a pod that fills it is not scheduled again with one more DaemonSet."""
    return free(instance)[resource] - instance.allocatable[resource] // _KEPT


def _what_would_do(plan: "Plan", served: Served) -> str:
    everything = NodePool(instance_families=tuple(_by_family()))
    found = [each for each in _of_families(plan, everything) if not why_not(each, served)]
    if not found:
        return "no instance type has that; ask for less, or serve it over several nodes (serving.nodes)"
    best = min(found, key=_by_price)
    return f"{best.name} would do: add {best.family} to instanceFamilies"


def usd_per_hour(plan: "Plan", instance: InstanceType) -> Decimal:
    price = instance.usd_per_hour(plan.region)
    return _usual_usd(instance) if price is None else Decimal(repr(price))


def _usual_usd(instance: InstanceType) -> Decimal:
    """By us-east-1, or the dearest of the regions that are known."""
    price = instance.usd_per_hour()
    return Decimal(repr(price if price is not None else max(instance.prices.values())))


def _usd_of_gpu(plan: "Plan", instance: InstanceType) -> Decimal:
    return usd_per_hour(plan, instance) / instance.gpu_count


def _per_gpu(plan: "Plan", types: Iterable[InstanceType]) -> Decimal:
    return max(_usd_of_gpu(plan, each) for each in types)


def _by_price(instance: InstanceType) -> tuple[Decimal, str]:
    return _usual_usd(instance), instance.name

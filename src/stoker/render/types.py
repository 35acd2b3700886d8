"""Which instance types each NodePool allows, and its limits: chosen from the catalogue so that what runs there fits.

Pools name types and not families: a type that no pod fits, or that is above a price ceiling, is then not among them.
Prices are those on demand in us-east-1, the only region whose prices are known for every type.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Literal

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import InstanceType, instance_types
from stoker.manifests.quantities import bytes_of, format_cpu
from stoker.policy.pod_resources import added, fits, times
from stoker.render.facts import (
    CPU,
    GPU_TAINT,
    SHARED,
    STACK_REPLICAS,
    TRAINING,
    TRAINING_TAINT,
    Pool,
    Served,
    TrainingPods,
    short,
)
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

GENERAL_POOL = NodePool(instance_families=("m7i", "m7a", "m6i", "m6a"), spot_enabled=False)
TRAINING_POOL = NodePool(use="training", instance_families=("p4d", "p4de", "p5"))
_GENERAL_VCPU = range(4, 33)
_GENERAL_LIMIT_VCPU = 256


@dataclass(frozen=True)
class Choice:
    """The types that do, the cheapest first, and what was left out and why."""

    types: tuple[InstanceType, ...]
    left_out: tuple[str, ...]


def inference_pools(plan: "Plan", name: str, said: NodePool) -> Iterator[Pool]:
    """One pool for each model of the spec's pool `name`, and one of spot that those share that can."""
    models = [each for each in plan.served if each.pool == name]
    choices = {each.name: _for_model(name, said, each, _DEAR) for each in models}
    needed = {each.name: _gpus_at_most(each) + _gpus_of_stack(plan, each) for each in models}
    if said.max_usd_per_hour is not None:
        choices = _within_cap(name, said.max_usd_per_hour, choices, needed)
    sharing = [each for each in models if each.shares_nodes]
    # A cap holds over all pools together, and pods could be on any: with one it is one pool for each model.
    has_spot_pool = said.spot_enabled and said.max_usd_per_hour is None and bool(sharing)
    if has_spot_pool:
        together = _union(_for_model(name, said, each, _DEAR_ON_SPOT) for each in sharing)
        limit = sum(needed[each.name] for each in sharing)
        yield _pool(plan, name, SHARED, said, together, ("spot",), _gpu_limit(limit), weight=50)
    for each in models:
        alone = not (has_spot_pool and each.shares_nodes)
        spot = ("spot",) if said.spot_enabled and alone and not each.spans_nodes else ()
        reserved = ("reserved",) if said.capacity_reservation else ()
        yield _pool(
            plan,
            short(f"{name}.{each.name}"),
            each.serves,
            said,
            choices[each.name],
            (*reserved, *spot, "on-demand"),
            _gpu_limit(needed[each.name]),
            weight=10,
            sharing=each,
        )


def training_pool(plan: "Plan") -> Pool:
    name, said = _of_use(plan, "training", TRAINING_POOL)
    pods = training_pods(plan)
    choice = _for_training(plan, name, said)
    gpus = plan.spec.training.nodes * max(each.gpu_count for each in choice.types)
    capacity = ("spot", "on-demand") if said.spot_enabled else ("on-demand",)
    reserved = ("reserved",) if said.capacity_reservation else ()
    if said.max_usd_per_hour is not None:
        choice = _within_cap(name, said.max_usd_per_hour, {name: choice}, {name: gpus})[name]
    assert pods.gpus <= gpus  # noqa: S101 - the types were chosen for them
    return _pool(plan, name, TRAINING, said, choice, (*reserved, *capacity), _gpu_limit(gpus), weight=0)


def training_pods(plan: "Plan") -> TrainingPods:
    """The most that each of the pool's types has for a pod: the least over them, in whole cores and GiB."""
    name, said = _of_use(plan, "training", TRAINING_POOL)
    types = _for_training(plan, name, said).types
    gpus, efa = plan.spec.training.gpus, plan.spec.training.efa
    huge = 5120 * _MIB if efa else 0  # what AWS asks for beside EFA, on each node
    # A pod with EFA has its node alone: one pod for each network card.
    parts = [1 if efa else max(each.gpu_count // gpus, 1) for each in types]
    cpu = min(_free(each)["cpu"] // part for each, part in zip(types, parts, strict=True))
    memory = min((_free(each)["memory"] - huge) // part for each, part in zip(types, parts, strict=True))
    return TrainingPods(
        pool=name,
        cpu=format_cpu(cpu // 1000 * 1000 or cpu),
        memory=f"{memory // _GIB}Gi",
        gpus=gpus,
        efa=types[0].efa_count if efa else 0,
        huge_pages="5120Mi" if efa else "",
    )


def general_pools(plan: "Plan") -> Iterator[Pool]:
    """Those of the spec for general use, or else one of usual types."""
    pools = plan.spec.karpenter.node_pools.items()
    said = {name: pool for name, pool in pools if pool.use == "general" and pool.enabled} or {"general": GENERAL_POOL}
    for name, pool in said.items():
        of_family = [each for each in _of_families(pool) if each.gpu_count == 0 and each.vcpu in _GENERAL_VCPU]
        choice = _cheap_enough(name, pool, Choice(tuple(of_family), ()))
        vcpus = _GENERAL_LIMIT_VCPU
        if pool.max_usd_per_hour is not None:
            vcpus = int(pool.max_usd_per_hour / max(_usd(each) / each.vcpu for each in choice.types))
            if vcpus < choice.types[0].vcpu:
                raise _cap_too_low(name, f"{choice.types[0]} costs {_usd(choice.types[0])}")
        memory = max(each.memory_mib // 1024 // each.vcpu for each in choice.types) * vcpus
        capacity = ("spot", "on-demand") if pool.spot_enabled else ("on-demand",)
        limits = {"cpu": str(vcpus), "memory": f"{memory}Gi"}
        yield _pool(plan, name, CPU, pool, choice, capacity, limits, weight=0)


def _pool(
    plan: "Plan",
    name: str,
    serves: str,
    said: NodePool,
    choice: Choice,
    capacity: tuple[str, ...],
    limits: Mapping[str, str],
    *,
    weight: int,
    sharing: "Served | None" = None,
) -> Pool:
    uses: Mapping[str, Literal["training", "general"]] = {TRAINING: "training", CPU: "general"}
    use: Literal["inference", "training", "general"] = uses.get(serves, "inference")
    zones = said.zones or (plan.zones[:1] if use == "training" else plan.zones)
    taints = {"general": (), "training": (GPU_TAINT, TRAINING_TAINT), "inference": (GPU_TAINT,)}[use]
    shared = sharing.gpu if sharing is not None and sharing.gpu.sharing != "none" else None
    node_class = {"general": "general", "training": "training", "inference": name if shared else "gpu"}[use]
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
        domain=plan.domain(use),
        node_class=node_class,
        taints=taints,
        sharing=shared,
    )


def _for_model(name: str, said: NodePool, served: Served, dear: int) -> Choice:
    path = f"llm.models.{served.name}"
    gpu = served.gpu
    wanted_mib = Decimal(bytes_of(gpu.memory)) / _MIB * _MEMORY_SOLD
    if gpu.sharing in ("time-slicing", "mps"):
        wanted_mib *= gpu.share
    families = [each for each in _of_families(said) if each.gpu_count and each.gpu_manufacturer == "nvidia"]
    suited = [
        each
        for each in families
        if each.gpu_count >= gpu.count
        and each.gpu_memory_mib * gpu.count >= wanted_mib
        and fits(served.requests, _free(each))
        and (gpu.sharing != "mig" or _can_be_cut(each))
    ]
    if not suited:
        cut = f" that can be cut into {gpu.mig_profile}" if gpu.sharing == "mig" else ""
        raise InvalidInput(
            f"{path}: a replica with {gpu.count} GPU of {gpu.memory}{cut}, {served.cpu} CPU and {served.memory} fits "
            f"no instance type of karpenter.nodePools.{name} ({', '.join(said.instance_families)})",
            param=f"{path}.serving",
            hint=_what_would_do(served, wanted_mib),
        )
    places = {each.name: _usd(each) / max(times(served.requests, _free(each)), 1) for each in suited}
    cheapest = min(places.values())
    kept = [each for each in suited if places[each.name] <= dear * cheapest]
    reasons = [
        f"{each}: {places[each.name]:.2f} USD an hour for a replica, more than {dear} times the cheapest"
        for each in suited
        if each not in kept
    ]
    return _cheap_enough(name, said, Choice(tuple(kept), tuple(reasons)))


def _for_training(plan: "Plan", name: str, said: NodePool) -> Choice:
    training = plan.spec.training
    families = [each for each in _of_families(said) if each.gpu_count >= training.gpus]
    suited = [each for each in families if each.efa_count > 0 or not training.efa]
    if not suited:
        raise InvalidInput(
            f"training.gpus is {training.gpus}{' with training.efa' if training.efa else ''}, and no instance type of "
            f"{', '.join(said.instance_families)} has that many",
            param="training.gpus",
            hint="choose other instanceFamilies for the pool with `use: training`, fewer GPUs, or efa false",
        )
    choice = _cheap_enough(name, said, Choice(tuple(suited), ()))
    first = choice.types[0]
    alike = [each for each in choice.types if (each.efa_count, each.gpu_count) == (first.efa_count, first.gpu_count)]
    other = [
        f"{each}: {each.gpu_count} GPUs and {each.efa_count} EFA, not {first.gpu_count} and {first.efa_count}"
        for each in choice.types
        if each not in alike
    ]
    return Choice(tuple(alike), (*choice.left_out, *other))


def _cheap_enough(name: str, said: NodePool, choice: Choice) -> Choice:
    ceiling = said.max_usd_per_hour_per_node
    kept = sorted((each for each in choice.types if ceiling is None or _usd(each) <= ceiling), key=_by_price)
    above = [
        f"{each}: {_usd(each)} USD an hour, above the ceiling of {ceiling}" for each in choice.types if each not in kept
    ]
    if not kept:
        cheapest = min(choice.types, key=_by_price)
        raise InvalidInput(
            f"karpenter.nodePools.{name}.maxUsdPerHourPerNode is {ceiling}, and the cheapest type that does "
            f"({cheapest}) costs {_usd(cheapest)} an hour",
            param=f"karpenter.nodePools.{name}.maxUsdPerHourPerNode",
            hint="raise it, or allow other instanceFamilies",
        )
    return Choice(tuple(kept), (*choice.left_out, *above))


def _within_cap(name: str, cap: Decimal, choices: Mapping[str, Choice], gpus: Mapping[str, int]) -> dict[str, Choice]:
    """Leave out the types that are dearest for a GPU until the limits of all pools together cost no more than the cap,
    whichever types are launched."""
    kept = dict(choices)
    while (worst := sum(gpus[model] * _per_gpu(choice.types) for model, choice in kept.items())) > cap:
        dearest = [model for model, choice in kept.items() if len({_usd_of_gpu(each) for each in choice.types}) > 1]
        if not dearest:
            least = sum(gpus.values())
            raise _cap_too_low(name, f"{least} GPUs, which {', '.join(choices)} may ask for, cost {worst:.2f}")
        model = max(dearest, key=lambda each: _per_gpu(kept[each].types))
        top = _per_gpu(kept[model].types)
        out = [each for each in kept[model].types if _usd_of_gpu(each) == top]
        reasons = [f"{each}: {top:.2f} USD an hour for a GPU, too much for the cap of {cap}" for each in out]
        types = tuple(each for each in kept[model].types if each not in out)
        kept[model] = Choice(types, (*kept[model].left_out, *reasons))
    return kept


def _cap_too_low(name: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"karpenter.nodePools.{name}.maxUsdPerHour is too low: {why} USD an hour at most",
        param=f"karpenter.nodePools.{name}.maxUsdPerHour",
        hint="raise it, or lower the replicas.max of the models on the pool",
    )


def _gpus_at_most(served: Served) -> int:
    most = served.replicas.max * served.serving.nodes * served.gpu.count
    return most + (0 if served.spans_nodes else _SURGE * served.gpu.count)


def _gpus_of_stack(plan: "Plan", served: Served) -> int:
    """What the instance of AIInferenceStack asks for beside the model from whose nodes it takes them."""
    return (STACK_REPLICAS + _SURGE) * served.gpu.count if served is plan.stack else 0


def _gpu_limit(gpus: int) -> dict[str, str]:
    return {"nvidia.com/gpu": str(gpus)}


def _union(choices: Iterable[Choice]) -> Choice:
    found = {each.name: each for choice in choices for each in choice.types}
    return Choice(tuple(sorted(found.values(), key=_by_price)), ())


def _of_use(plan: "Plan", use: str, otherwise: NodePool) -> tuple[str, NodePool]:
    pools = plan.spec.karpenter.node_pools.items()
    return next(((name, pool) for name, pool in pools if pool.use == use and pool.enabled), (use, otherwise))


def _of_families(said: NodePool) -> Sequence[InstanceType]:
    return [each for family in said.instance_families for each in _by_family().get(family, ())]


@cache
def _by_family() -> dict[str, tuple[InstanceType, ...]]:
    found: dict[str, list[InstanceType]] = {}
    for each in instance_types().values():
        if each.arch == "amd64" and not each.bare_metal and each.prices:
            found.setdefault(each.family, []).append(each)
    return {family: tuple(sorted(each, key=_by_price)) for family, each in found.items()}


def _free(instance: InstanceType) -> dict[str, int]:
    return added(instance.allocatable, {key: -amount for key, amount in DAEMONS.items()})


def _can_be_cut(instance: InstanceType) -> bool:
    """Whether the GPU knows MIG."""
    return instance.gpu_name in ("a100", "h100", "h200", "b200", "b300")


def _what_would_do(served: Served, wanted_mib: Decimal) -> str:
    everything = (each for types in _by_family().values() for each in types if each.gpu_manufacturer == "nvidia")
    found = [
        each
        for each in everything
        if each.gpu_count >= served.gpu.count
        and each.gpu_memory_mib * served.gpu.count >= wanted_mib
        and fits(served.requests, _free(each))
    ]
    if not found:
        return "no instance type has that; ask for less, or serve it over several nodes (serving.nodes)"
    best = min(found, key=_by_price)
    return f"{best.name} would do: add {best.family} to instanceFamilies"


def _usd(instance: InstanceType) -> Decimal:
    """By us-east-1, or the dearest of the regions that are known."""
    price = instance.usd_per_hour()
    return Decimal(repr(price if price is not None else max(instance.prices.values())))


def _usd_of_gpu(instance: InstanceType) -> Decimal:
    return _usd(instance) / instance.gpu_count


def _per_gpu(types: Sequence[InstanceType]) -> Decimal:
    return max(map(_usd_of_gpu, types))


def _by_price(instance: InstanceType) -> tuple[Decimal, str]:
    return _usd(instance), instance.name

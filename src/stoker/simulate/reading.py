"""Manifests, whoever made them, -> `Scenario`: which pods serve which model, what scales them, where they may run.

By subject: `reading_pods` (templates), `reading_commands`, `reading_serving` and `reading_weights` (engines, and what
they load), `reading_scalers`, `reading_triggers` and `reading_queries` (autoscalers), `reading_pools` (nodes),
`reading_platform` (Stoker's ConfigMap). Whatever is passed over, or taken for granted, is a note.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from stoker.base.errors import InvalidInput
from stoker.catalog import models as catalogue
from stoker.manifests.disruptions import budgets_of
from stoker.manifests.node_pools import container_requests
from stoker.manifests.objects import Manifest, whole
from stoker.manifests.workloads import Workload as Template
from stoker.manifests.workloads import workloads_of
from stoker.policy.cluster import PodShape
from stoker.policy.pod_resources import CPU, largest
from stoker.simulate import engines
from stoker.simulate.reading_commands import Configs
from stoker.simulate.reading_disks import has_own_volume, on_disk, too_small
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_platform import Platform, platform
from stoker.simulate.reading_pods import (
    Priorities,
    has_zonal_claims,
    priorities,
    shape_of,
    storage_classes,
    view_of,
)
from stoker.simulate.reading_pools import places, read_pools
from stoker.simulate.reading_refused import refused
from stoker.simulate.reading_scalers import Key, Target, key_of, queued, read_scalers
from stoker.simulate.reading_serving import Found, Pods, found_in, has_gpus, load_of, serving_of
from stoker.simulate.reading_sharing import crowded
from stoker.simulate.reading_weights import brought
from stoker.simulate.scenario import NO_NODES, NodeGroup, Scaler, Scenario, Workload

_REPLICATED = ("Deployment", "StatefulSet", "ReplicaSet", "Rollout", "LeaderWorkerSet", "ReplicationController")
_WHY_NOT: Mapping[str, str] = {
    "Pod": "nothing brings a single pod back",
    "Job": "Jobs end by themselves and serve nobody",
    "CronJob": "Jobs end by themselves and serve nobody",
}
_USUAL_DEFAULTS = ("general", "default")
"""Models that take what names none, where nothing says which does."""
_TRAINING = "training and batch kinds serve nobody"
_OTHER_SERVERS: Mapping[str, str] = {
    "InferenceService": "KServe makes its pods, and which is not written here: render them, or write a Deployment",
    "LLMInferenceService": "KServe makes its pods, and which is not written here: render them, or write a Deployment",
    "RayService": "Ray makes its pods: what serves is in its cluster's configuration, which is not read",
    "NIMService": "the NIM operator makes its pods, and which is not written here",
    "DynamoGraphDeployment": "Dynamo makes its pods, and which is not written here",
}
_TOO_OLD = "Karpenter's v1alpha5 is too old to be read: write it as a NodePool of karpenter.sh/v1"
_USED = (
    "NodePool",
    "NodeOverlay",
    "EC2NodeClass",
    "NodeClass",
    "ScaledObject",
    "ScaledJob",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "PriorityClass",
    "DaemonSet",
    *_REPLICATED,
)


@dataclass(frozen=True)
class _Group:
    """One object that makes replicas, while it is read."""

    manifest: Manifest
    key: Key
    pods: Pods
    shape: PodShape
    replicas: int
    found: Found | None


def read_scenario(
    manifests: Sequence[Manifest],
    *,
    region: str | None = None,
    groups: Sequence[NodeGroup] = (),
    default_model: str | None = None,
    weights: Mapping[str, str] = MappingProxyType({}),
) -> Scenario:
    """`weights`: by model, where the manifests do not say them, or others are meant. Raises InvalidInput when there
    are no manifests, when none of them serves a model, when `default_model` or one of `weights` is no model here, or
    when nothing is known of such weights."""
    if not manifests:
        raise InvalidInput("there are no manifests to simulate", hint="name files or folders of Kubernetes manifests")
    notes = Notes()
    present = _present(manifests, notes)
    refused(present, _REPLICATED, notes)
    known, said = priorities(present), platform(present)
    configs = _configs(present)
    namespaces = tuple(dict.fromkeys(each.namespace or "default" for each in present))
    places_known = brought(present, configs)
    read = [
        _group(each, known, configs, namespaces, weights, places_known, notes)
        for each in present
        if each.kind in _REPLICATED
    ]
    found = [each for each in read if each is not None]
    if not any(each.found is not None for each in found):
        raise _serves_nothing(present, notes)
    by_queue = queued(present)
    scalers, least = read_scalers(present, {each.key: _target(each) for each in found}, notes)
    classes = storage_classes(present)
    workloads = tuple(_workload(each, by_queue, said, scalers, least, configs, classes, notes) for each in found)
    pools = read_pools(present, said, notes)
    crowded(workloads, pools, notes)
    taken = [
        on_disk(one, keeps_weights=not has_own_volume(each.pods.first))
        for one, each in zip(workloads, found, strict=True)
    ]
    too_small(zip(workloads, taken, strict=True), pools, notes)
    if not pools and not groups:
        notes.say(NO_NODES)
    where, zones = places(pools, present, said, region, notes)
    scenario = Scenario(
        workloads=workloads,
        scalers=scalers,
        pools=pools,
        groups=tuple(groups),
        budgets=tuple(budgets_of(each) for each in present if each.kind == "PodDisruptionBudget"),
        daemons=tuple(
            view_of(one, known) for each in present if each.kind == "DaemonSet" for one in workloads_of(each)
        ),
        zones=zones,
        region=where,
    )
    for model, name in weights.items():
        _known(model, scenario.models, "weights")
        if catalogue.find(name) is None:
            raise InvalidInput(
                f"nothing is known of the weights {name[:100]!r} of {model}",
                hint="a name as on a hub, with the number of parameters in it: Qwen/Qwen3-8B, my-finetune-7b",
                param="weights",
            )
    chosen = _default_model(scenario.models, default_model, said, notes)
    return replace(scenario, default_model=chosen, notes=notes.lines())


def _present(manifests: Sequence[Manifest], notes: Notes) -> list[Manifest]:
    """The objects that there would be: without templates of others, each once (the last is what `apply` leaves)."""
    last: dict[tuple[str, str, str, str], Manifest] = {}
    counts: dict[str, int] = {}
    for each in manifests:
        if each.inside is not None:
            if each.kind in (*_REPLICATED, "ScaledObject"):
                notes.passed(str(each), f"it is part of {each.inside}, which makes it when it is asked to")
            continue
        key = each.group, each.kind, each.namespace or "default", each.name
        if key in last:
            notes.say(f"{each} is there more than once: the last one counts")
            del last[key]
        last[key] = each
    for each in last.values():
        if each.kind in _OTHER_SERVERS:
            notes.passed(str(each), _OTHER_SERVERS[each.kind])
        elif each.group == "karpenter.sh" and each.kind == "Provisioner":
            notes.passed(str(each), _TOO_OLD)
        elif each.kind == "DaemonSet" and any(has_gpus(one) for one in workloads_of(each)):
            notes.say(f"{each} has GPUs: it is taken as what each node spends on itself, and not as a model's replicas")
        elif each.kind not in _USED and workloads_of(each):
            notes.passed(str(each), _WHY_NOT.get(each.kind, _TRAINING))
        elif each.kind not in _USED:
            counts[each.kind] = counts.get(each.kind, 0) + 1
    if counts:
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
        notes.say_last(f"not looked at, since they change neither pods nor nodes: {listed}")
    return list(last.values())


def _configs(manifests: Sequence[Manifest]) -> dict[str, Configs]:
    """Data of ConfigMaps, by namespace and name."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for each in manifests:
        data = each.get("data")
        if each.kind == "ConfigMap" and isinstance(data, dict):
            texts = {str(key): value for key, value in data.items() if isinstance(value, str)}
            found.setdefault(each.namespace or "default", {})[each.name] = texts
    return dict(found)


def _group(
    manifest: Manifest,
    known: Priorities,
    configs: Mapping[str, Configs],
    namespaces: tuple[str, ...],
    weights: Mapping[str, str],
    places_known: Mapping[str, str],
    notes: Notes,
) -> _Group | None:
    templates = workloads_of(manifest)
    if not templates or not templates[0].spec:
        notes.passed(str(manifest), "it has no pod template of its own")
        return None
    if manifest.get("spec", "suspend") is True:
        notes.passed(str(manifest), "it is suspended")
        return None
    pods = _pods(manifest, templates)
    shape = shape_of(pods.first, known, namespaces)
    if pods.others is not None:
        # One shape stands for all pods of a replica: the most that any of them asks for.
        requests = largest(shape.view.requests, view_of(pods.others, known).requests)
        shape = replace(shape, view=replace(shape.view, requests=requests))
        notes.say(f"{manifest}: leader and workers are taken as {pods.size} alike pods, which are ready together")
    written = whole(manifest.get("spec", "replicas"))
    replicas = 1 if written is None else max(written, 0)
    found = found_in(pods, configs.get(manifest.namespace or "default", {}), notes, weights, places_known)
    return _Group(manifest, key_of(manifest, manifest.kind, manifest.name), pods, shape, replicas, found)


def _pods(manifest: Manifest, templates: Sequence[Template]) -> Pods:
    if manifest.kind != "LeaderWorkerSet":
        return Pods(templates[0], None, 1)
    size = whole(manifest.get("spec", "leaderWorkerTemplate", "size"))
    others = templates[1] if len(templates) > 1 else None
    return Pods(templates[0], others, max(1 if size is None else size, 1))


def _target(group: _Group) -> Target:
    cpu = sum(container_requests(each).get(CPU, 0) for _, each in group.pods.first.containers())
    model = group.found.model if group.found is not None else ""
    return Target(str(group.manifest), model, group.replicas, cpu)


def _workload(
    group: _Group,
    by_queue: frozenset[Key],
    said: Platform,
    scalers: Sequence[Scaler],
    least: Mapping[str, int],
    configs: Mapping[str, Configs],
    classes: Mapping[str, str],
    notes: Notes,
) -> Workload:
    name, found = str(group.manifest), group.found
    serving = None
    if found is not None:
        is_queued = found.has_worker or group.key in by_queue
        serving = serving_of(found, "queue" if is_queued else "balance", said, name, notes)
        if group.replicas == 0 and all(each.target != name for each in scalers):
            notes.say(f"{name}: 0 replicas are written and nothing scales it, so nobody serves {found.model} there")
    own = configs.get(group.manifest.namespace or "default", {})
    is_stateful = group.manifest.kind == "StatefulSet"
    load = load_of(group.pods, found, group.shape.grace_s, own)
    return Workload(
        name=name,
        kind=group.manifest.kind,
        shape=group.shape,
        replicas=max(group.replicas, least.get(name, 0)),
        load=replace(load, weights_bytes=0 if serving is None else engines.weights_bytes(serving)),
        serving=serving,
        pods_per_replica=group.pods.size,
        has_identity=is_stateful,
        in_order=is_stateful and group.manifest.get("spec", "podManagementPolicy") != "Parallel",
        keeps_zone=is_stateful and has_zonal_claims(group.manifest, classes),
    )


def _default_model(models: Sequence[str], asked: str | None, said: Platform, notes: Notes) -> str:
    if asked is not None:
        _known(asked, models, "default_model")
        return asked
    if said.default_model in models:
        return said.default_model
    chosen, why = next(
        ((name, "by its name") for name in _USUAL_DEFAULTS if name in models), (models[0], "the first that is served")
    )
    if len(models) > 1:
        notes.say(f"requests that name no model go to {chosen}, {why} (--to says another)")
    return chosen


def _known(model: str, models: Sequence[str], param: str) -> None:
    if model not in models:
        hint = f"the models here: {', '.join(models)}"
        raise InvalidInput(f"no workload serves the model {model}", hint=hint, param=param)


def _serves_nothing(manifests: Sequence[Manifest], notes: Notes) -> InvalidInput:
    kinds: dict[str, int] = {}
    for each in manifests:
        kinds[each.kind or "object"] = kinds.get(each.kind or "object", 0) + 1
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    said = [line for line in notes.lines() if not line.startswith("not looked at")]
    return InvalidInput(
        "none of the manifests serves a model: a Deployment, StatefulSet, ReplicaSet, Rollout or LeaderWorkerSet whose "
        f"pods have a GPU and run vLLM, SGLang, TGI, Triton or a server of your own. There are: {listed}"
        + (f". {'; '.join(said)}" if said else ""),
        hint="name the folder with the models' Deployments too (`stoker render -o DIR` writes one)",
    )

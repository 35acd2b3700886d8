"""Objects of the cluster's API -> lives of machines and of pods, and the phases of their starts. Pure.

A machine is billed from the moment Karpenter says that it was launched; of a node without a NodeClaim, from the moment
it joined, since the API knows of no earlier one. Times of the API are whole seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stoker.catalog import labels
from stoker.manifests.quantities import in_base_units
from stoker.meter.lives import MachineLife, Phase, StayLife
from stoker.nodes.pricing import Pricing
from stoker.policy.pod_resources import CPU, GPUS, MEMORY, OF_GPUS, Amounts, Init, pod_requests, requested
from stoker.render.facts import MODEL
from stoker.render.objects import NAME

Tree = Mapping[str, Any]
LEADER = "leaderworkerset.sigs.k8s.io/leader-name"
"""Annotation of the further pods of a replica that spans nodes: the pod whose worker announces the replica."""
_GROUP, _GROUP_CAPACITY = "eks.amazonaws.com/nodegroup", "eks.amazonaws.com/capacityType"
_CAPACITIES = {"spot": "spot", "reserved": "reserved", "capacity_block": "reserved"}


@dataclass(frozen=True, slots=True)
class Objects:
    """What the API listed in one look. `classes`: EC2NodeClasses and NodeClasses, by kind and name."""

    nodes: Sequence[Tree]
    claims: Sequence[Tree] = ()
    pods: Sequence[Tree] = ()
    events: Sequence[Tree] = ()
    classes: Mapping[tuple[str, str], Tree] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    machines: Sequence[MachineLife]
    stays: Sequence[StayLife]
    phases: Sequence[Phase]


def see(objects: Objects, pricing: Pricing, now: float) -> Seen:
    """All that is there now. What has not got a machine yet is not in it: it has no life to write."""
    nodes = {node["metadata"]["name"]: node for node in objects.nodes}
    claims = {name: claim for claim in objects.claims if (name := _look(claim, "status", "nodeName"))}
    pulls = _pulls(objects.events)
    machines: dict[str, MachineLife] = {}
    phases: list[Phase] = []
    of_nodes: dict[str, str] = {}
    for name, node in nodes.items():
        machine = _machine(node, claims.get(name), objects, pricing, now)
        machines[machine.id] = machine
        of_nodes[name] = machine.id
    for claim in objects.claims:
        launched = _machine_of_claim(claim, objects, pricing, now)
        if launched is not None:
            machines.setdefault(launched.id, launched)
            phases += _phases_of_machine(launched.id, claim, machines[launched.id].usable_at)
    stays: list[StayLife] = []
    for pod in objects.pods:
        on = str(_look(pod, "spec", "nodeName") or "")
        if on in nodes and (stay := _stay(pod, nodes[on], of_nodes[on], now)) is not None:
            stays.append(stay)
            phases += _phases_of_pod(pod, stay, nodes[on], claims.get(on), pulls)
    return Seen(list(machines.values()), stays, phases)


# --- machines ---------------------------------------------------------------------------------------------------------


def _machine(node: Tree, claim: Tree | None, objects: Objects, pricing: Pricing, now: float) -> MachineLife:
    found = _labels(node)
    provider = str(_look(node, "spec", "providerID") or _look(claim, "status", "providerID") or "")
    began = condition_at(claim, "Launched") or time_of(node["metadata"].get("creationTimestamp")) or now
    usable = condition_at(node, "Ready")
    if claim is not None:
        usable = condition_at(claim, "Initialized")
    return _life(provider or node["metadata"]["name"], found, claim, objects, pricing, began, usable, now)


def _machine_of_claim(claim: Tree, objects: Objects, pricing: Pricing, now: float) -> MachineLife | None:
    """A machine that was launched, whether or not it has joined."""
    provider = str(_look(claim, "status", "providerID") or "")
    began = condition_at(claim, "Launched")
    if not provider or began is None:
        return None
    usable = condition_at(claim, "Initialized")
    return _life(provider, _labels(claim), claim, objects, pricing, began, usable, now)


def _life(
    provider: str,
    said: Mapping[str, str],
    claim: Tree | None,
    objects: Objects,
    pricing: Pricing,
    began: float,
    usable: float | None,
    now: float,
) -> MachineLife:
    type_name, zone = said.get(labels.INSTANCE_TYPE, ""), said.get(labels.ZONE, "")
    capacity = said.get(labels.CAPACITY_TYPE) or said.get(_GROUP_CAPACITY, "").lower()
    reference = _look(claim, "spec", "nodeClassRef") or {}
    node_class = objects.classes.get((str(reference.get("kind")), str(reference.get("name"))))
    kind = str(reference.get("kind", ""))
    return MachineLife(
        id=provider.rpartition("/")[2],
        pool=said.get(labels.NODE_POOL) or said.get(_GROUP, ""),
        capacity=_CAPACITIES.get(capacity, "on-demand"),
        type=type_name,
        zone=zone,
        nano_usd_per_hour=pricing.on_demand(type_name, zone),
        extra_nano_usd_per_hour=pricing.volumes_and_fee(type_name, zone, kind, node_class),
        began_at=began,
        usable_at=None if usable is None else max(began, usable),
        seen_at=now,
        why=_disrupted(claim),
    )


def _disrupted(claim: Tree | None) -> str:
    """Why Karpenter takes it away. It says so from when it has decided to when the instance is gone."""
    for each in _look(claim, "status", "conditions") or ():
        if each.get("type") == "DisruptionReason" and each.get("status") == "True":
            return str(each.get("reason") or "")
    return ""


def _phases_of_machine(machine: str, claim: Tree, usable_at: float | None) -> Iterable[Phase]:
    asked, launched = time_of(claim["metadata"].get("creationTimestamp")), condition_at(claim, "Launched")
    if asked is None or launched is None:
        return
    name = str(claim["metadata"]["name"])
    yield Phase(subject=machine, phase="capacity", began_at=asked, ended_at=max(asked, launched), detail=name)
    registered = condition_at(claim, "Registered")
    joined = None if registered is None else f"joined after {max(0.0, registered - launched):.0f} s"
    yield Phase(subject=machine, phase="boot", began_at=max(asked, launched), ended_at=usable_at, detail=joined)


# --- pods -------------------------------------------------------------------------------------------------------------


def _stay(pod: Tree, node: Tree, machine: str, now: float) -> StayLife | None:
    bound = condition_at(pod, "PodScheduled")
    if bound is None:
        return None
    meta, said = pod["metadata"], _labels(pod)
    model = said.get(MODEL, "")
    ended = _ended(pod)
    return StayLife(
        id=str(meta["uid"]),
        machine=machine,
        workload=said.get(NAME) or str(meta["name"]),
        model=model,
        replica=str((meta.get("annotations") or {}).get(LEADER) or meta["name"]) if model else "",
        share=share_of(requests_of(pod), amounts(_look(node, "status", "allocatable"))),
        began_at=bound,
        ready_at=condition_at(pod, "Ready"),
        seen_at=now,
        ended_at=None if ended is None else max(bound, ended),
    )


def _ended(pod: Tree) -> float | None:
    """When its last container ended, of a pod that is through."""
    if _look(pod, "status", "phase") not in ("Succeeded", "Failed"):
        return None
    states = [_look(each, "state", "terminated", "finishedAt") for each in _statuses(pod)]
    return max((at for each in states if (at := time_of(each)) is not None), default=None)


def _phases_of_pod(
    pod: Tree, stay: StayLife, node: Tree, claim: Tree | None, pulls: Mapping[str, "_Pull"]
) -> Iterable[Phase]:
    """One after the other, from when the pod was made to when it is ready."""
    made = time_of(pod["metadata"].get("creationTimestamp"))
    made = stay.began_at if made is None else min(made, stay.began_at)
    asked = time_of((claim or node)["metadata"].get("creationTimestamp"))
    launched = condition_at(claim, "Launched") if claim is not None else None

    def phase(name: str, began: float, ended: float | None, detail: str | None = None) -> Phase:
        return Phase(subject=stay.id, phase=name, began_at=began, ended_at=ended, detail=detail)

    if claim is not None and asked is not None and launched is not None and launched > made:
        asked, launched = _within(asked, made, stay.began_at), _within(launched, made, stay.began_at)
        name = str(claim["metadata"]["name"])
        yield phase("queue", made, asked)
        yield phase("capacity", asked, launched, name)
        yield phase("boot", launched, stay.began_at, name)
    elif claim is None and asked is not None and asked > made:
        joined = _within(asked, made, stay.began_at)
        yield phase("capacity", made, joined, "a node without a NodeClaim: with the time it booted")
        yield phase("boot", joined, stay.began_at)
    else:
        yield phase("queue", made, stay.began_at)
    pull = pulls.get(stay.id)
    started = max((at for each in _statuses(pod) if (at := _started(each)) is not None), default=None)
    if started is None and pull is None:
        yield phase("image", stay.began_at, None)
        return
    pulled = started if pull is None or pull.ended_at is None else pull.ended_at
    if pulled is not None and started is not None:
        pulled = min(pulled, started)
    pulled = None if pulled is None else max(pulled, stay.began_at)
    yield phase("image", stay.began_at, pulled, None if pull is None else pull.detail)
    if pulled is None:
        return
    ready = None if stay.ready_at is None else max(pulled, stay.ready_at)
    if not stay.model:
        yield phase("warm-up", pulled, ready)
        return
    # An engine in a container says no moment between the two; a Job or init container that fetches ends before it.
    loaded = ready
    yield phase("weights", pulled, loaded, "with warm-up: the API has no moment between")


def _started(status: Tree) -> float | None:
    """Of a container that was started again, when it was first is not known; it counts as it is now."""
    return time_of(_look(status, "state", "running", "startedAt") or _look(status, "state", "terminated", "startedAt"))


def _statuses(pod: Tree) -> Sequence[Tree]:
    return list(_look(pod, "status", "containerStatuses") or ())


@dataclass(slots=True)
class _Pull:
    began_at: float | None = None
    ended_at: float | None = None
    detail: str | None = None


def _pulls(events: Iterable[Tree]) -> dict[str, _Pull]:
    """By pod's uid: from the first Pulling to the last Pulled, and what the largest image is."""
    found: dict[str, _Pull] = {}
    for event in events:
        reason, uid = event.get("reason"), _look(event, "involvedObject", "uid")
        at = time_of(event.get("eventTime") or event.get("lastTimestamp") or event.get("firstTimestamp"))
        if reason not in ("Pulling", "Pulled") or not uid or at is None:
            continue
        pull = found.setdefault(str(uid), _Pull())
        if reason == "Pulling":
            pull.began_at = at if pull.began_at is None else min(pull.began_at, at)
        elif pull.ended_at is None or at >= pull.ended_at:
            pull.ended_at = at
        message = str(event.get("message", ""))
        size = message.rpartition("Image size: ")[2].partition(" ")[0] if "Image size: " in message else ""
        if size.isdecimal() and len(size) < 16:
            gib = int(size) / 2**30
            if pull.detail is None or gib > float(pull.detail.split()[0]):
                pull.detail = f"{gib:.2f} GiB"
    return found


# --- amounts and times ------------------------------------------------------------------------------------------------


def share_of(requests: Amounts, allocatable: Amounts) -> float:
    """Of a node with GPUs, the share of them (of several kinds of slices, each kind is as much of the whole as any);
    of any other, of processors or memory, whichever is more. At most 1."""
    of_gpus = [key for key in allocatable if (key in GPUS or key.startswith(OF_GPUS)) and allocatable[key] > 0]
    if of_gpus:
        share = sum(requests.get(key, 0) / allocatable[key] for key in of_gpus) / len(of_gpus)
    else:
        share = max(
            (requests.get(key, 0) / allocatable[key] for key in (CPU, MEMORY) if allocatable.get(key)), default=0.0
        )
    return min(1.0, share)


def requests_of(pod: Tree) -> dict[str, int]:
    spec = pod.get("spec") or {}

    def of(container: Tree) -> Amounts:
        return requested(
            amounts(_look(container, "resources", "requests")), amounts(_look(container, "resources", "limits"))
        )

    inits = [Init(of(each), each.get("restartPolicy") == "Always") for each in spec.get("initContainers") or ()]
    return pod_requests([of(each) for each in spec.get("containers") or ()], inits, amounts(spec.get("overhead")))


def amounts(said: Any) -> dict[str, int]:
    """In base units; what cannot be read is left out."""
    found = {}
    for key, value in (said or {}).items():
        try:
            found[str(key)] = in_base_units(str(key), value)
        except ValueError:
            continue
    return found


def condition_at(obj: Tree | None, kind: str) -> float | None:
    """Since when a condition is true; None where it is not."""
    for each in _look(obj, "status", "conditions") or ():
        if each.get("type") == kind and each.get("status") == "True":
            return time_of(each.get("lastTransitionTime"))
    return None


def time_of(text: Any) -> float | None:
    """Seconds since the epoch."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _within(at: float, least: float, most: float) -> float:
    return min(max(at, least), most)


def _labels(obj: Tree) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _look(obj: Any, *path: str) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, Mapping) else None
    return obj

"""How the nodes of NodePools share their GPUs: what the device plugin is told, and what Karpenter is (NodeOverlays).

The two are told apart, since Karpenter launches by what it was told, and pods are bound by what nodes offer.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from stoker.catalog import ec2
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import NODE_POOL
from stoker.manifests.documents import parse
from stoker.manifests.node_pools import amounts, pod_requirements, pod_view
from stoker.manifests.objects import Manifest, look, sections, whole
from stoker.manifests.workloads import workloads_of
from stoker.policy.placement import NodePoolView, allocatable_of, pool_types, runs_on
from stoker.policy.pod_resources import GPUS, Amounts
from stoker.policy.requirements import Requirements
from stoker.simulate import gpu_sharing
from stoker.simulate.reading_commands import image
from stoker.simulate.reading_notes import Notes
from stoker.simulate.scenario import Pool, Sharing, Workload

_PLUGIN = "device-plugin"
_CONFIG_LABEL, _MIG_LABEL = "nvidia.com/device-plugin.config", "nvidia.com/mig.config"
"""Node labels by which NVIDIA's plugin, and its MIG manager, choose among several configurations."""
_SCRIPT_CUT = re.compile(r"nvidia-smi\s+mig\b[^\n]*-cgi\s+(?P<profile>\d+g\.\d+gb)")
_BOTTLEROCKET_CUT = re.compile(r'"[\w.]+"\s*=\s*"(?P<profile>\d+g\.\d+gb)"')
_BOTTLEROCKET_SHARES = re.compile(r'device-sharing-strategy\s*=\s*"(?P<how>time-slicing|mps)"')
_REPLICAS = re.compile(r"^\s*replicas\s*=\s*(\d+)", re.MULTILINE)
_HOW = {"timeSlicing": "time-slicing", "mps": "mps"}


def shared(pools: Sequence[Pool], manifests: Sequence[Manifest], notes: Notes) -> tuple[Pool, ...]:
    """The pools with what their nodes offer of GPUs, and what Karpenter is told of them."""
    overlays = [each for each in manifests if each.kind == "NodeOverlay" and each.group == "karpenter.sh"]
    if overlays:
        notes.say("NodeOverlays are taken to be in force: Karpenter heeds them with its feature gate NodeOverlay only")
    if any(each.get("spec", key) is not None for each in overlays for key in ("price", "priceAdjustment")):
        notes.say("prices that NodeOverlays change are not heeded: what EC2 asks for counts")
    configs = [config for each in manifests if each.kind == "ConfigMap" for config in _configs(each)]
    found = tuple(_pool(pool, overlays, configs, manifests, notes) for pool in pools)
    heeded = {pool.sharing for pool in found}
    for name, _, sharing in configs:
        if sharing.how != "mig" and sharing not in heeded:
            notes.say(f"ConfigMap {name} shares GPUs ({sharing.how}), and nothing says of which nodes: not heeded")
    return found


def crowded(workloads: Iterable[Workload], pools: Sequence[Pool], notes: Notes) -> None:
    """Pods on one GPU whose engines want more of its memory than there is."""
    for each in workloads:
        for pool in pools:
            sharing = pool.sharing
            if each.serving is None or sharing is None or sharing.how == "mig":
                continue
            asks = each.shape.requests.get(sharing.resource, 0) > 0 and runs_on(each.shape.view, pool.view)
            if asks and each.serving.memory_share * sharing.places > 1:
                notes.say(
                    f"{each.name}: {sharing.places} pods share a GPU of NodePool {pool.view.name}, and its engine takes"
                    f" {each.serving.memory_share:.0%} of the memory: the next one there would not start; here it does"
                )


def _pool(
    pool: Pool,
    overlays: Sequence[Manifest],
    configs: Sequence[tuple[str, str, Sharing]],
    manifests: Sequence[Manifest],
    notes: Notes,
) -> Pool:
    view = replace(pool.view, overlays=tuple(_overlays(overlays, pool.view)))
    sharing = _sharing(pool, configs, manifests)
    types = [each for each in pool_types(view, ec2.instance_types().values()) if each.gpu_count]
    told = {key for _, amounts_ in view.overlays for key in amounts_ if key in GPUS}
    if sharing is None and told and types:
        notes.say(
            f"NodePool {view.name}: a NodeOverlay says that nodes have other numbers of GPUs, and no device plugin's "
            "configuration in sight says how they are shared: taken as time slices"
        )
    if sharing is not None and types:
        offered = [gpu_sharing.offered(each, sharing) for each in types]
        if sharing.how == "mig" and not sharing.profile and not view.overlays:
            notes.say(f"NodePool {view.name}: its GPUs are cut (MIG), and nothing says into what: taken as whole ones")
        elif not view.overlays and any(offered):
            notes.say(
                f"NodePool {view.name}: its nodes share GPUs ({sharing.how}), and no NodeOverlay tells Karpenter: "
                "it launches as many nodes as if nobody shared"
            )
    view = replace(view, limits=_limits(view, types))
    return replace(pool, view=view, sharing=sharing)


def _overlays(overlays: Sequence[Manifest], view: NodePoolView) -> Iterator[tuple[Requirements, Amounts]]:
    """Those that are about nodes of the pool, the greatest weight first, then by name."""
    for each in sorted(overlays, key=lambda each: (-(whole(each.get("spec", "weight")) or 0), each.name)):
        lines = [one for _, one in sections(each.get("spec", "requirements"))]
        term = {"matchExpressions": lines}
        needed = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        asked = dict(pod_requirements({"affinity": {"nodeAffinity": needed}})[0]) if lines else {}
        of_pool = asked.pop(NODE_POOL, None)
        capacity = amounts(each.get("spec", "capacity"))
        if capacity and (of_pool is None or of_pool.allows(view.name)):
            yield asked, capacity


def _limits(view: NodePoolView, types: Sequence[InstanceType]) -> dict[str, int]:
    """In GPUs: where an overlay multiplies them, Karpenter counts shares against the limit, and GPUs are counted here.
    With types that multiply by different numbers the largest of these counts."""
    found = dict(view.limits)
    for key in GPUS:
        times = [
            Fraction(allocatable_of(each, view).get(key, 0), each.gpu_count)
            for each in types
            if key in each.allocatable
        ]
        if key in found and times and max(times) > 1:
            found[key] = int(found[key] / max(times))
    return found


def _sharing(pool: Pool, configs: Sequence[tuple[str, str, Sharing]], manifests: Sequence[Manifest]) -> Sharing | None:
    view, profile = pool.view, _profile(pool, manifests)
    mounted = set(_mounted(view, manifests))
    chosen = view.labels.get(_CONFIG_LABEL)
    for name, key, sharing in configs:
        if (chosen is None and name in mounted) or (chosen is not None and chosen == key):
            return replace(sharing, profile=profile) if sharing.how == "mig" else sharing
    by_system = _of_bottlerocket(_user_data(pool, manifests))
    if by_system is not None:
        return by_system
    return Sharing("mig", profile=profile) if profile else None


def _mounted(view: NodePoolView, manifests: Sequence[Manifest]) -> Iterator[str]:
    """The ConfigMaps of device plugins that run on nodes of the pool, or on all: by a GPU operator."""
    for each in manifests:
        if each.kind == "ClusterPolicy":
            name = each.get("spec", "devicePlugin", "config", "name")
            if isinstance(name, str):
                yield name
        for workload in workloads_of(each) if each.kind == "DaemonSet" else ():
            if any(_PLUGIN in image(one) for _, one in workload.containers()) and runs_on(pod_view(workload), view):
                for _, volume in sections(workload.spec.get("volumes")):
                    name = look(volume, "configMap", "name")
                    if isinstance(name, str):
                        yield name


def _configs(manifest: Manifest) -> Iterator[tuple[str, str, Sharing]]:
    """What a ConfigMap says to NVIDIA's device plugin: its name, the key, and how GPUs are shared."""
    data = manifest.get("data")
    for key, text in data.items() if isinstance(data, dict) else ():
        if not isinstance(text, str) or ("sharing" not in text and "migStrategy" not in text):
            continue
        documents, troubles = parse(text, key)
        if documents and not troubles:
            found = _config(documents[0].data)
            if found is not None:
                yield manifest.name, str(key), found


def _config(tree: Any) -> Sharing | None:
    for key, how in _HOW.items():
        section = look(tree, "sharing", key)
        for _, each in sections(look(section, "resources")):
            name, replicas = each.get("name"), whole(each.get("replicas"))
            if name == gpu_sharing.GPU and replicas is not None and replicas > 1:
                renamed = look(section, "renameByDefault") is True
                rename = look(each, "rename")
                resource = f"{name}.shared" if renamed else name
                return Sharing(
                    "mps" if how == "mps" else "time-slicing",
                    replicas,
                    resource=rename if isinstance(rename, str) else resource,
                )
    return Sharing("mig") if look(tree, "flags", "migStrategy") in ("single", "mixed") else None


def _profile(pool: Pool, manifests: Sequence[Manifest]) -> str:
    """What the nodes' GPUs are cut into: by a label that the MIG manager reads, or by what nodes do as they start."""
    found = re.fullmatch(r"all-(\d+g\.\d+gb)", pool.view.labels.get(_MIG_LABEL, ""))
    if found is not None:
        return found[1]
    text = _user_data(pool, manifests)
    cut = _SCRIPT_CUT.search(text)
    if cut is None and "device-partitioning-strategy" in text:
        cut = _BOTTLEROCKET_CUT.search(text)
    return cut["profile"] if cut is not None else ""


def _of_bottlerocket(text: str) -> Sharing | None:
    how, replicas = _BOTTLEROCKET_SHARES.search(text), _REPLICAS.search(text)
    if how is None or replicas is None or int(replicas[1]) < 2:
        return None
    return Sharing("mps" if how["how"] == "mps" else "time-slicing", int(replicas[1]))


def _user_data(pool: Pool, manifests: Iterable[Manifest]) -> str:
    text = next(
        (
            each.get("spec", "userData")
            for each in manifests
            if each.kind == "EC2NodeClass" and each.name == pool.node_class and not pool.is_auto_mode
        ),
        "",
    )
    return text if isinstance(text, str) else ""

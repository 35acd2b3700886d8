"""NodePools with their node classes, and where they are: volumes, zones, region, what Auto Mode brings."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from stoker.catalog import ec2, spot
from stoker.catalog.ec2 import region_of
from stoker.catalog.labels import ARCH, AUTO_MODE, CAPACITY_TYPE, OS
from stoker.manifests.disruptions import AUTO_EXPIRES_AFTER_S, AUTO_GRACE_S, disruption_of
from stoker.manifests.node_pools import is_auto_mode, node_pool_view, region_of_pool
from stoker.manifests.objects import Manifest, look, sections, whole
from stoker.manifests.quantities import amount
from stoker.policy.cluster import Disruption
from stoker.policy.market import has_own_price
from stoker.policy.placement import NodePoolView, pool_types
from stoker.policy.requirements import all_of, requirement
from stoker.policy.taints import Taint
from stoker.policy.volumes import Volume
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_platform import Platform
from stoker.simulate.reading_sharing import shared
from stoker.simulate.scenario import Pool

_GIB = 1024**3
_AUTO_GIB = 80
"""Of a node of Auto Mode whose NodeClass names no size (docs.aws.amazon.com: create-node-class)."""
_AUTO_CONSOLIDATES_AFTER_S = 30.0
_AUTO_LASTS_S = 21 * 86400.0
"""Of a node at most (AWS documentation, EKS Auto Mode)."""
_REGION = re.compile(r"[a-z]{2,3}(?:-[a-z]+)+-\d")
_LAZY = re.compile(r"soci-snapshotter|snapshotter\s*[:=]\s*\"?(?:soci|stargz|nydus)", re.IGNORECASE)
"""In a node's user data: images are read as they are needed."""


def read_pools(manifests: Sequence[Manifest], platform: Platform, notes: Notes) -> tuple[Pool, ...]:
    classes = {(each.kind, each.name): each for each in manifests if each.kind in ("EC2NodeClass", "NodeClass")}
    pools = [
        _pool(each, classes, notes) for each in manifests if each.kind == "NodePool" and each.group == "karpenter.sh"
    ]
    if any(pool.is_auto_mode for pool in pools) or platform.mode in ("auto", "hybrid"):
        named = {pool.view.name for pool in pools}
        built_in = [pool for pool in _built_in() if pool.view.name not in named]
        names = " and ".join(pool.view.name for pool in built_in)
        notes.say(f"Auto Mode: its built-in pools {names} are taken to be enabled beside those that are written")
        pools += built_in
    return shared(pools, manifests, notes)


_AS_DEAR = ("us-east-2", "us-west-2")
"""Regions whose prices were those of us-east-1 for nearly all types in a list of February 2026."""


def places(
    pools: Sequence[Pool], manifests: Sequence[Manifest], platform: Platform, region: str | None, notes: Notes
) -> tuple[str, tuple[str, ...]]:
    """Region and zones: what is asked for, else what the platform, the pools or a resource's region say."""
    named = tuple(dict.fromkeys(zone for pool in pools for zone in pool.view.zones))
    of_pools = {found for pool in pools if (found := region_of_pool(pool.view)) is not None}
    if len(of_pools) > 1:
        notes.say(f"the pools are in several regions, {', '.join(sorted(of_pools))}: one at a time is simulated")
    chosen = region or platform.region or (sorted(of_pools)[0] if of_pools else "") or _region_somewhere(manifests)
    if not chosen:
        chosen = ec2.REGION
        notes.say(f"no zone, ConfigMap or resource says which region this is: {chosen} (--region)")
    if of_pools and chosen not in of_pools:
        notes.say(
            f"the pools name zones of {', '.join(sorted(of_pools))}, and {chosen} is simulated: they start no node"
        )
    _judge(chosen, of_pools, named, pools, notes)
    zones = tuple(zone for zone in (*named, *platform.zones) if region_of(zone) == chosen)
    if not zones:
        # Subnets are selected by tags, and nobody here can know their zones.
        zones = tuple(f"{chosen}{letter}" for letter in "abc")
        notes.say(f"no pool names a zone of {chosen}: {', '.join(zones)} are taken, as if its subnets were there")
    return chosen, tuple(dict.fromkeys(sorted(zones)))


def _judge(region: str, of_pools: Collection[str], zones: Sequence[str], pools: Sequence[Pool], notes: Notes) -> None:
    """What is said of a region, and of zones, that the catalogue does not have."""
    known = {*ec2.regions(), *spot.regions()}
    for each in sorted({region, *of_pools, *(found for zone in zones if (found := region_of(zone)) is not None)}):
        if each not in known:
            notes.say(f"{each} is no region that is known here")
    for zone in zones:
        if region_of(zone) is None:
            notes.say(f"{zone} is no name of a zone: nothing starts there")
    types = ec2.instance_types().values()
    allowed = {each.name: each for pool in pools for each in pool_types(pool.view, types)} or {
        each.name: each for each in types
    }
    sold = [each for each in allowed.values() if each.prices]
    strange = [each.name for each in sold if not has_own_price(each, region)]
    if strange:
        some = "" if len(strange) == len(sold) else f" ({len(strange)} of {len(sold)} types that its pools allow)"
        off = "of which nearly all are its own, too" if region in _AS_DEAR else "commonly 5 to 35 % less than its own"
        notes.say(f"prices on demand of {ec2.REGION} are taken for {region}{some}, {off}")


def volume_of(node_class: Manifest | None, *, is_auto: bool) -> Volume:
    """The volume that images are unpacked onto: the root, or the last of several that none is marked as root of, as
    Bottlerocket has."""
    if is_auto:
        storage = node_class.get("spec", "ephemeralStorage") if node_class is not None else None
        # Auto Mode puts pods' storage on local NVMe by itself, where a type has it.
        return Volume(
            size_gib=_gib(look(storage, "size")) or _AUTO_GIB,
            throughput_mibs=whole(look(storage, "throughput")) or Volume().throughput_mibs,
            iops=whole(look(storage, "iops")) or Volume().iops,
            uses_instance_store=True,
        )
    if node_class is None:
        return Volume()
    volumes = [each for _, each in sections(node_class.get("spec", "blockDeviceMappings"))]
    ebs = look(
        next((each for each in volumes if each.get("rootVolume") is True), volumes[-1] if volumes else None), "ebs"
    )
    kind = look(ebs, "volumeType")
    user_data = node_class.get("spec", "userData")
    return Volume(
        size_gib=_gib(look(ebs, "volumeSize")) or Volume().size_gib,
        throughput_mibs=whole(look(ebs, "throughput")) or _throughput(kind),
        iops=whole(look(ebs, "iops")) or Volume().iops,
        kind=kind if isinstance(kind, str) else "gp3",
        has_images=any(look(each, "ebs", "snapshotID") for each in volumes)
        or (isinstance(user_data, str) and _LAZY.search(user_data) is not None),
        uses_instance_store=node_class.get("spec", "instanceStorePolicy") == "RAID0",
    )


def _pool(manifest: Manifest, classes: dict[tuple[str, str], Manifest], notes: Notes) -> Pool:
    is_auto = is_auto_mode(manifest)
    name = manifest.get("spec", "template", "spec", "nodeClassRef", "name")
    node_class = classes.get(("NodeClass" if is_auto else "EC2NodeClass", name)) if isinstance(name, str) else None
    if node_class is None and not (is_auto and name == "default"):
        notes.say(f"NodePool {manifest.name}: its node class {name or '(none)'} is not in sight; defaults are taken")
    volume = volume_of(node_class, is_auto=is_auto)
    view = node_pool_view(manifest, None if is_auto else node_class)
    if is_auto:
        view = replace(view, storage_bytes=None)  # local disks, which differ from type to type
    disruption = disruption_of(manifest)
    if is_auto and (disruption.expire_after_s is None or disruption.expire_after_s > _AUTO_LASTS_S):
        notes.say(f"NodePool {manifest.name}: EKS ends nodes of Auto Mode after 21 days, whatever its expireAfter says")
        disruption = replace(disruption, expire_after_s=_AUTO_LASTS_S)
    return Pool(view, disruption, volume, is_auto, node_class=node_class.name if node_class else "")


def _built_in() -> list[Pool]:
    """Auto Mode's own pools (docs.aws.amazon.com/eks: set-builtin-node-pools, automode-learn-instances)."""
    common = [
        requirement(f"{AUTO_MODE}/instance-category", "In", ["c", "m", "r"]),
        requirement(f"{AUTO_MODE}/instance-generation", "Gt", ["4"]),
        requirement(CAPACITY_TYPE, "In", ["on-demand"]),
        requirement(OS, "In", ["linux"]),
    ]
    labels = {f"{AUTO_MODE}/compute-type": "auto"}
    disruption = Disruption(
        consolidate_after_s=_AUTO_CONSOLIDATES_AFTER_S,
        expire_after_s=AUTO_EXPIRES_AFTER_S,
        termination_grace_s=AUTO_GRACE_S,
    )
    general = NodePoolView(
        "general-purpose",
        all_of([*common, requirement(ARCH, "In", ["amd64"])]),
        labels=labels,
        domain=AUTO_MODE,
    )
    system = NodePoolView(
        "system",
        all_of([*common, requirement(ARCH, "In", ["amd64", "arm64"])]),
        labels=labels,
        taints=(Taint("CriticalAddonsOnly"),),
        domain=AUTO_MODE,
    )
    volume = volume_of(None, is_auto=True)
    return [Pool(view, disruption, volume, is_auto_mode=True) for view in (general, system)]


def _region_somewhere(manifests: Sequence[Manifest]) -> str:
    """What triggers and containers say of their region, where all say the same."""
    found = {text for each in manifests for text in _regions(each.data)}
    return found.pop() if len(found) == 1 else ""


def _regions(tree: Any) -> list[str]:
    found: list[str] = []
    if isinstance(tree, dict):
        name = tree.get("name")
        for key, each in tree.items():
            is_region = key in ("awsRegion", "region") or (
                key == "value" and name in ("AWS_REGION", "AWS_DEFAULT_REGION")
            )
            if is_region and isinstance(each, str) and _REGION.fullmatch(each):
                found.append(each)
            found += _regions(each)
    elif isinstance(tree, list):
        for each in tree:
            found += _regions(each)
    return found


def _throughput(kind: Any) -> int:
    """MiB/s of a volume that says none."""
    return 250 if kind in ("gp2", "io1", "io2") else Volume().throughput_mibs


def _gib(size: Any) -> int | None:
    """`200Gi`, `80`: a number alone is in GiB there."""
    read = amount(size)
    if read is None or read <= 0:
        return None
    return int(read) if read < _GIB and isinstance(size, int) else int(read // _GIB) or None

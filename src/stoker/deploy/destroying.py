"""Removing a platform in the reverse order of making it: objects wave by wave, the nodes that they needed, controllers,
and last what Terraform made. Done again, it goes on from wherever it ended.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stoker.base.errors import Conflict
from stoker.deploy import inventory, lock, waiting
from stoker.deploy.controllers import Facts, controllers
from stoker.deploy.programs import Say
from stoker.deploy.site import Site
from stoker.deploy.waves import Wave, backwards
from stoker.kubernetes.cluster import Cluster, Key, Tree, key_of
from stoker.manifests.objects import look

_DATA = ("aws_s3_bucket", "aws_ecr_", "aws_kms_", "aws_secretsmanager_")
"""How the types of resources begin that hold data, or that data cannot be read without, and that outlive the VPC.
Databases do not: the module has a last snapshot made of them."""


@dataclass(frozen=True)
class Volume:
    """`disk`: as AWS knows it (`vol-...`); empty where the claim has none yet."""

    claim: Key
    disk: str


@dataclass(frozen=True)
class DestroyPlan:
    """`objects`: ours, as far as they are there. `volumes`: disks with data on them. `resources`: addresses in
    Terraform's state, without `kept`, which hold data and stay unless that is to go, too."""

    objects: tuple[Key, ...]
    volumes: tuple[Volume, ...]
    resources: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def changes_nothing(self) -> bool:
        return not (self.objects or self.resources)


def plan_destroy(site: Site, cluster: Cluster | None, *, delete_data: bool) -> DestroyPlan:
    """Raises NotPermitted where the cluster holds another platform."""
    objects: tuple[Key, ...] = ()
    volumes: tuple[Volume, ...] = ()
    if cluster is not None:
        there = inventory.read(cluster, site.plan.namespace, site.owner)
        objects = tuple(key_of(obj) for obj in _ours(site, cluster, there))
        volumes = tuple(_volumes(site, cluster))
    listed = [] if site.root is None else site.root.resources()
    kept = [] if delete_data else [address for address in listed if holds_data(address)]
    resources = tuple(address for address in listed if address not in kept and not address.startswith("data."))
    return DestroyPlan(objects, volumes, resources, tuple(kept))


def holds_data(address: str) -> bool:
    """Whether a resource of Terraform's is, or belongs to, something that holds data."""
    return address.startswith(_DATA)


def destroy(site: Site, plan: DestroyPlan, patience: waiting.Patience, said: Say, *, delete_data: bool = False) -> None:
    """`delete_data`: volumes, buckets, images and databases go, too. Raises what the step that fails raises."""
    site = site.now()
    cluster = site.connect()
    if cluster is not None:
        try:
            destroy_objects(site, cluster, patience, said, delete_data=delete_data)
        finally:
            cluster.close()
    if site.root is None or not plan.resources:
        return
    root = site.prepare_root()
    if root is None:
        raise Conflict("Terraform's module is not there")
    if delete_data:
        unlock = [address for address in root.resources() if holds_data(address)]
        if unlock:
            said("terraform: data is no longer held")
            root.apply(root.plan(targets=unlock, delete_data=True), said)
    said(f"terraform: {len(plan.resources)} resources go")
    targets = plan.resources if plan.kept else ()
    root.apply(root.plan(destroy=True, targets=targets, delete_data=delete_data), said)


def destroy_objects(
    site: Site,
    cluster: Cluster,
    patience: waiting.Patience,
    said: Say,
    *,
    delete_data: bool = False,
) -> None:
    namespace = site.plan.namespace
    there = inventory.read(cluster, namespace, site.owner)
    found = _ours(site, cluster, there)
    if not found:
        return
    with lock.held(cluster, namespace, patience, said):
        for step in backwards(found):
            if step.wave is Wave.FOUNDATION:
                continue
            said(f"wave {step.wave.value}, {step.wave.title}: {len(step.objects)} objects go")
            _remove(cluster, step.objects, patience, said)
            if step.wave is Wave.PLATFORM and delete_data:
                _remove_volumes(cluster, _claims(site, cluster), patience, said)
        waiting.until_gone(cluster, _node_claims(site, cluster), patience, said)
        remove_controllers(site, there, said)
    foundation = next(step.objects for step in backwards(found) if step.wave is Wave.FOUNDATION)
    kept = [obj for obj in foundation if obj["kind"] == "Namespace" and obj["metadata"]["name"] in there.found]
    own = [obj for obj in foundation if obj["kind"] == "Namespace" and obj["metadata"]["name"] == namespace]
    _remove(cluster, [obj for obj in foundation if obj not in own and obj not in kept], patience, said)
    for obj in kept:
        said(f"namespace {obj['metadata']['name']} was there before, and stays")
    _remove(cluster, [obj for obj in own if obj not in kept], patience, said)  # with the inventory
    if own and own[0] in kept:
        inventory.remove(cluster, namespace)


def remove_controllers(site: Site, there: inventory.Inventory, said: Say) -> None:
    """Those that a deploy installed, the last first."""
    if not there.releases:
        return
    program = site.helm()
    order = [f"{each.namespace}/{each.name}" for each in controllers(site.plan, site.objects, Facts.of(site.made))]
    installed = {f"{each.namespace}/{each.name}" for each in program.releases()}
    left = [name for name in there.releases if name not in order]  # of an earlier file
    for name in [*left, *reversed(order)]:
        if name in installed and name in there.releases:
            namespace, _, release = name.partition("/")
            said(f"controller {release} goes")
            program.uninstall(release, namespace)


def _remove(cluster: Cluster, objects: Sequence[Tree], patience: waiting.Patience, said: Say) -> None:
    keys = [key_of(obj) for obj in objects]
    for key in keys:
        cluster.delete(key)
    waiting.until_gone(cluster, keys, patience, said)


def _ours(site: Site, cluster: Cluster, there: inventory.Inventory) -> list[Tree]:
    """What is in the inventory or in the file, is there, and says that it is ours: also what a platform has whose
    inventory somebody deleted."""
    keys = {key.identity: key for key in (*map(key_of, site.objects), *there.keys)}
    found = (cluster.get(key) for key in keys.values())
    return [obj for obj in found if obj is not None and inventory.is_ours(obj)]


def _volumes(site: Site, cluster: Cluster) -> Iterator[Volume]:
    for claim in _claims(site, cluster):
        obj = cluster.get(claim) or {}
        name = (obj.get("spec") or {}).get("volumeName")
        volume = cluster.get(Key("v1", "PersistentVolume", "", name)) if name else None
        yield Volume(claim, str(look(volume, "spec", "csi", "volumeHandle", default="")))


def _claims(site: Site, cluster: Cluster) -> list[Key]:
    """Volumes of the platform's own namespaces."""
    spaces = {obj["metadata"]["name"] for obj in site.objects if obj["kind"] == "Namespace"}
    return [
        key_of(claim)
        for space in sorted(spaces)
        for claim in cluster.list("v1", "PersistentVolumeClaim", namespace=space)
    ]


def _remove_volumes(cluster: Cluster, claims: list[Key], patience: waiting.Patience, said: Say) -> None:
    """Their class retains volumes whose claims go, so each is told first to go with its claim. Volumes are waited for,
    since whoever ends them goes next."""
    volumes = []
    for key in claims:
        claim = cluster.get(key)
        name = ((claim or {}).get("spec") or {}).get("volumeName")
        volume = Key("v1", "PersistentVolume", "", name) if name else None
        if volume is not None and cluster.get(volume) is not None:
            cluster.merge(volume, {"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
            volumes.append(volume)
        cluster.delete(key)
    if claims:
        said(f"{len(claims)} volumes go with what is in them")
    waiting.until_gone(cluster, [*claims, *volumes], patience, said)


def _node_claims(site: Site, cluster: Cluster) -> list[Key]:
    """Nodes of the platform's pools: they are machines that cost money, and nobody would end them once Karpenter is
    gone. Those of others' pools are others' business."""
    pools = {pool.name for pool in site.plan.pools}
    return [
        key_of(each)
        for each in cluster.list("karpenter.sh/v1", "NodeClaim")
        if (each["metadata"].get("labels") or {}).get("karpenter.sh/nodepool") in pools
    ]

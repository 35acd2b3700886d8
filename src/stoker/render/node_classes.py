"""Node classes: what the nodes of pools have in common. EC2NodeClass for Karpenter, NodeClass for EKS Auto Mode."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.catalog.labels import AUTO_MODE, AWS
from stoker.manifests.quantities import bytes_of
from stoker.render.facts import FIRST_CARD_WITHOUT_EFA, Pool
from stoker.render.objects import metadata
from stoker.render.plan import Plan
from stoker.render.user_data import user_data

DISCOVERY = "karpenter.sh/discovery"
"""Tag of subnets and security groups, whose value is the cluster's name."""
_LEAST_GIB, _MOST_GIB = 20, 59_000
"""EKS' images are made for a root of 20 GiB; the most that the CRD takes."""
_KEPT_TAGS = ("aws:", "eks:", "kubernetes.io/cluster", "karpenter.sh/", "karpenter.k8s.aws/", "eks.amazonaws.com/")
"""How tags begin that AWS, Karpenter and Auto Mode set themselves, and refuse from others."""


def node_class(plan: Plan, pools: Sequence[Pool]) -> dict[str, Any]:
    """The class that these pools name. They come from one pool of the spec, so their settings are the same."""
    pool = pools[0]
    in_auto_mode = pool.domain == AUTO_MODE
    common = {
        "role": plan.auto_node_role if in_auto_mode else plan.node_role,
        "subnetSelectorTerms": [{"tags": {DISCOVERY: plan.cluster}}],
        "securityGroupSelectorTerms": [{"tags": {DISCOVERY: plan.cluster}}],
        **_reservation(pool),
        **_placement(pool),
    }
    return {
        "apiVersion": f"{AUTO_MODE if in_auto_mode else AWS}/v1",
        "kind": "NodeClass" if in_auto_mode else "EC2NodeClass",
        "metadata": metadata(plan, pool.node_class, "nodes"),
        "spec": _auto_mode(plan, pool, common) if in_auto_mode else _karpenter(plan, pools, common),
    }


def comment(plan: Plan, pools: Sequence[Pool]) -> str:
    """Why the class is as it is, where that is not plain."""
    pool = pools[0]
    if pool.domain == AUTO_MODE:
        return "The image, the local disks and the metadata options (no pod reaches the metadata) are Auto Mode's own."
    found = []
    if pool.has_gpus:
        found.append("Hop limit 2: workers and trainers look for spot notices in the instance's metadata.")
    if any(each.local_nvme_gb for each in _types(pools)) and not _uses_nvme(pools):
        found.append(f"Local disks stay unused: some of the types have less than the volume of {pool.said.volume}.")
    return "\n".join(found)


def _karpenter(plan: Plan, pools: Sequence[Pool], common: dict[str, Any]) -> dict[str, Any]:
    """Karpenter 1.14, concepts/nodeclasses: pinned alias, IMDSv2, encrypted gp3."""
    pool = pools[0]
    image = plan.spec.karpenter.image
    text = user_data(image, _types(pools), fast_pull=pool.has_gpus, sharing=pool.sharing)
    return {
        "amiSelectorTerms": [{"alias": image}],
        **common,
        **_interfaces(plan, pools),
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpProtocolIPv6": "disabled",
            "httpPutResponseHopLimit": 2 if pool.has_gpus else 1,
            "httpTokens": "required",
        },
        "blockDeviceMappings": _volumes(pools, image),
        **({"instanceStorePolicy": "RAID0"} if _uses_nvme(pools) else {}),
        "detailedMonitoring": False,
        "tags": _tags(plan, pool),
        **({"userData": text} if text else {}),
    }


def _auto_mode(plan: Plan, pool: Pool, common: dict[str, Any]) -> dict[str, Any]:
    """EKS user guide, create-node-class."""
    fast = {"iops": 3000, "throughput": 750} if pool.has_gpus else {}
    storage = {"size": f"{_volume_gib(pool)}Gi", **fast}
    return {**common, "ephemeralStorage": storage, "tags": _tags(plan, pool)}


def _reservation(pool: Pool) -> dict[str, Any]:
    reservation = pool.said.capacity_reservation
    return {"capacityReservationSelectorTerms": [{"id": reservation}]} if reservation else {}


def _placement(pool: Pool) -> dict[str, Any]:
    """Of either class: EKS user guide, ml-node-pools and device-management-efa, for Auto Mode since May 2026."""
    group = pool.said.placement_group
    return {"placementGroupSelector": {"name": group}} if group else {}


def _interfaces(plan: Plan, pools: Sequence[Pool]) -> dict[str, Any]:
    """Written out only where Karpenter's own would not do: for pods that ask for EFA it puts an interface of EFA on
    each card from the first (pkg/providers/launchtemplate)."""
    names = [each.name for each in _types(pools)]
    if pools[0].use != "training" or not all(each.startswith(FIRST_CARD_WITHOUT_EFA) for each in names):
        return {}
    efa = [
        {"networkCardIndex": card, "deviceIndex": 0, "interfaceType": "efa-only"}
        for card in range(1, plan.training_pods.efa + 1)
    ]
    first = {"networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface"}
    return {"networkInterfaces": [first, *efa]} if efa else {}


def _volumes(pools: Sequence[Pool], image: str) -> list[dict[str, Any]]:
    """Images and weights are read from the root volume where there are no local disks: 750 MiB/s is what 3000 IOPS,
    which cost nothing extra, allow."""
    pool = pools[0]
    size = f"{_volume_gib(pool)}Gi"
    slow = not pool.has_gpus or _uses_nvme(pools)
    speed = {} if slow else {"iops": 3000, "throughput": 750}
    if image.startswith("bottlerocket@"):
        # The system is on the first and is read only; containers and their images are on the second.
        return [_volume("/dev/xvda", "4Gi", {}), _volume("/dev/xvdb", size, speed)]
    return [_volume("/dev/xvda", size, speed)]


def _volume(device: str, size: str, speed: dict[str, int]) -> dict[str, Any]:
    ebs = {"volumeSize": size, "volumeType": "gp3", **speed, "encrypted": True, "deleteOnTermination": True}
    return {"deviceName": device, "ebs": ebs}


def _volume_gib(pool: Pool) -> int:
    gib = ceil(bytes_of(pool.said.volume) / 1024**3)
    if not _LEAST_GIB <= gib <= _MOST_GIB:
        path = f"karpenter.nodePools.{pool.node_class.partition('.')[0]}.volume"
        raise InvalidInput(
            f"{path} is {pool.said.volume}, and a node's volume has {_LEAST_GIB}Gi to {_MOST_GIB}Gi",
            param=path,
            hint="200Gi holds the images of inference servers and the weights of a model of 30 billion parameters",
        )
    return gib


def _uses_nvme(pools: Sequence[Pool]) -> bool:
    """Whether local disks take the place of the volume for images and pods: not where they hold less than it."""
    disks = [each.local_nvme_gb * 1000**3 for each in _types(pools) if each.local_nvme_gb]
    return bool(disks) and min(disks) >= bytes_of(pools[0].said.volume)


def _types(pools: Sequence[Pool]) -> list[Any]:
    return list({each.name: each for pool in pools for each in pool.types}.values())


def _tags(plan: Plan, pool: Pool) -> dict[str, str]:
    tags = {"stoker.dev/pool": pool.node_class, "stoker.dev/use": pool.use, **plan.tags}
    kept = sorted(key for key in tags if key.startswith(_KEPT_TAGS))
    if kept:
        raise InvalidInput(
            f"global.tags has {kept[0]}, which AWS or Karpenter sets itself and refuses from others",
            param="global.tags",
            hint="take it out; tags of nodes may not begin with " + ", ".join(_KEPT_TAGS),
        )
    return tags

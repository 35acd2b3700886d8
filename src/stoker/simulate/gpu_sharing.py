"""GPUs that several pods share: what a node offers of them once its device plugin runs, and what a replica gets.

`reading_sharing` finds out how the nodes of a pool share theirs. Rates of a part are `engines`'.
"""

from fractions import Fraction

from stoker.base.errors import InvalidInput
from stoker.catalog import gpus
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.gpus import WHOLE, Share
from stoker.policy.pod_resources import Amounts
from stoker.simulate.scenario import Sharing

GPU = "nvidia.com/gpu"
_MIG = "nvidia.com/mig-"
_CAN_BE_CUT = ("a100", "h100", "h200", "b200", "b300", "rtx-pro-6000")


def offered(instance: InstanceType, sharing: Sharing | None) -> dict[str, int]:
    """The accelerators that a node of the type tells of, where these are not its GPUs. Empty, too, where GPUs of this
    kind cannot be cut so."""
    if sharing is None or not instance.gpu_count:
        return {}
    each = sharing.places if sharing.how != "mig" else _slices(instance, sharing.profile)
    if each < 1:
        return {}
    others = {} if sharing.resource == GPU else {GPU: 0}
    return {**others, sharing.resource: each * instance.gpu_count}


def share_on(requests: Amounts, sharing: Sharing | None, instance: InstanceType, allocatable: Amounts) -> Share:
    """What a replica has of each of its GPUs. Raises InvalidInput where that cannot be told: a part is never
    taken for a whole."""
    slices = [key for key, amount in requests.items() if key.startswith(_MIG) and amount]
    if slices:
        return _of_slice(slices[0], instance)
    asked = next((key for key, amount in requests.items() if amount and (key == GPU or key.startswith(f"{GPU}."))), "")
    places = allocatable.get(asked, 0) // instance.gpu_count if instance.gpu_count else 0
    if sharing is not None and sharing.how == "mig":
        if sharing.profile:
            return _of_slice(_MIG + sharing.profile, instance)
        part = Fraction(1, max(places, 1))
        return Share(part, part, part)
    if places <= 1:
        return WHOLE
    if requests[asked] > 1:
        raise InvalidInput(
            f"it asks for {requests[asked]} of the shares of GPUs that {places} pods have together, which is not more "
            "of a GPU than one share",
            param=asked,
            hint=f"ask for one {asked}, or for whole GPUs on nodes that do not share theirs",
        )
    return gpus.time_sliced(places)


def part_of(resource: str, instance: InstanceType, count: int) -> float:
    """Of a node's GPUs, what one unit of the resource is. A slice is the larger of its parts of compute and memory, so
    that slices that leave no room for another have paid for it."""
    if resource.startswith(_MIG):
        gpu = gpus.find(instance.gpu_name, instance.gpu_memory_mib)
        share = gpus.mig_share(resource, gpu) if gpu is not None else None
        if share is not None and instance.gpu_count:
            return float(max(share.compute, share.memory)) / instance.gpu_count
    return 1 / count if count else 0.0


def _of_slice(resource: str, instance: InstanceType) -> Share:
    gpu = gpus.find(instance.gpu_name, instance.gpu_memory_mib)
    share = gpus.mig_share(resource, gpu) if gpu is not None else None
    if share is None:
        raise InvalidInput(
            f"{resource} is no slice of {instance.gpu_name or 'a GPU'} whose speed is known here",
            param=resource,
            hint="profiles are written as in nvidia.com/mig-3g.40gb",
        )
    return share


def _slices(instance: InstanceType, profile: str) -> int:
    """How many slices of a profile one GPU gives: seven of compute and eight of memory are there (NVIDIA's MIG guide).
    0 where the GPU is none that can be cut, or nothing says the profile."""
    gpu = gpus.find(instance.gpu_name, instance.gpu_memory_mib)
    share = gpus.mig_share(_MIG + profile, gpu) if gpu is not None and gpu.key.startswith(_CAN_BE_CUT) else None
    if share is None:
        return 0
    return min(int(1 / share.compute), int(1 / share.memory))

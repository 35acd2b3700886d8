"""Whether the root volumes of nodes hold what pods put onto them. Nothing runs out of disk in a simulation."""

from collections.abc import Iterable, Sequence
from typing import Any

from stoker.catalog import ec2
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload as Template
from stoker.policy.placement import fitting_types, pool_types
from stoker.simulate.reading_notes import Notes
from stoker.simulate.scenario import Pool, Workload

_GIB = 1024**3
_NOT_FOR_FILES = ("configMap", "secret", "projected", "downwardAPI")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a name in manifests, nothing is written there


def has_own_volume(template: Template) -> bool:
    """Whether a container has a volume that is not on the node's root: what a server downloads is taken to be there,
    since caches have many places. One that is not among the pod's is of a StatefulSet's claims."""
    volumes = {each.get("name"): each for _, each in sections(template.spec.get("volumes"))}
    mounts = [each for _, one in template.containers() for _, each in sections(one.get("volumeMounts"))]
    return any(each.get("mountPath") != _SHARED_MEMORY and _is_own(volumes.get(each.get("name"))) for each in mounts)


def on_disk(workload: Workload, *, keeps_weights: bool) -> int:
    """Bytes of one pod: its images unpacked, and the weights where they are downloaded onto the node."""
    weights = workload.load.weights_bytes if keeps_weights and workload.load.weights_from == "hub" else 0
    return sum(each.unpacked_bytes for each in workload.load.images) + weights


def too_small(taken: Iterable[tuple[Workload, int]], pools: Sequence[Pool], notes: Notes) -> None:
    """`taken`: workloads with the bytes of a pod of theirs (`on_disk`)."""
    for workload, bytes_ in taken:
        for pool in pools:
            if bytes_ > pool.volume.size_gib * _GIB and _may_run(workload, pool):
                notes.say(
                    f"{workload.name}: images and weights of a pod take {bytes_ / _GIB:.1f} GiB unpacked, and the root "
                    f"volume of NodePool {pool.view.name} has {pool.volume.size_gib} GiB: it would not start there; "
                    "here it does"
                )


def _may_run(workload: Workload, pool: Pool) -> bool:
    """On a node of the pool whose disk is its root volume."""
    types = pool_types(pool.view, ec2.instance_types().values())
    if pool.volume.uses_instance_store:
        types = tuple(each for each in types if not each.local_nvme_gb)
    return next(fitting_types(workload.shape.view, pool.view, types), None) is not None


def _is_own(volume: dict[str, Any] | None) -> bool:
    if volume is None:
        return True
    if "emptyDir" in volume:
        return bool(look(volume, "emptyDir", "medium") == "Memory")
    return not any(kind in volume for kind in _NOT_FOR_FILES)

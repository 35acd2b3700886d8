"""GPUs that several replicas share: how many of them a node offers, by time-slicing, MPS or MIG.

Pods ask for `nvidia.com/gpu: 1` in each case: the device plugin is told not to rename what is shared, and with MIG it
has the strategy `single`, by which slices go by the name of whole GPUs. Karpenter launches nodes for no other name.
"""

from collections.abc import Mapping
from types import MappingProxyType

from stoker.catalog.ec2 import InstanceType
from stoker.render.facts import Pool
from stoker.spec import Gpu

_A100_40 = {"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1}
_80 = {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}
_H200 = {"1g.18gb": 7, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1}
_B200 = {"1g.23gb": 7, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "4g.90gb": 1, "7g.180gb": 1}
_B300 = {"1g.34gb": 7, "1g.67gb": 4, "2g.67gb": 3, "3g.135gb": 2, "4g.135gb": 1, "7g.269gb": 1}
_RTX = {"1g.24gb": 4, "2g.48gb": 2, "4g.96gb": 1}

_SLICES: Mapping[tuple[str, int], tuple[str, Mapping[str, int]]] = MappingProxyType(
    {
        ("a100", 40): ("a100.40gb", _A100_40),
        ("a100", 80): ("a100.80gb", _80),
        ("h100", 80): ("h100.80gb", _80),
        ("h200", 141): ("h200.141gb", _H200),
        ("b200", 179): ("b200.180gb", _B200),
        ("b300", 268): ("b300.269gb", _B300),
        ("rtx-pro-server-6000", 96): ("rtxpro6000.96gb", _RTX),
    }
)
"""GPU and its memory in GiB, as the catalogue has them -> Bottlerocket's name of it, and how many slices of a profile
it can be cut into. NVIDIA's MIG user guide, "Supported MIG Profiles"."""
_BOTTLEROCKET_CUTS = ("a100", "h100", "h200", "b200")
"""GPUs that the released Bottlerocket's MIG manager can cut (settings.kubelet-device-plugins.nvidia.mig.profile)."""


def slices(instance: InstanceType, profile: str) -> int:
    """How many slices of a MIG profile each GPU of the type gives; 0 where it cannot be cut so."""
    return _geometry(instance)[1].get(profile, 0)


def profiles(instance: InstanceType) -> tuple[str, ...]:
    return tuple(_geometry(instance)[1])


def bottlerocket_name(instance: InstanceType) -> str:
    """What Bottlerocket calls the GPU where it can cut it; empty where it cannot."""
    return _geometry(instance)[0] if instance.gpu_name in _BOTTLEROCKET_CUTS else ""


def slice_mib(profile: str) -> int:
    """Memory of one slice: 40 GiB of `3g.40gb`."""
    return int(profile.partition(".")[2].removesuffix("gb")) * 1024


def places_on_gpu(instance: InstanceType, gpu: Gpu | None) -> int:
    """How many replicas share each GPU of the type."""
    if gpu is None or gpu.sharing == "none":
        return 1
    return slices(instance, gpu.mig_profile) if gpu.sharing == "mig" else gpu.share


def offered(instance: InstanceType, gpu: Gpu | None) -> int:
    """How many `nvidia.com/gpu` the node says it has once its device plugin runs."""
    return instance.gpu_count * places_on_gpu(instance, gpu)


def config_name(gpu: Gpu) -> str:
    """What a way of sharing is called: `time-slicing-4`, `mps-2`, `mig`."""
    return "mig" if gpu.sharing == "mig" else f"{gpu.sharing}-{gpu.share}"


CONFIG_LABEL = "stoker.dev/gpu-sharing"
"""Node label of a pool whose GPUs are shared: the `config_name`, by which its device plugin finds its nodes."""


def _geometry(instance: InstanceType) -> tuple[str, Mapping[str, int]]:
    return _SLICES.get((instance.gpu_name, instance.gpu_memory_mib // 1024), ("", {}))


def has_other_count(pool: Pool) -> bool:
    """Whether nodes of the pool have other numbers of GPUs to give than their types, which a NodeOverlay says."""
    return any(offered(each, pool.sharing) != each.gpu_count for each in pool.types)

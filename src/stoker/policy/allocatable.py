"""What Karpenter computes that a node of a type will have, and what pods can have of it, to the last byte.

Source: aws/karpenter-provider-aws, pkg/providers/instancetype/types.go. Amounts are as in `pod_resources`. The
catalogue's own `allocatable` is this with the defaults; another kubelet configuration has to be computed.
"""

from dataclasses import dataclass, field
from typing import Literal

from stoker.catalog.ec2 import InstanceType
from stoker.policy.pod_resources import CPU, MEMORY, NOTHING, PODS, STORAGE, Amounts

MIB = 1024**2
GIB = 1024**3
MEMORY_OVERHEAD_PERMILLE = 75
"""`VM_MEMORY_OVERHEAD_PERCENT` 0.075: what the hypervisor and the firmware keep of the memory that is sold."""
ARM_RESERVED_MIB = 64
ROOT_BYTES = 20 * GIB
PODS_WITHOUT_ENIS = 110
EVICTION_MIB = 100

_CPU_RESERVED = ((1000, 600), (1000, 100), (2000, 50))
"""Thousandths of cores, and of them what the kubelet keeps in parts of 10,000: 6 % of the first core, 1 % of the
second, 0.5 % of the next two."""
_CPU_RESERVED_BEYOND = 25

Family = Literal["AL2", "AL2023", "Bottlerocket", "Windows", "Custom"]
_ENI_LIMITED: frozenset[Family] = frozenset({"AL2", "AL2023", "Bottlerocket"})
_MEMORY_BY_ENIS: frozenset[Family] = frozenset({"AL2", "AL2023", "Custom"})


@dataclass(frozen=True, slots=True)
class Kubelet:
    """What an EC2NodeClass sets that changes the outcome. Reserved amounts replace the computed ones, one by one."""

    family: Family = "AL2023"
    max_pods: int | None = None
    pods_per_core: int | None = None
    """Not heeded by Bottlerocket."""
    reserved_enis: int = 0
    """Karpenter's `RESERVED_ENIS`: interfaces that are not for pods."""
    root_bytes: int = ROOT_BYTES
    kube_reserved: Amounts = field(default_factory=dict)
    system_reserved: Amounts = field(default_factory=dict)
    eviction_hard: Amounts = field(default_factory=dict)


DEFAULTS = Kubelet()


def capacity(instance: InstanceType, kubelet: Kubelet = DEFAULTS) -> dict[str, int]:
    """What the node will report to have."""
    return {
        **_devices(instance),
        CPU: instance.vcpu * 1000,
        MEMORY: memory_capacity_mib(instance) * MIB,
        PODS: pods(instance, kubelet),
        STORAGE: kubelet.root_bytes,
    }


def allocatable(instance: InstanceType, kubelet: Kubelet = DEFAULTS) -> dict[str, int]:
    """What pods can request: capacity less what the kubelet, the system and the eviction threshold keep."""
    kept = (_kube_reserved(instance, kubelet), kubelet.system_reserved, _eviction(kubelet))
    return {key: max(n - sum(each.get(key, 0) for each in kept), 0) for key, n in capacity(instance, kubelet).items()}


def memory_capacity_mib(instance: InstanceType) -> int:
    sold = instance.memory_mib - (ARM_RESERVED_MIB if instance.arch == "arm64" else 0)
    return sold - -(-sold * MEMORY_OVERHEAD_PERMILLE // 1000)


def eni_limited_pods(instance: InstanceType, reserved_enis: int = 0) -> int:
    """Every interface has addresses, of which one is its own; two pods use the node's. The catalogue's number where the
    interfaces are not known."""
    if not instance.enis:
        return instance.max_pods
    usable = max(instance.enis - reserved_enis, 0)
    return usable * (instance.ipv4_per_eni - 1) + 2 if usable else 0


def pods(instance: InstanceType, kubelet: Kubelet = DEFAULTS) -> int:
    if kubelet.max_pods is not None:
        count = kubelet.max_pods
    elif kubelet.family in _ENI_LIMITED:
        count = eni_limited_pods(instance, kubelet.reserved_enis)
    else:
        count = PODS_WITHOUT_ENIS
    if kubelet.pods_per_core and kubelet.family != "Bottlerocket":
        count = min(count, kubelet.pods_per_core * instance.vcpu)
    return count


def cpu_reserved(milli: int) -> int:
    """Each part is cut to whole thousandths of a core."""
    left, kept = milli, 0
    for size, share in _CPU_RESERVED:
        kept += min(left, size) * share // 10_000
        left = max(left - size, 0)
    return kept + left * _CPU_RESERVED_BEYOND // 10_000


def _kube_reserved(instance: InstanceType, kubelet: Kubelet) -> Amounts:
    """AL2 and AL2023 reserve memory for as many pods as the interfaces allow, whatever maxPods says."""
    by_enis = kubelet.family in _MEMORY_BY_ENIS
    counted = eni_limited_pods(instance) if by_enis else pods(instance, kubelet)
    computed = {CPU: cpu_reserved(instance.vcpu * 1000), MEMORY: (255 + 11 * counted) * MIB, STORAGE: GIB}
    return {**computed, **kubelet.kube_reserved}


def _eviction(kubelet: Kubelet) -> Amounts:
    return {MEMORY: EVICTION_MIB * MIB, STORAGE: -(-kubelet.root_bytes // 10), **kubelet.eviction_hard}


def _devices(instance: InstanceType) -> Amounts:
    own = (CPU, MEMORY, PODS, STORAGE)
    return {key: n for key, n in instance.allocatable.items() if key not in own} or NOTHING

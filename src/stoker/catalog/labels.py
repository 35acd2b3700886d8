"""Labels of nodes: which Karpenter knows, which it keeps for itself, and which each instance type gives.

As of Karpenter 1.14 (AWS provider). EKS Auto Mode has the same labels of instances under a domain of its own.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal

from stoker.catalog.ec2 import InstanceType

ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
ZONE_ID = "topology.k8s.aws/zone-id"
ARCH = "kubernetes.io/arch"
OS = "kubernetes.io/os"
HOSTNAME = "kubernetes.io/hostname"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
WINDOWS_BUILD = "node.kubernetes.io/windows-build"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
NODE_POOL = "karpenter.sh/nodepool"
CAPACITY_TYPES = ("on-demand", "spot", "reserved")

Domain = Literal["karpenter.k8s.aws", "eks.amazonaws.com"]
AWS: Domain = "karpenter.k8s.aws"
"""Of a Karpenter that the user runs."""
AUTO_MODE: Domain = "eks.amazonaws.com"

OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "failure-domain.beta.kubernetes.io/zone": ZONE,
        "failure-domain.beta.kubernetes.io/region": REGION,
        "beta.kubernetes.io/arch": ARCH,
        "beta.kubernetes.io/os": OS,
        "beta.kubernetes.io/instance-type": INSTANCE_TYPE,
    }
)
"""Names that Karpenter still takes for the present ones."""

_OF_TYPES = (
    "instance-category",
    "instance-family",
    "instance-generation",
    "instance-size",
    "instance-cpu",
    "instance-cpu-manufacturer",
    "instance-memory",
    "instance-gpu-name",
    "instance-gpu-manufacturer",
    "instance-gpu-count",
    "instance-gpu-memory",
    "instance-accelerator-name",
    "instance-accelerator-manufacturer",
    "instance-accelerator-count",
    "instance-hypervisor",
    "instance-local-nvme",
    "instance-network-bandwidth",
    "instance-ebs-bandwidth",
)
_UNKNOWN_HERE = (
    "instance-encryption-in-transit-supported",
    "instance-cpu-sustained-clock-speed-mhz",
    "instance-capability-flex",
    "instance-tenancy",
)
"""Of the type too, but this catalogue does not have them: whatever is asked for is taken to be there."""
_OF_OFFERINGS = (
    "capacity-reservation-id",
    "capacity-reservation-type",
    "capacity-reservation-interruptible",
    "placement-group-id",
    "placement-group-partition",
    "ec2nodeclass",
)
NUMERIC = frozenset(
    f"instance-{each}"
    for each in (
        "generation",
        "cpu",
        "memory",
        "gpu-count",
        "gpu-memory",
        "accelerator-count",
        "local-nvme",
        "network-bandwidth",
        "ebs-bandwidth",
        "cpu-sustained-clock-speed-mhz",
    )
)
"""What follows the domain in labels whose values are numbers; memory in MiB, bandwidth in Mbit/s, storage in GB."""

_KUBERNETES = frozenset({ZONE, REGION, ZONE_ID, ARCH, OS, INSTANCE_TYPE, WINDOWS_BUILD, CAPACITY_TYPE})
WELL_KNOWN: Mapping[Domain, frozenset[str]] = MappingProxyType(
    {
        AWS: _KUBERNETES | {f"{AWS}/{each}" for each in (*_OF_TYPES, *_UNKNOWN_HERE, *_OF_OFFERINGS)},
        AUTO_MODE: _KUBERNETES
        | {f"{AUTO_MODE}/{each}" for each in (*_OF_TYPES, *_UNKNOWN_HERE, "compute-type", "nodeclass")},
    }
)
"""Labels that a node gets without its pool naming them: a pod may select by them in any pool."""

OF_TYPES: Mapping[Domain, frozenset[str]] = MappingProxyType(
    {
        domain: frozenset({ARCH, INSTANCE_TYPE, *(f"{domain}/{each}" for each in _OF_TYPES)})
        for domain in (AWS, AUTO_MODE)
    }
)
"""Labels that the type alone decides: one that `labels_of` does not give is not on the node."""

_RESTRICTED_DOMAINS = ("karpenter.sh", "karpenter.k8s.aws")
_KUBERNETES_DOMAINS = ("kubernetes.io", "k8s.io")
_OPEN_DOMAINS = ("kops.k8s.io", "node.kubernetes.io", "node-restriction.kubernetes.io")


def present_name(key: str) -> str:
    """The name that Karpenter uses for a label: the present one of a `beta.kubernetes.io/...`."""
    return OLD_NAMES.get(key, key)


def domain_of(key: str) -> str:
    return key.partition("/")[0] if "/" in key else ""


def why_restricted(key: str, domain: Domain = AWS) -> str | None:
    """Why a NodePool may neither ask for this label nor give it; None when it may."""
    if key == NODE_POOL:
        return "Karpenter sets it to the name of the pool"
    if key == HOSTNAME:
        return "a node has it from its own name"
    if key in WELL_KNOWN[domain]:
        return None
    for restricted in _RESTRICTED_DOMAINS:
        if domain_of(key).endswith(restricted):
            return f"the domain {restricted} is Karpenter's own, and it knows no such label"
    return None


def is_kept_for_kubernetes(key: str) -> bool:
    """Whether Karpenter before 1.14 refuses the label, in a NodePool, for its domain; since then it is allowed."""
    found = domain_of(key)
    if key in WELL_KNOWN[AWS] or key in OLD_NAMES or any(found.endswith(each) for each in _OPEN_DOMAINS):
        return False
    return any(found.endswith(each) for each in _KUBERNETES_DOMAINS)


@cache
def labels_of(instance: InstanceType, domain: Domain = AWS) -> Mapping[str, str]:
    """The labels that a node has because of its type (Linux). What a type does not have has no label; bare metal has
    an empty hypervisor."""
    found = {
        "category": instance.category,
        "family": instance.family,
        "generation": str(instance.generation),
        "size": instance.size,
        "cpu": str(instance.vcpu),
        "cpu-manufacturer": instance.cpu_manufacturer,
        "memory": str(instance.memory_mib),
        "local-nvme": _number(instance.local_nvme_gb),
        "network-bandwidth": _number(instance.network_mbps),
        "ebs-bandwidth": _number(instance.ebs_mbps),
    }
    if instance.gpu_name:
        found |= {
            "gpu-name": instance.gpu_name,
            "gpu-manufacturer": instance.gpu_manufacturer,
            "gpu-count": str(instance.gpu_count),
            "gpu-memory": str(instance.gpu_memory_mib),
        }
    if instance.accelerator_name:
        found |= {
            "accelerator-name": instance.accelerator_name,
            "accelerator-manufacturer": instance.accelerator_manufacturer,
            "accelerator-count": str(instance.accelerator_count),
        }
    labels = {f"{domain}/instance-{key}": value for key, value in found.items() if value}
    labels[f"{domain}/instance-hypervisor"] = instance.hypervisor
    return MappingProxyType(labels | {ARCH: instance.arch, OS: "linux", INSTANCE_TYPE: instance.name})


def _number(value: int) -> str:
    return str(value) if value else ""

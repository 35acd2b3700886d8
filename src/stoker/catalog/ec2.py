"""The EC2 instance types: what they have, what pods can take of it, what they cost.

As of the days in `data/ec2/SOURCES.md`. Read once, when first asked for.
"""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

REGION = "us-east-1"
"""Whose prices are known for every type that has one: the region to compare types by."""

_DATA = Path(__file__).with_name("data") / "ec2" / "instances.json.gz"


@dataclass(frozen=True, eq=False)
class InstanceType:
    """One type. Text that does not apply is empty, a number that does not apply 0."""

    name: str
    family: str
    size: str
    category: str
    """`g` of `g5.2xlarge`, `trn` of `trn1.32xlarge`."""
    generation: int
    arch: str
    """As Kubernetes names it: `amd64`, `arm64`."""
    hypervisor: str
    """Empty for bare metal."""
    bare_metal: bool
    vcpu: int
    cpu_manufacturer: str
    memory_mib: int
    """What is sold. What pods can have of it is in `allocatable`."""
    gpu_count: int
    """0 also where a type has a part of a GPU (g6f): pods cannot ask for it."""
    gpu_name: str
    gpu_manufacturer: str
    gpu_memory_mib: int
    """Of each GPU."""
    accelerator_count: int
    accelerator_name: str
    accelerator_manufacturer: str
    network_mbps: int
    ebs_mbps: int
    local_nvme_gb: int
    efa_count: int
    max_pods: int
    ipv4_per_eni: int
    enis: int
    """Network interfaces that the CNI uses: those of the default network card. 0 where it is not known."""
    allocatable: Mapping[str, int]
    """What pods can request, with Karpenter's defaults: `cpu` in thousandths, `memory` and `ephemeral-storage` in
    bytes, `pods` and devices counted."""
    prices: Mapping[str, float]
    """Region -> USD per hour, Linux, on demand. Empty for types sold as capacity blocks only."""

    def usd_per_hour(self, region: str = REGION) -> float | None:
        return self.prices.get(region)

    def __str__(self) -> str:
        return self.name


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """All types by name, in alphabetical order."""
    read = json.loads(gzip.decompress(_DATA.read_bytes()))
    fields = read["fields"]
    found = (InstanceType(**dict(zip(fields, row, strict=True))) for row in read["types"])
    return MappingProxyType({each.name: each for each in found})


def find(name: str) -> InstanceType | None:
    return instance_types().get(name)


@cache
def families() -> frozenset[str]:
    return frozenset(each.family for each in instance_types().values())


@cache
def regions() -> tuple[str, ...]:
    """The regions with prices."""
    return tuple(sorted({region for each in instance_types().values() for region in each.prices}))


_ZONE = re.compile(r"([a-z]{2,3}(?:-[a-z]+)+-\d+)(?:[a-z]|-[a-z]+-\d+[a-z])?")


def region_of(zone: str) -> str | None:
    """`us-west-2` of `us-west-2a` and of the local zone `us-west-2-lax-1a`; None for what is no zone's name."""
    match = _ZONE.fullmatch(zone)
    return match[1] if match else None

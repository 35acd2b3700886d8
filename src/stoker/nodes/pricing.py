"""What a machine costs per hour: on demand by the catalogue, its volumes, Auto Mode's fee; spot as EC2 says.

Reserved machines, and those that a savings plan pays for, have the price on demand: what the owner agreed upon is known
to the bill alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stoker.catalog.aws_prices import auto_mode_share
from stoker.catalog.ec2 import REGION, instance_types, region_of
from stoker.manifests.quantities import bytes_of
from stoker.meter.lives import MachineLife, PriceStep
from stoker.policy.market import on_demand_usd_per_hour
from stoker.policy.volumes import Volume, volume_usd_per_hour

AUTO_CLASS = "NodeClass"
"""The kind of node class that EKS Auto Mode has; Karpenter's own is EC2NodeClass."""
_AUTO_GIB = 80
"""Of an Auto Mode node's volume by default (EKS user guide, "Create a Node Class": ephemeralStorage)."""
_NANO = 10**9


class Pricing:
    """Prices by type and zone. A type that the catalogue does not know costs 0, and `unknown` has its name."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    def on_demand(self, type_name: str, zone: str) -> int:
        """Nano-dollars per hour."""
        instance = instance_types().get(type_name)
        usd = None if instance is None else on_demand_usd_per_hour(instance, region_of(zone) or REGION)
        if usd is None:
            self.unknown.add(type_name)
            return 0
        return round(usd * _NANO)

    def volumes_and_fee(self, type_name: str, zone: str, class_kind: str, node_class: Mapping[str, Any] | None) -> int:
        """Nano-dollars per hour of its volumes and, in Auto Mode, the fee."""
        is_auto = class_kind == AUTO_CLASS
        volumes = sum(volume_usd_per_hour(each) for each in volumes_of(node_class, is_auto=is_auto))
        fee = float(auto_mode_share(type_name)) * self.on_demand(type_name, zone) if is_auto else 0.0
        return round(volumes * _NANO + fee)


def volumes_of(node_class: Mapping[str, Any] | None, *, is_auto: bool) -> list[Volume]:
    """All volumes that a node of the class has; those that EC2 and Karpenter make by default where it says none."""
    spec = (node_class or {}).get("spec") or {}
    if is_auto:
        return [_volume(spec.get("ephemeralStorage") or {}, "size", _AUTO_GIB)]
    mapped = [each.get("ebs") or {} for each in spec.get("blockDeviceMappings") or ()]
    return [_volume(each, "volumeSize", Volume().size_gib) for each in mapped] or [Volume()]


def _volume(said: Mapping[str, Any], size: str, usual_gib: int) -> Volume:
    usual = Volume()
    try:
        gib = -(-bytes_of(said[size]) // 2**30)
    except (KeyError, ValueError):
        gib = usual_gib
    return Volume(
        size_gib=gib,
        throughput_mibs=int(said.get("throughput") or usual.throughput_mibs),
        iops=int(said.get("iops") or usual.iops),
        kind=str(said.get("volumeType") or usual.kind),
    )


def spot_offerings(machines: Iterable[MachineLife]) -> list[tuple[str, str]]:
    """Types and zones whose history is to be asked for."""
    return sorted({(each.type, each.zone) for each in machines if each.capacity == "spot" and each.type and each.zone})


def step(type_name: str, zone: str, at: float, usd_per_hour: float) -> PriceStep:
    return PriceStep(type=type_name, zone=zone, capacity="spot", at=at, nano_usd_per_hour=round(usd_per_hour * _NANO))

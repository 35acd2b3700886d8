"""Root volumes of nodes, and what EBS asks for them."""

from dataclasses import dataclass

_HOURS_PER_MONTH = 730.0
_GIB_MONTH = {"gp3": 0.08, "gp2": 0.10, "io1": 0.125, "io2": 0.125, "st1": 0.045, "sc1": 0.015, "standard": 0.05}
"""USD, us-east-1 (Amazon EBS pricing)."""
_GP3_FREE_MIBS, _GP3_MIBS_MONTH = 125, 0.04
_GP3_FREE_IOPS, _GP3_IOPS_MONTH = 3000, 0.005
_IO_IOPS_MONTH = 0.065


@dataclass(frozen=True, eq=False)
class Volume:
    """The root volume of a node: what images are unpacked onto."""

    size_gib: int = 20
    throughput_mibs: int = 125
    iops: int = 3000
    kind: str = "gp3"
    has_images: bool = False
    """Made from a snapshot that holds them, or read lazily (SOCI)."""
    uses_instance_store: bool = False


def volume_usd_per_hour(volume: Volume) -> float:
    month = volume.size_gib * _GIB_MONTH.get(volume.kind, _GIB_MONTH["gp3"])
    if volume.kind == "gp3":
        month += max(0, volume.throughput_mibs - _GP3_FREE_MIBS) * _GP3_MIBS_MONTH
        month += max(0, volume.iops - _GP3_FREE_IOPS) * _GP3_IOPS_MONTH
    if volume.kind in ("io1", "io2"):
        month += volume.iops * _IO_IOPS_MONTH
    return month / _HOURS_PER_MONTH

"""How long machines and pods take: priors by instance family, each with its source, all of them to be overridden.

What a manifest can change (the volume's throughput, a snapshot, the network of a type, where weights come from) is
computed; what nobody can know beforehand is drawn, log-normal around the prior's mean.
"""

import dataclasses
import difflib
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import InstanceType
from stoker.policy.volumes import Volume
from stoker.simulate.scenario import Image, Load

MIB, GB = 2**20, 1e9
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class NodeTimes:
    """Seconds, one after the other, from the decision to launch."""

    fleet_s: float
    """CreateFleet answers; the instance is billed from its end."""
    boot_s: float
    """Until the kubelet has registered and the node is Ready."""
    devices_s: float
    """Until the device plugin has told of the GPUs; 0 without."""


@dataclass(frozen=True, slots=True)
class PodTimes:
    """Seconds, one after the other, from being bound."""

    pull_s: float
    """0 for images that the node has."""
    load_s: float
    """Weights, from where they are."""
    start_s: float
    """The process itself: engine start-up with compilation and graphs, or a small server's start."""


def _prior(mean: float, source: str) -> float:
    """A field of `Priors` with where its value comes from."""
    return dataclasses.field(default=mean, metadata={"source": source})


@dataclass(frozen=True, slots=True)
class Priors:
    """Means, in seconds and bytes per second. A `..._spread` is the standard deviation of the logarithm; 0 makes the
    mean certain. `sources` says where each comes from."""

    fleet_s: float = _prior(2.0, "CreateFleet 1 to 3 s: devfloor9's engineering playbook")
    fleet_spread: float = _prior(0.3, "so that 1 to 3 s hold nearly all")
    boot_s: float = _prior(52.5, "45 to 60 s: chkk, zop, tasrie; Bottlerocket and AL2023 alike")
    boot_gpu_more_s: float = _prior(0.0, "more with GPUs: none, by the chain recommended for g5 and g6e")
    boot_metal_s: float = _prior(420.0, "bare metal: assumed, 5 to 10 minutes")
    boot_spread: float = _prior(0.1, "so that 45 to 60 s hold most")
    devices_s: float = _prior(40.0, "20 to 60 s; about 60 s in karpenter-provider-gcp PR 148")
    devices_spread: float = _prior(0.3, "so that 20 to 60 s hold most")
    registry_bytes_per_s: float = _prior(
        100e6, "10 GB in 7 to 10 minutes with unpacking (Tensorfuse), 15 to 20 GB in 4 to 6 (AWS SOCI blog)"
    )
    network_share: float = _prior(0.9, "of the type's bandwidth, for one transfer: assumed")
    unpack_bytes_per_s: float = _prior(300e6, "decompression on one core, whatever the disk: assumed")
    instance_store_bytes_per_s: float = _prior(1e9, "writing to local NVMe: assumed, one drive")
    pull_fixed_s: float = _prior(1.0, "manifest and authentication of one image: assumed")
    pull_spread: float = _prior(0.15, "240 to 360 s for 8 to 10 GB: chain recommended")
    lazy_s_per_gb: float = _prior(
        3.1, "13 GB in 40.65 s, 2.4 GB in 7.4 s (vertexcover): of an image that is read as it is needed"
    )
    hub_bytes_per_s: float = _prior(200e6, "a model hub with several connections: assumed")
    s3_bytes_per_s: float = _prior(
        1e9, "between Tensorizer (0.43 GB/s) and Run:ai's streamer (3.3 GB/s), 16 GB from S3"
    )
    volume_bytes_per_s: float = _prior(335e6, "16 GB of safetensors from gp3 in 47.99 s (Run:ai's benchmark)")
    load_spread: float = _prior(0.2, "15 to 50 s for 16 GB: chain recommended")
    engine_start_s: float = _prior(65.0, "40 to 90 s for 16 GB of weights: vLLM PR 11005, runai issue 67")
    engine_start_growth: float = _prior(0.33, "power of the weights' size: compilation grows with layers, assumed")
    engine_start_spread: float = _prior(0.25, "so that 40 to 90 s hold most")
    server_start_s: float = _prior(5.0, "a small server without weights: 7 s for a pod on a warm node (codingwithtaz)")
    server_start_spread: float = _prior(0.25, "assumed")

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            is_rate = each.name.endswith(("_per_s", "_share"))
            if not math.isfinite(value) or value < 0 or (is_rate and value == 0):
                least = "above 0" if is_rate else "0 or more"
                raise InvalidInput(f"prior {each.name} is {value:g}, and must be {least}", param=each.name)

    @classmethod
    def sources(cls) -> Mapping[str, str]:
        return {each.name: each.metadata["source"] for each in dataclasses.fields(cls)}

    @classmethod
    def from_text(cls, *texts: str) -> "Priors":
        """From `boot_s=60`, several of which may be in one text with commas between; the last of a name holds."""
        return overridden(parsed(texts))


PRIORS = Priors()
ENGINE_WEIGHTS_BYTES = 16 * GB
"""What `engine_start_s` is for: 8 billion parameters in 16 bits."""


def overridden(values: Mapping[str, float]) -> Priors:
    """The priors with some replaced. Raises InvalidInput for a name that there is not."""
    known = Priors.sources()
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InvalidInput(
                f"there is no prior {name!r}" + (f": {near[0]}?" if near else ""),
                param=name,
                hint=f"there are {', '.join(known)}",
            )
    return dataclasses.replace(PRIORS, **values)


def parsed(texts: Iterable[str]) -> dict[str, float]:
    """`boot_s=60` -> {"boot_s": 60.0}."""
    found: dict[str, float] = {}
    for part in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, equals, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            what = f"{number.strip()!r} is not a number" if equals else "a value is missing"
            raise InvalidInput(f"prior {part!r}: {what}", param=name.strip(), hint="as in boot_s=60") from None
    return found


def node_times(instance: InstanceType, chance: random.Random, priors: Priors = PRIORS) -> NodeTimes:
    """Draws three numbers, whatever the type."""
    has_devices = instance.gpu_count > 0 or instance.accelerator_count > 0
    boot_s = priors.boot_metal_s if instance.bare_metal else priors.boot_s
    boot_s += priors.boot_gpu_more_s if has_devices else 0.0
    fleet_s = _draw(priors.fleet_s, priors.fleet_spread, chance)
    booted_s = _draw(boot_s, priors.boot_spread, chance)
    devices_s = _draw(priors.devices_s, priors.devices_spread, chance)
    return NodeTimes(fleet_s, booted_s, devices_s if has_devices else 0.0)


def pod_times(
    load: Load,
    instance: InstanceType,
    volume: Volume,
    images_there: frozenset[str],
    chance: random.Random,
    priors: Priors = PRIORS,
) -> PodTimes:
    """Draws three numbers, whatever the load. Images are pulled one after the other, as kubelets do by default."""
    missing = {each.name: each for each in load.images if each.name not in images_there}
    pull_s = sum(image_s(each, instance, volume, priors) for each in missing.values())
    return PodTimes(
        pull_s=_draw(pull_s, priors.pull_spread, chance),
        load_s=_draw(weights_s(load, instance, volume, priors), priors.load_spread, chance),
        start_s=_start_s(load, chance, priors),
    )


def image_s(image: Image, instance: InstanceType, volume: Volume, priors: Priors = PRIORS) -> float:
    """Mean seconds until a container of this image can start, on a node that has not got it: the compressed bytes over
    the network, then the unpacked ones onto the disk. What is lazy, or on a volume made from a snapshot, is read as it
    is needed."""
    if image.is_lazy or volume.has_images:
        return image.unpacked_bytes / GB * priors.lazy_s_per_gb
    download_s = image.size_bytes / min(_network(instance, priors), priors.registry_bytes_per_s)
    unpack_s = image.unpacked_bytes / min(_disk(instance, volume, priors), priors.unpack_bytes_per_s)
    return priors.pull_fixed_s + download_s + unpack_s


def weights_s(load: Load, instance: InstanceType, volume: Volume, priors: Priors = PRIORS) -> float:
    """Mean seconds until the weights have been read. A hub's files are written to the disk first; S3 is streamed; a
    volume of its own comes over EBS or the network, whichever is wider."""
    network, disk = _network(instance, priors), _disk(instance, volume, priors)
    match load.weights_from:
        case "hub":
            rate = min(priors.hub_bytes_per_s, network, disk)
        case "s3":
            rate = min(priors.s3_bytes_per_s, network)
        case "volume":
            rate = min(priors.volume_bytes_per_s, max(network, _ebs(instance)))
        case "node":
            rate = disk
        case "none":
            return 0.0
    return load.weights_bytes / rate


def _start_s(load: Load, chance: random.Random, priors: Priors) -> float:
    if load.weights_bytes == 0:
        return _draw(priors.server_start_s, priors.server_start_spread, chance)
    growth = (load.weights_bytes / ENGINE_WEIGHTS_BYTES) ** priors.engine_start_growth
    return _draw(priors.engine_start_s * growth, priors.engine_start_spread, chance)


def _network(instance: InstanceType, priors: Priors) -> float:
    """Bytes per second."""
    return instance.network_mbps * 1e6 / 8 * priors.network_share


def _ebs(instance: InstanceType) -> float:
    return instance.ebs_mbps * 1e6 / 8


def _disk(instance: InstanceType, volume: Volume, priors: Priors) -> float:
    """Bytes per second of the disk that images and files are on: never more than the type has for its volumes."""
    if volume.uses_instance_store and instance.local_nvme_gb > 0:
        return priors.instance_store_bytes_per_s
    return min(volume.throughput_mibs * MIB, _ebs(instance)) if instance.ebs_mbps else volume.throughput_mibs * MIB


def _draw(mean: float, spread: float, chance: random.Random) -> float:
    """Log-normal with that mean. One number of `chance` each time, so that a certain prior shifts no other draw."""
    at = _NORMAL.inv_cdf(min(max(chance.random(), 1e-12), 1 - 1e-12))
    return mean * math.exp(spread * at - spread**2 / 2)

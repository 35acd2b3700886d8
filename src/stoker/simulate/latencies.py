"""How long machines and pods take: priors by instance family, each with its source, all of them to be overridden."""

import random
from dataclasses import dataclass

from stoker.catalog.ec2 import InstanceType
from stoker.simulate.scenario import Load, Volume


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


def node_times(instance: InstanceType, chance: random.Random) -> NodeTimes:
    raise NotImplementedError


def pod_times(
    load: Load, instance: InstanceType, volume: Volume, images_there: frozenset[str], chance: random.Random
) -> PodTimes:
    raise NotImplementedError

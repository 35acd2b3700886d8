"""What a pod needs of a node, and whether it is there.

Amounts are whole numbers: `cpu` in thousandths of a core, what is measured in bytes in bytes, devices and pods counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Amounts = Mapping[str, int]

CPU = "cpu"
MEMORY = "memory"
STORAGE = "ephemeral-storage"
PODS = "pods"
EFA = "vpc.amazonaws.com/efa"
GPUS = ("nvidia.com/gpu", "amd.com/gpu")
OF_GPUS = ("nvidia.com/mig-", "nvidia.com/gpu.")
"""How resources begin that are parts of GPUs: slices, and shares under a name of their own."""
ACCELERATORS = (*GPUS, "aws.amazon.com/neuron", "aws.amazon.com/neuroncore", "aws.amazon.com/neurondevice")
NOTHING: Amounts = {}


@dataclass(frozen=True, slots=True)
class Init:
    """What an init container requests. A sidecar (`restartPolicy: Always`) stays while the containers run."""

    requests: Amounts
    is_sidecar: bool = False


def added(*amounts: Amounts) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in amounts:
        for resource, amount in each.items():
            total[resource] = total.get(resource, 0) + amount
    return total


def largest(*amounts: Amounts) -> dict[str, int]:
    top: dict[str, int] = {}
    for each in amounts:
        for resource, amount in each.items():
            top[resource] = max(top.get(resource, 0), amount)
    return top


def requested(requests: Amounts, limits: Amounts) -> dict[str, int]:
    """Of one container: what it has a limit for and no request, it requests up to the limit."""
    return {**limits, **requests}


def pod_requests(
    containers: Iterable[Amounts], inits: Sequence[Init] = (), overhead: Amounts = NOTHING, whole: Amounts = NOTHING
) -> dict[str, int]:
    """What kube-scheduler reserves for a pod: the most it needs at any time of its life.

    Init containers run one after the other, each beside the sidecars that started before it; the containers run beside
    all sidecars. `whole` is what the pod itself requests (`spec.resources`): it counts instead of the sum.
    """
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for each in inits:
        beside = added(sidecars, each.requests)
        peak = largest(peak, beside)
        if each.is_sidecar:
            sidecars = beside
    running = added(sidecars, *containers)
    return added({**largest(running, peak), **whole}, overhead)


def fits(requests: Amounts, allocatable: Amounts) -> bool:
    """Everything requested is there. A request for 0 of something that is not there fits."""
    return all(amount <= allocatable.get(resource, 0) for resource, amount in requests.items())


def times(requests: Amounts, allocatable: Amounts) -> int:
    """How many of these fit beside one another. Raises ValueError when nothing is requested: any number would."""
    asked = [(resource, amount) for resource, amount in requests.items() if amount > 0]
    if not asked:
        raise ValueError("nothing is requested, so any number fits")
    return max(min(allocatable.get(resource, 0) // amount for resource, amount in asked), 0)

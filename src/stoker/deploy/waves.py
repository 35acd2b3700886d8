"""In which order objects are applied: waves, each waited for before the next, and kinds within a wave. `destroy` goes
through them backwards. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

Tree = dict[str, Any]
COMPONENT = "app.kubernetes.io/component"


class Wave(IntEnum):
    FOUNDATION = 1
    """Namespaces, definitions, classes and priorities: all else names them."""

    POLICIES = 2
    """Rights, network policies, secrets and nodes: what pods need before they start."""

    PLATFORM = 3
    """Redis, ledger, gateway, agents: what workers of models talk to."""

    WORKLOADS = 4
    """Models, workers, scalers, training, monitoring, the edge."""

    @property
    def title(self) -> str:
        return self.name.lower()


_FOUNDATION = ("CustomResourceDefinition", "Namespace", "PriorityClass", "StorageClass", "WorkloadPriorityClass")
_POLICIES = (
    *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "NetworkPolicy"),
    *("SecretStore", "ExternalSecret", "NodeClass", "EC2NodeClass", "NodePool", "TriggerAuthentication"),
    *("ResourceFlavor", "ClusterQueue", "LocalQueue", "TrainingRuntime", "ResourceGraphDefinition", "AppProject"),
)
_PLATFORM = ("redis", "ledger", "gateway", "agents")
_CONTENTS = ("ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim", "Service", "PodDisruptionBudget")
"""What pods and scalers refer to comes first within a wave."""
_LAST = ("HorizontalPodAutoscaler", "ScaledObject", "Ingress", "HTTPRoute", "Application")


@dataclass(frozen=True)
class Step:
    """The objects of one wave, in the order in which they are applied."""

    wave: Wave
    objects: tuple[Tree, ...]


def wave_of(obj: Mapping[str, Any]) -> Wave:
    kind = obj["kind"]
    if kind in _FOUNDATION:
        return Wave.FOUNDATION
    if kind in _POLICIES:
        return Wave.POLICIES
    component = obj["metadata"].get("labels", {}).get(COMPONENT)
    return Wave.PLATFORM if component in _PLATFORM else Wave.WORKLOADS


def steps(objects: Iterable[Mapping[str, Any]]) -> list[Step]:
    """All waves, also those without objects. The same objects in any order give the same steps."""
    found: dict[Wave, list[Tree]] = {wave: [] for wave in Wave}
    for obj in objects:
        found[wave_of(obj)].append(dict(obj))
    return [Step(wave, tuple(sorted(of_wave, key=_place))) for wave, of_wave in found.items()]


def backwards(objects: Iterable[Mapping[str, Any]]) -> list[Step]:
    """The order in which they are removed."""
    return [Step(step.wave, tuple(reversed(step.objects))) for step in reversed(steps(objects))]


def _place(obj: Mapping[str, Any]) -> tuple[int, int, str, str, str]:
    kind = obj["kind"]
    order: Sequence[str] = {Wave.FOUNDATION: _FOUNDATION, Wave.POLICIES: _POLICIES}.get(wave_of(obj), _CONTENTS)
    rank = 2 if kind in _LAST else 0 if kind in order else 1
    meta = obj["metadata"]
    return rank, order.index(kind) if kind in order else 0, kind, meta.get("namespace", ""), meta["name"]

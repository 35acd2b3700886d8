"""What the rules about autoscalers see alike: scalers, their triggers, their targets, the comments beside a value."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Document, Manifest, is_open, look, sections, whole
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

SCALED_OBJECT, SCALED_JOB, HPA = "ScaledObject", "ScaledJob", "HorizontalPodAutoscaler"
OF_PODS = ("cpu", "memory")
"""Triggers that the HPA reads from the pods themselves: KEDA has no part in them."""
STREAMS = ("redis-streams", "redis-cluster-streams", "redis-sentinel-streams")
MAX_REPLICAS = 100
"""What KEDA takes where `maxReplicaCount` is not written."""


@dataclass(frozen=True, eq=False)
class Trigger:
    """One trigger as it is written, and what KEDA knows of its type."""

    manifest: Manifest
    path: Path
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return text(self.data.get("type"))

    @property
    def name(self) -> str:
        return text(self.data.get("name"))

    @property
    def known(self) -> keda.Trigger | None:
        return keda.trigger(self.type)

    @property
    def metadata(self) -> dict[str, str]:
        """The parameters. The API server refuses what is not text; here it is judged as if it stood in quotes."""
        written = self.data.get("metadata")
        if not isinstance(written, dict):
            return {}
        return {key: _quoted(each) for key, each in written.items() if isinstance(key, str) and _is_scalar(each)}

    @property
    def metric_type(self) -> str:
        return text(self.data.get("metricType")) or ("" if self.type in OF_PODS else "AverageValue")

    @property
    def auth(self) -> tuple[str, str]:
        """Kind and name of what `authenticationRef` names; an empty name where there is none."""
        kind = look(self.data, "authenticationRef", "kind")
        return text(kind) or "TriggerAuthentication", text(look(self.data, "authenticationRef", "name"))

    def at(self, *path: str) -> Path:
        return (*self.path, *path)

    def gives(self, name: str) -> bool:
        """Whether the trigger itself says this parameter."""
        return name in self.metadata or f"{name}{keda.FROM_ENV}" in self.metadata

    def __str__(self) -> str:
        return f"{self.type} ({self.name})" if self.name else self.type


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _quoted(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # No parameter is a number of more digits, and Python refuses to write those of thousands.
    return value if isinstance(value, str) else str(value) if abs(value) < _LARGEST else "a very large number"


_LARGEST = 10**30


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: str) -> float | None:
    """Of a parameter; None for what is no plain number."""
    return (
        float(value) if re.fullmatch(r"\s*[+-]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})([eE][+-]?\d{1,2})?\s*", value) else None
    )


def scaled(cluster: Cluster, *kinds: str) -> Iterator[Manifest]:
    """ScaledObjects and ScaledJobs, or one of them."""
    yield from cluster.of(*(kinds or (SCALED_OBJECT, SCALED_JOB)), group="keda.sh")


def triggers_of(manifest: Manifest) -> list[Trigger]:
    return [Trigger(manifest, ("spec", "triggers", i), each) for i, each in sections(manifest.get("spec", "triggers"))]


def triggers(cluster: Cluster, *types: str) -> Iterator[Trigger]:
    for manifest in scaled(cluster):
        for trigger in triggers_of(manifest):
            if not types or trigger.type in types:
                yield trigger


def minimum(manifest: Manifest) -> int | None:
    """The fewest replicas that KEDA keeps; None where the number is not known."""
    return whole(manifest.get("spec", "minReplicaCount", default=0))


def maximum(manifest: Manifest) -> int | None:
    return whole(manifest.get("spec", "maxReplicaCount", default=MAX_REPLICAS))


def scales_to_zero(manifest: Manifest) -> bool:
    return minimum(manifest) == 0 or whole(manifest.get("spec", "idleReplicaCount")) == 0


def target_of(manifest: Manifest) -> tuple[str, str]:
    """Kind and name of what a ScaledObject or an HPA scales; an empty name where it says none."""
    ref = manifest.get("spec", "scaleTargetRef")
    kind = text(look(ref, "kind")) or ("Deployment" if manifest.kind == SCALED_OBJECT else "")
    return kind, text(look(ref, "name"))


class _Index:
    """Workloads and scalers by the name that leads to them, so that a thousand manifests are not compared in pairs."""

    def __init__(self, cluster: Cluster) -> None:
        self.workloads: dict[str, list[Workload]] = defaultdict(list)
        self.scalers: dict[str, list[Manifest]] = defaultdict(list)
        self.jobs: dict[Manifest, Workload] = {}
        for workload in cluster.workloads:
            self.workloads[workload.manifest.name].append(workload)
            if workload.kind == SCALED_JOB:
                self.jobs.setdefault(workload.manifest, workload)
            identity = _graph_id(workload.manifest)
            if identity:
                self.workloads[f"${{{identity}.metadata.name}}"].append(workload)
        for scaler in (
            *cluster.of(SCALED_OBJECT, group="keda.sh"),
            *cluster.of(HPA, group="autoscaling"),
            *cluster.of("HTTPScaledObject", group="http.keda.sh"),
        ):
            self.scalers[_without_spaces(target_of(scaler)[1])].append(scaler)


_INDEXES: WeakKeyDictionary[Cluster, _Index] = WeakKeyDictionary()


def _index(cluster: Cluster) -> _Index:
    if cluster not in _INDEXES:
        _INDEXES[cluster] = _Index(cluster)
    return _INDEXES[cluster]


def _without_spaces(name: str) -> str:
    return re.sub(r"\s+", "", name)


def _graph_id(manifest: Manifest) -> str:
    """What the other resources of a kro graph call this one."""
    if manifest.inside is None or manifest.root[-1:] != ("template",):
        return ""
    return text(look(manifest.document.data, *manifest.root[:-1], "id"))


def scaled_workload(cluster: Cluster, manifest: Manifest) -> Workload | None:
    """The pods that a scaler makes more or fewer of: those of its target, or its own jobs'."""
    if manifest.kind == SCALED_JOB:
        return _index(cluster).jobs.get(manifest)
    name = _without_spaces(target_of(manifest)[1])
    return next((each for each in _index(cluster).workloads.get(name, ()) if _names(manifest, each.manifest)), None)


def scalers_of(cluster: Cluster, workload: Workload) -> list[Manifest]:
    """The autoscalers that name this workload's object."""
    target = workload.manifest
    identity = _graph_id(target)
    named = list(_index(cluster).scalers.get(target.name, ())) if target.name else []
    if identity:
        named += _index(cluster).scalers.get(f"${{{identity}.metadata.name}}", ())
    return [each for each in named if _names(each, target)]


def _names(scaler: Manifest, target: Manifest) -> bool:
    """Of two that the name brings together: whether kind, namespace and graph agree, too."""
    kind, name = target_of(scaler)
    if not name or kind not in (target.kind, ""):
        return False
    if scaler.namespace and target.namespace and scaler.namespace != target.namespace:
        return False
    # In a template the same words mean the same name in the same graph alone.
    return target.inside is scaler.inside or not is_open(scaler, name)


def auth_of(cluster: Cluster, trigger: Trigger) -> Manifest | None:
    """The TriggerAuthentication that a trigger names, when it is in sight."""
    kind, name = trigger.auth
    if not name:
        return None
    namespace = None if kind == "ClusterTriggerAuthentication" else trigger.manifest.namespace or None
    return cluster.find(kind, name, namespace)


def has_gpu(workload: Workload) -> bool:
    for _, container in workload.containers():
        for part in ("limits", "requests"):
            amounts = look(container, "resources", part)
            if isinstance(amounts, dict) and any(isinstance(key, str) and _GPU.search(key) for key in amounts):
                return True
    return False


_GPU = re.compile(r"^(nvidia\.com/(gpu|mig-.*)|amd\.com/gpu|aws\.amazon\.com/neuron.*)$")


# -- comments --

_SILENCES = re.compile(r"stoker\s*[:-]|lint-?ignore|noqa", re.IGNORECASE)


def comment_at(manifest: Manifest, path: Path) -> str:
    """What is said of a value: the comment on its line, and those on the lines just above that hold nothing else."""
    if not manifest.document.comments:
        return ""
    lines = {manifest.where(path, key=True).line, manifest.where(path).line}
    return _beside(
        manifest.document, min(lines), max(lines) if isinstance(manifest.get(*path), str | int) else min(lines)
    )


def comment_above(manifest: Manifest, path: Path) -> str:
    """Only the lines above."""
    return _above(manifest.document, manifest.where(path, key=True).line) if manifest.document.comments else ""


def _beside(document: Document, first: int, last: int) -> str:
    here = [document.comments[line] for line in range(first, last + 1) if line in document.comments]
    return " ".join(each for each in (_above(document, first), *here) if each and not _SILENCES.search(each))


def _above(document: Document, line: int) -> str:
    filled = _filled_lines(document)
    found: list[str] = []
    line -= 1
    while line in document.comments and line not in filled and len(found) < _MOST_LINES:
        found.insert(0, document.comments[line])
        line -= 1
    return " ".join(each for each in found if not _SILENCES.search(each))


_MOST_LINES = 8


@lru_cache(maxsize=4)
def _filled_lines(document: Document) -> frozenset[int]:
    """The lines on which a key or a value begins: the comment there is about it, and not about what follows."""
    places = (*document.keys.values(), *document.values.values())
    return frozenset(place.line for place in places)

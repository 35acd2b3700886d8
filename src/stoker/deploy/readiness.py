"""Is an object of the cluster ready, and if not, why? By its status alone, as its controller wrote it. Pure.

Source: kubectl's `rollout status` (kubectl/pkg/polymorphichelpers/rollout_status.go) for workloads; the conditions of
custom kinds as their projects document them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Readiness:
    """`failed`: waiting longer changes nothing. `reason`: what is missing; empty when ready."""

    is_ready: bool
    reason: str = ""
    failed: bool = False


READY = Readiness(True)
_SAYS_READY = {
    "ExternalSecret": "Ready",
    "SecretStore": "Ready",
    "NodePool": "Ready",
    "EC2NodeClass": "Ready",
    "NodeClass": "Ready",
    "ScaledObject": "Ready",
    "ResourceGraphDefinition": "Ready",
    "ClusterQueue": "Active",
    "LocalQueue": "Active",
    "LeaderWorkerSet": "Available",
    "CustomResourceDefinition": "Established",
    "Gateway": "Programmed",
}
"""The condition that a kind's controller sets. Other kinds are ready by being there."""


def readiness(obj: Tree) -> Readiness:
    status = obj.get("status") or {}
    seen, generation = status.get("observedGeneration"), obj["metadata"].get("generation")
    if isinstance(seen, int) and isinstance(generation, int) and seen < generation:
        return _waiting("its controller has not seen the change yet")
    kind = obj["kind"]
    if kind in _WORKLOADS:
        return _WORKLOADS[kind](obj.get("spec") or {}, status)
    return _by_condition(kind, status) if kind in _SAYS_READY else READY


def condition(status: Tree, kind: str) -> Tree | None:
    return next((each for each in status.get("conditions") or [] if each.get("type") == kind), None)


def _waiting(reason: str) -> Readiness:
    return Readiness(False, reason)


def _by_condition(kind: str, status: Tree) -> Readiness:
    said = condition(status, _SAYS_READY[kind])
    if said is None:
        return _waiting("its controller has said nothing yet")
    return READY if said.get("status") == "True" else _waiting(told(said))


def told(said: Tree) -> str:
    """A condition in words: its reason and its message."""
    words = [str(said[key]) for key in ("reason", "message") if said.get(key)]
    return ": ".join(words) or f"{said.get('type')} is {said.get('status')}"


def _deployment(spec: Tree, status: Tree) -> Readiness:
    progress = condition(status, "Progressing")
    if progress is not None and progress.get("reason") == "ProgressDeadlineExceeded":
        return Readiness(False, told(progress), failed=True)
    wanted = _number(spec, "replicas", 1)
    updated, available = _number(status, "updatedReplicas"), _number(status, "availableReplicas")
    if updated < wanted:
        return _waiting(f"{updated} of {wanted} pods are of the new version")
    if (left := _number(status, "replicas") - updated) > 0:
        return _waiting(f"{left} pods of the old version are left")
    return READY if available >= wanted else _waiting(f"{available} of {wanted} pods are available")


def _stateful_set(spec: Tree, status: Tree) -> Readiness:
    wanted, ready = _number(spec, "replicas", 1), _number(status, "readyReplicas")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} pods are ready")
    current, update = status.get("currentRevision"), status.get("updateRevision")
    if update and current != update and _number(status, "updatedReplicas") < wanted:
        return _waiting(f"{_number(status, 'updatedReplicas')} of {wanted} pods are of the new version")
    return READY


def _daemon_set(_: Tree, status: Tree) -> Readiness:
    if "observedGeneration" not in status:
        return _waiting("its controller has said nothing yet")
    wanted = _number(status, "desiredNumberScheduled")
    ready = min(_number(status, "numberReady"), _number(status, "updatedNumberScheduled"))
    return READY if ready >= wanted else _waiting(f"{ready} of {wanted} pods are ready")


def _job(spec: Tree, status: Tree) -> Readiness:
    failed = condition(status, "Failed")
    if failed is not None and failed.get("status") == "True":
        return Readiness(False, told(failed), failed=True)
    complete = condition(status, "Complete")
    if spec.get("suspend") or (complete is not None and complete.get("status") == "True"):
        return READY
    return _waiting("it runs" if status.get("active") else "it has not started")


def _namespace(_: Tree, status: Tree) -> Readiness:
    phase = status.get("phase", "Active")
    return READY if phase == "Active" else _waiting(f"it is {phase}")


def _ingress(_: Tree, status: Tree) -> Readiness:
    has_address = bool((status.get("loadBalancer") or {}).get("ingress"))
    return READY if has_address else _waiting("its load balancer has no address yet")


def _service(spec: Tree, status: Tree) -> Readiness:
    return _ingress(spec, status) if spec.get("type") == "LoadBalancer" else READY


def _rollout(_: Tree, status: Tree) -> Readiness:
    phase = status.get("phase")
    if phase == "Degraded":
        return Readiness(False, str(status.get("message") or phase), failed=True)
    return READY if phase in ("Healthy", "Paused") else _waiting(str(status.get("message") or phase or "it begins"))


_WORKLOADS: Mapping[str, Callable[[Tree, Tree], Readiness]] = {
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
    "Ingress": _ingress,
    "Job": _job,
    "Namespace": _namespace,
    "Rollout": _rollout,
    "Service": _service,
    "StatefulSet": _stateful_set,
}


def _number(tree: Tree, key: str, default: int = 0) -> int:
    value = tree.get(key)
    return value if isinstance(value, int) else default

"""What the API server fills in: the schema's defaults of custom kinds, and of Kubernetes' own those that clients read
to judge a rollout, and some that a naive comparison would take for drift. Not all of Kubernetes' are here."""

import copy
from collections.abc import Callable
from typing import Any

from stoker.testing.kubernetes.resources import Resource

Tree = dict[str, Any]


def fill(obj: Tree, resource: Resource, version: str) -> Tree:
    """A copy with what was not written filled in."""
    if resource.core:
        found = copy.deepcopy(obj)
        fill_in = _CORE.get((resource.group, resource.kind))
        if fill_in is not None and isinstance(found.get("spec"), dict):
            fill_in(found["spec"])
        return found
    schema = resource.schema(version)
    if schema is None:
        return copy.deepcopy(obj)
    spec = (schema.tree.get("properties") or {}).get("spec")
    found = copy.deepcopy(obj)
    if isinstance(spec, dict) and isinstance(found.get("spec"), dict):
        found["spec"] = _completed(found["spec"], spec)
    return found


def _completed(value: Any, tree: Tree) -> Any:
    """Defaults stand in for what is not there, in maps that are there."""
    if isinstance(value, dict):
        properties = tree.get("properties") or {}
        more = tree.get("additionalProperties")
        found = {}
        for name, each in value.items():
            below = properties.get(name, more)
            found[name] = _completed(each, below) if isinstance(below, dict) else each
        for name, below in properties.items():
            if name not in found and "default" in below:
                found[name] = _completed(copy.deepcopy(below["default"]), below)
        return found
    if isinstance(value, list) and isinstance(tree.get("items"), dict):
        return [_completed(each, tree["items"]) for each in value]
    return value


def _set(tree: Tree, **values: Any) -> None:
    for key, value in values.items():
        tree.setdefault(key, value)


def _deployment(spec: Tree) -> None:
    rolling = {"maxSurge": "25%", "maxUnavailable": "25%"}
    strategy = spec.setdefault("strategy", {})
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), **rolling)
    _set(spec, replicas=1, progressDeadlineSeconds=600, revisionHistoryLimit=10)
    _pod(spec.get("template"))


def _stateful_set(spec: Tree) -> None:
    strategy = spec.setdefault("updateStrategy", {})
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), partition=0)
    _set(spec, replicas=1, podManagementPolicy="OrderedReady", revisionHistoryLimit=10)
    _pod(spec.get("template"))


def _daemon_set(spec: Tree) -> None:
    strategy = spec.setdefault("updateStrategy", {})
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)
    _set(spec, revisionHistoryLimit=10)
    _pod(spec.get("template"))


def _job(spec: Tree) -> None:
    _set(spec, backoffLimit=6, suspend=False, completionMode="NonIndexed", parallelism=1, completions=1)
    _pod(spec.get("template"))


def _service(spec: Tree) -> None:
    _set(spec, type="ClusterIP", sessionAffinity="None")
    for each in spec.get("ports") or []:
        _set(each, protocol="TCP")
        _set(each, targetPort=each.get("port"))


def _pod(template: Any) -> None:
    spec = template.get("spec") if isinstance(template, dict) else None
    if not isinstance(spec, dict):
        return
    _set(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler", securityContext={})
    _set(spec, terminationGracePeriodSeconds=30)
    for each in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        _container(each)


def _container(container: Any) -> None:
    if not isinstance(container, dict):
        return
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    _set(container, imagePullPolicy="Always" if latest else "IfNotPresent", resources={})
    _set(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for port in container.get("ports") or []:
        _set(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)


_CORE: dict[tuple[str, str], Callable[[Tree], None]] = {
    ("", "Service"): _service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "Job"): _job,
}

"""What controllers do once an object is written or gone, in small: statuses (`states`), and the objects they make.

They act at once, within the call that writes, after its answer is made; they own no fields. Not as in a cluster: a
workload has Pods only where one cannot run, to say why; a namespace begins empty; kro makes the new kind, and nothing
of what its instances stand for.
"""

import base64
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stoker.testing.kubernetes import states
from stoker.testing.kubernetes.resources import Registry, Resource, defined_by, plural
from stoker.testing.kubernetes.states import READY, STUCK
from stoker.testing.kubernetes.storage import Id, Storage

Tree = dict[str, Any]
Readiness = str | Mapping[tuple[str, str], str] | Callable[[str, str], str | None]

_WORKLOADS = {
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("argoproj.io", "Rollout"),
    ("batch", "Job"),
}
_LOOKED_AT_BY = {
    "EC2NodeClass": ("NodePool",),
    "NodeClass": ("NodePool",),
    "SecretStore": ("ExternalSecret",),
    "Deployment": ("ScaledObject",),
    "StatefulSet": ("ScaledObject",),
    "LeaderWorkerSet": ("ScaledObject",),
    "Rollout": ("ScaledObject",),
}
"""Kind -> the kinds whose readiness depends on its being there."""
_MESSAGES = {
    "CrashLoopBackOff": "back-off 5m0s restarting failed container={container}",
    "CreateContainerConfigError": 'secret "{workload}" not found',
    "ErrImagePull": 'failed to pull and unpack image "{image}": not found',
    "ImagePullBackOff": 'Back-off pulling image "{image}"',
}
_NO_NODE = ("Unschedulable", "FailedScheduling")


class Controllers:
    """`readiness` is the verdict on each object: READY, STUCK or a reason; by (kind, name), READY where nothing is
    said."""

    def __init__(self, registry: Registry, storage: Storage) -> None:
        self.readiness: Readiness = READY
        self._registry = registry
        self._storage = storage
        self._defined: dict[Id, Resource] = {}

    def after(self, id: Id) -> None:
        """An object was written or removed."""
        self._defines(id)
        obj = self._storage.get(id)
        if obj is not None and not obj["metadata"].get("deletionTimestamp"):
            self._act(id, obj)
        for kind in _LOOKED_AT_BY.get(id[1], ()):
            for other, dependent in list(self._storage.all()):
                if other[1] == kind and id[2] in ("", other[2]):
                    self._act(other, dependent)

    def settle(self) -> None:
        for id in self._storage.ids():
            self.after(id)

    def verdict(self, obj: Tree) -> str:
        kind, name = obj["kind"], obj["metadata"]["name"]
        if isinstance(self.readiness, str):
            said: str | None = self.readiness
        elif isinstance(self.readiness, Mapping):
            said = self.readiness.get((kind, name))
        else:
            said = self.readiness(kind, name)
        return self._lacks(obj) if said in (None, READY) else str(said)

    def _act(self, id: Id, obj: Tree) -> None:
        verdict = self.verdict(obj)
        status = states.status_of(obj, verdict)
        if status is None and id[0] in self._kro_groups():
            status = states.graph_instance(obj, verdict)
        if status is not None:
            self._say(id, obj, status)
        self._defines(id)
        if id[:2] in _WORKLOADS:
            self._pods(id, obj, verdict)
        elif id[1] == "ExternalSecret" and verdict == READY:
            self._make(id, _secret_of(obj))
        elif id[1] == "ScaledObject" and verdict == READY:
            self._make(id, _autoscaler_of(obj))

    def _lacks(self, obj: Tree) -> str:
        """READY, or what is not there that the object names."""
        spec = obj.get("spec") or {}
        namespace = obj["metadata"].get("namespace", "")
        if obj["kind"] == "ExternalSecret":
            store = spec.get("secretStoreRef") or {}
            if store.get("kind", "SecretStore") == "SecretStore":
                there = self._storage.get(("external-secrets.io", "SecretStore", namespace, store.get("name", "")))
                return READY if there is not None else "SecretSyncedError"
        if obj["kind"] == "NodePool":
            ref = ((spec.get("template") or {}).get("spec") or {}).get("nodeClassRef") or {}
            there = self._storage.get((ref.get("group", ""), ref.get("kind", ""), "", ref.get("name", "")))
            return READY if there is not None else "NodeClassNotFound"
        if obj["kind"] == "ScaledObject":
            ref = spec.get("scaleTargetRef") or {}
            group = str(ref.get("apiVersion") or "apps/v1").rpartition("/")[0]
            there = self._storage.get((group, ref.get("kind") or "Deployment", namespace, ref.get("name", "")))
            return READY if there is not None else "ScaledObjectCheckFailed"
        return READY

    # kinds

    def _defines(self, id: Id) -> None:
        """A kind is served as long as its definition is there and Established, and a graph's as long as it is Active;
        its definition gone, one that was served from the beginning is gone, too."""
        obj = self._storage.get(id)
        if id[1] == "CustomResourceDefinition":
            made = obj is not None and _is_true(obj, "Established")
            self._serve(id, defined_by(obj) if obj is not None and made else None)
        elif id[:2] == ("kro.run", "ResourceGraphDefinition"):
            made = obj is not None and (obj.get("status") or {}).get("state") == "Active"
            self._serve(id, _graphed(obj) if obj is not None and made else None)

    def _serve(self, id: Id, resource: Resource | None) -> None:
        before = self._defined.pop(id, None)
        if before is not None:
            self._registry.drop(before)
        if resource is not None:
            self._defined[id] = resource
            self._registry.add(resource)

    def _kro_groups(self) -> set[str]:
        return {each.group for id, each in self._defined.items() if id[0] == "kro.run"}

    # writing

    def _say(self, id: Id, obj: Tree, status: Tree) -> None:
        """Writes a status, if it says something new. A condition keeps its time as long as its status is the same."""
        before = obj.get("status") or {}
        times = {each.get("type"): each for each in before.get("conditions") or []}
        status = copy.deepcopy(status)
        fresh = []
        for each in status.get("conditions") or []:
            old = times.get(each["type"], {})
            each["lastTransitionTime"] = (
                old.get("lastTransitionTime", "") if old.get("status") == each["status"] else ""
            )
            fresh.append(each)
        for key in ("startTime", "completionTime", "refreshTime", "nextRenewal"):
            if key in before:
                status[key] = before[key]
        if status == before:
            return
        now = self._storage.now() if any(not each["lastTransitionTime"] for each in fresh) else ""
        for each in fresh:
            each["lastTransitionTime"] = each["lastTransitionTime"] or now
        if id[:2] == ("batch", "Job") and "startTime" not in status and not (obj.get("spec") or {}).get("suspend"):
            status["startTime"] = self._storage.now()
        if id[:2] == ("batch", "Job") and "succeeded" in status:
            status.setdefault("completionTime", self._storage.now())
        self._storage.replace(id, {**obj, "status": status})

    def _make(self, owner: Id, obj: Tree) -> None:
        """An object that goes with its owner, unless one of its name is there."""
        parent = self._storage.get(owner)
        assert parent is not None  # noqa: S101  # it was written just now
        meta = {**obj["metadata"], "ownerReferences": [_reference(parent)]}
        if owner[2]:
            meta["namespace"] = owner[2]
        group = obj["apiVersion"].rpartition("/")[0]
        id = (group, obj["kind"], owner[2], meta["name"])
        if self._storage.get(id) is None:
            self._storage.create(id, {**obj, "metadata": meta})

    # pods that cannot run

    def _pods(self, id: Id, obj: Tree, verdict: str) -> None:
        told = [other for other, pod in self._storage.all() if other[1] in ("Pod", "Event") and _owned_by(pod, obj)]
        for other in told:
            self._storage.remove(other)
        if verdict not in (READY, STUCK, *states.FAILURES):
            for each in _pods_of(obj, verdict):
                self._make(id, each)


def _owned_by(obj: Tree, owner: Tree) -> bool:
    return any(each.get("uid") == owner["metadata"]["uid"] for each in obj["metadata"].get("ownerReferences") or [])


def _pods_of(obj: Tree, reason: str) -> Iterator[Tree]:
    """One Pod that cannot run, and an Event that says so."""
    name = obj["metadata"]["name"]
    template = (obj.get("spec") or {}).get("template") or {}
    labels = dict((template.get("metadata") or {}).get("labels") or {})
    if obj["kind"] == "Job":
        labels |= {"batch.kubernetes.io/job-name": name, "job-name": name}
    spec = copy.deepcopy(template.get("spec") or {})
    status = _pod_status(name, spec, reason)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-stand-in", "labels": labels}}
    yield {**pod, "spec": spec, "status": status}
    waiting = ((status.get("containerStatuses") or [{}])[0].get("state") or {}).get("waiting")
    yield {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}-stand-in.1"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": f"{name}-stand-in",
            "namespace": obj["metadata"].get("namespace", ""),
        },
        "reason": "BackOff" if waiting else "FailedScheduling",
        "message": waiting["message"] if waiting else status["conditions"][0]["message"],
        "type": "Warning",
        "count": 1,
        "source": {"component": "stand-in"},
    }


def _pod_status(workload: str, spec: Tree, reason: str) -> Tree:
    if reason in _NO_NODE:
        message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        return {"phase": "Pending", "conditions": [said]}
    container = (spec.get("containers") or [{"name": "main", "image": "none"}])[0]
    words = {"container": container["name"], "image": container.get("image", ""), "workload": workload}
    message = _MESSAGES.get(reason, reason).format(**words)
    told = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    if reason == "CrashLoopBackOff":
        told["restartCount"] = 5
        told["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
    ready = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}
    placed = {"type": "PodScheduled", "status": "True"}
    return {"phase": "Pending", "conditions": [placed, ready], "containerStatuses": [told]}


# what controllers make


def _secret_of(obj: Tree) -> Tree:
    """With every key that the ExternalSecret names; what `dataFrom` would bring is not known here."""
    spec = obj.get("spec") or {}
    template = (spec.get("target") or {}).get("template") or {}
    keys = [*(each["secretKey"] for each in spec.get("data") or []), *(template.get("data") or {})]
    value = base64.b64encode(b"stand-in").decode()
    made: Tree = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": states.secret_name(obj)}}
    return {**made, "type": template.get("type", "Opaque"), "data": dict.fromkeys(keys, value)}


def _autoscaler_of(obj: Tree) -> Tree:
    spec = obj.get("spec") or {}
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", **(spec.get("scaleTargetRef") or {})}
    ref = {key: ref[key] for key in ("apiVersion", "kind", "name")}
    low, high = max(int(spec.get("minReplicaCount") or 0), 1), int(spec.get("maxReplicaCount") or 100)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{obj['metadata']['name']}"},
        "spec": {"scaleTargetRef": ref, "minReplicas": low, "maxReplicas": high, "metrics": []},
    }


def _graphed(obj: Tree) -> Resource:
    """The kind that a ResourceGraphDefinition makes; objects of it are stored without a schema."""
    schema = obj["spec"]["schema"]
    group = schema.get("group") or "kro.run"
    return Resource(group, schema["kind"], plural(schema["kind"]), True, (schema["apiVersion"],))


def _is_true(obj: Tree, kind: str) -> bool:
    said = (obj.get("status") or {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] == "True" for each in said)


def _reference(obj: Tree) -> Tree:
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }

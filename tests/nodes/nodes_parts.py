"""Objects as a cluster's API has them. Times are seconds after NOON."""

from datetime import UTC, datetime
from typing import Any

Tree = dict[str, Any]
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
ZONE = "us-west-2a"
GPU_TYPE = "g6.xlarge"


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOON + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(**since: float) -> list[Tree]:
    return [{"type": kind, "status": "True", "lastTransitionTime": at(when)} for kind, when in since.items()]


def labels(capacity: str = "on-demand", type_: str = GPU_TYPE) -> Tree:
    return {
        "karpenter.sh/nodepool": "gpu",
        "karpenter.sh/capacity-type": capacity,
        "node.kubernetes.io/instance-type": type_,
        "topology.kubernetes.io/zone": ZONE,
    }


def provider(instance: str) -> str:
    return f"aws:///{ZONE}/{instance}"


def claim(
    name: str, made: float, *, instance: str = "", node: str = "", capacity: str = "on-demand", **done: float
) -> Tree:
    status: Tree = {"conditions": conditions(**done)}
    if instance:
        status["providerID"] = provider(instance)
    if node:
        status["nodeName"] = node
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": name, "creationTimestamp": at(made), "labels": labels(capacity)},
        "spec": {
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"},
            "requirements": [],
        },
        "status": status,
    }


def node(name: str, made: float, instance: str, *, ready: float | None = None, capacity: str = "on-demand") -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "creationTimestamp": at(made), "labels": labels(capacity)},
        "spec": {"providerID": provider(instance)},
        "status": {
            "allocatable": {"cpu": "3920m", "memory": "14Gi", "nvidia.com/gpu": "1", "pods": "58"},
            "conditions": [] if ready is None else conditions(Ready=ready),
        },
    }


def pod(
    name: str,
    made: float,
    *,
    on: str | None = None,
    bound: float | None = None,
    started: float | None = None,
    ready: float | None = None,
    model: str = "general",
) -> Tree:
    since = {
        kind: when
        for kind, when in (("PodScheduled", bound), ("ContainersReady", ready), ("Ready", ready))
        if when is not None
    }
    status: Tree = {"phase": "Running", "conditions": conditions(**since)}
    if started is not None:
        status["containerStatuses"] = [
            {
                "name": "engine",
                "image": "x",
                "imageID": "x",
                "ready": ready is not None,
                "restartCount": 0,
                "state": {"running": {"startedAt": at(started)}},
            }
        ]
    spec: Tree = {
        "containers": [
            {
                "name": "engine",
                "image": "x",
                "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"nvidia.com/gpu": "1"}},
            }
        ]
    }
    if on is not None:
        spec["nodeName"] = on
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "stoker",
            "uid": f"uid-{name}",
            "creationTimestamp": at(made),
            "labels": {
                "app.kubernetes.io/name": f"model-{model}",
                "app.kubernetes.io/part-of": "stoker",
                **({"stoker.dev/model": model} if model else {}),
            },
        },
        "spec": spec,
        "status": status,
    }


def event(reason: str, of: str, when: float, message: str = "") -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{of}.{reason.lower()}", "namespace": "stoker"},
        "involvedObject": {"kind": "Pod", "name": of, "namespace": "stoker", "uid": f"uid-{of}"},
        "reason": reason,
        "message": message,
        "type": "Normal",
        "firstTimestamp": at(when),
        "lastTimestamp": at(when),
    }

"""Why a workload is not ready, as its pods say: images that cannot be pulled, nodes that are not there, crashes. Pure;
`explained` and `pods_of` alone ask the cluster.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from stoker.deploy.readiness import Readiness, condition, readiness
from stoker.kubernetes.cluster import Cluster

Tree = Mapping[str, Any]
_MOST = 3


def of_pods(pods: Iterable[Tree]) -> str:
    """In a line, each reason once with how many pods have it; empty where no pod says anything."""
    counts: dict[str, int] = {}
    for pod in pods:
        for reason in _of_pod(pod):
            counts[reason] = counts.get(reason, 0) + 1
    listed = [f"{reason} ({count} pods)" if count > 1 else reason for reason, count in counts.items()]
    more = f"; and {len(listed) - _MOST} more" if len(listed) > _MOST else ""
    return "; ".join(listed[:_MOST]) + more


def explained(cluster: Cluster, obj: Tree) -> Readiness:
    """Its readiness, with what its pods say where it is not ready."""
    state = readiness(obj)
    why = "" if state.is_ready else of_pods(pods_of(cluster, obj))
    return replace(state, reason=f"{state.reason}; {why}") if why else state


def pods_of(cluster: Cluster, workload: Tree) -> list[dict[str, Any]]:
    """Of a Deployment, StatefulSet, DaemonSet, Rollout or Job."""
    labels = ((workload.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    if workload["kind"] == "Job":
        labels = {"batch.kubernetes.io/job-name": workload["metadata"]["name"]}
    if not labels:
        return []
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return list(cluster.list("v1", "Pod", namespace=workload["metadata"].get("namespace", ""), labels=selector))


def _of_pod(pod: Tree) -> Iterator[str]:
    status = pod.get("status") or {}
    scheduled = condition(status, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        yield f"no node: {scheduled.get('message') or scheduled.get('reason')}"
        return
    said = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in said:
        state = container.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        last = (container.get("lastState") or {}).get("terminated") or {}
        if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            yield f"{container['name']}: {_words(waiting)}" + _after(last)
        elif ended and ended.get("exitCode"):
            yield f"{container['name']} ended with {ended['exitCode']}: {_words(ended)}"
    if not said and status.get("reason"):
        yield _words(status)


def _words(state: Tree) -> str:
    message = str(state.get("message") or "").strip().splitlines()
    reason = str(state.get("reason") or "no reason given")
    return f"{reason}: {message[0][:200]}" if message else reason


def _after(last: Tree) -> str:
    if not last:
        return ""
    return f", after exit code {last.get('exitCode')} ({last.get('reason', 'no reason given')})"

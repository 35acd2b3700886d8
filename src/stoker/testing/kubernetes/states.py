"""The status that a controller would write: ready, or not and why. Pure functions, one per kind, in one table.

Sources: Kubernetes' controllers (apps, batch, core), and the conditions that each project documents: External Secrets,
Karpenter, KEDA, Kueue, LeaderWorkerSet, Gateway API, Argo, kro, ACK. Not as there: what is ready is so at once, with
all replicas; a Job has succeeded; a queue, a route or a scaler does nothing but say that it is ready.
"""

from collections.abc import Callable
from typing import Any

Tree = dict[str, Any]

READY, STUCK = "ready", "stuck"
FAILURES = ("ProgressDeadlineExceeded", "BackoffLimitExceeded", "DeadlineExceeded")
"""Verdicts for workloads that their controllers have given up on."""

Make = Callable[[Tree, str], Tree]
"""Object and verdict (READY, STUCK or a reason) to status. Conditions are without their times."""


def status_of(obj: Tree, verdict: str) -> Tree | None:
    """None for a kind whose status nobody here writes."""
    group, kind = obj["apiVersion"].rpartition("/")[0], obj["kind"]
    if group.endswith(".services.k8s.aws") or group == "services.k8s.aws":
        return _of_ack(obj, verdict)
    make = _KINDS.get((group, kind))
    return None if make is None else make(obj, verdict)


def condition(kind: str, ok: bool, reason: str, message: str = "") -> Tree:
    return {"type": kind, "status": "True" if ok else "False", "reason": reason, "message": message}


# Kubernetes' own


def _deployment(obj: Tree, verdict: str) -> Tree:
    count, ok = replicas(obj), verdict == READY
    name = obj["metadata"]["name"]
    available = condition(
        "Available",
        ok,
        "MinimumReplicasAvailable" if ok else "MinimumReplicasUnavailable",
        f"Deployment {'has' if ok else 'does not have'} minimum availability.",
    )
    progress = condition("Progressing", True, "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    if ok:
        progress = condition(
            "Progressing", True, "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.'
        )
    elif verdict == "ProgressDeadlineExceeded":
        progress = condition("Progressing", False, verdict, f'ReplicaSet "{name}" has timed out progressing.')
    found = {**_seen(obj), "replicas": count, "updatedReplicas": count, "conditions": [available, progress]}
    if not ok:
        return {**found, "unavailableReplicas": count}
    return {**found, "readyReplicas": count, "availableReplicas": count}


def _stateful_set(obj: Tree, verdict: str) -> Tree:
    count = replicas(obj)
    ready = count if verdict == READY else 0
    made = count if verdict == READY else min(count, 1)  # the next pod is made when the one before it is ready
    revision = f"{obj['metadata']['name']}-{obj['metadata'].get('generation', 1)}"
    return {
        **_seen(obj),
        "replicas": made,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": made,
        "updatedReplicas": made,
        "currentRevision": revision,
        "updateRevision": revision,
        "collisionCount": 0,
    }


def _daemon_set(obj: Tree, verdict: str) -> Tree:
    """As on one node."""
    found = {
        **_seen(obj),
        "currentNumberScheduled": 1,
        "desiredNumberScheduled": 1,
        "updatedNumberScheduled": 1,
        "numberMisscheduled": 0,
    }
    if verdict != READY:
        return {**found, "numberReady": 0, "numberUnavailable": 1}
    return {**found, "numberReady": 1, "numberAvailable": 1}


def _replica_set(obj: Tree, verdict: str) -> Tree:
    count = replicas(obj)
    ready = count if verdict == READY else 0
    return {
        **_seen(obj),
        "replicas": count,
        "fullyLabeledReplicas": count,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }


def _job(obj: Tree, verdict: str) -> Tree:
    if _spec(obj).get("suspend"):
        return {"conditions": [condition("Suspended", True, "JobSuspended", "Job suspended")]}
    if verdict in FAILURES:
        said = "Job has reached the specified backoff limit" if verdict.startswith("Backoff") else "Job is out of time"
        return {"failed": 1, "conditions": [condition("Failed", True, verdict, said)]}
    if verdict != READY:
        return {"active": 1, "ready": 0}
    count = int(_spec(obj).get("completions") or 1)
    done = condition("Complete", True, "CompletionsReached", "Reached expected number of succeeded pods")
    met = {**done, "type": "SuccessCriteriaMet"}
    return {"succeeded": count, "ready": 0, "conditions": [met, done]}


def _pod(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    return {
        "phase": "Running" if ok else "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if ok else "False"},
        ],
    }


def _namespace(obj: Tree, verdict: str) -> Tree:
    return {"phase": "Active"}


def _claim(obj: Tree, verdict: str) -> Tree:
    if verdict != READY:
        return {"phase": "Pending"}
    asked = (_spec(obj).get("resources") or {}).get("requests") or {}
    return {"phase": "Bound", "accessModes": _spec(obj).get("accessModes", []), "capacity": dict(asked)}


def _volume(obj: Tree, verdict: str) -> Tree:
    return {"phase": "Available"}


def _service(obj: Tree, verdict: str) -> Tree:
    return _balanced(obj, verdict) if _spec(obj).get("type") == "LoadBalancer" else {"loadBalancer": {}}


def _balanced(obj: Tree, verdict: str) -> Tree:
    return {"loadBalancer": {"ingress": [{"hostname": hostname(obj)}]} if verdict == READY else {}}


def _autoscaler(obj: Tree, verdict: str) -> Tree:
    count = int(_spec(obj).get("minReplicas") or 1)
    able = condition("AbleToScale", True, "ReadyForNewScale", "recommended size matches current size")
    active = condition("ScalingActive", verdict == READY, "ValidMetricFound" if verdict == READY else _why(verdict))
    return {"currentReplicas": count, "desiredReplicas": count, "conditions": [able, active]}


def _disruption_budget(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    said = condition("DisruptionAllowed", ok, "SufficientPods" if ok else "InsufficientPods")
    numbers = {"currentHealthy": int(ok), "desiredHealthy": 0, "disruptionsAllowed": int(ok), "expectedPods": 1}
    return {**_seen(obj), **numbers, "conditions": [{**said, **_seen(obj)}]}


def _definition(obj: Tree, verdict: str) -> Tree:
    spec, ok = _spec(obj), verdict == READY
    accepted = condition("NamesAccepted", True, "NoConflicts", "no conflicts found")
    made = condition("Established", ok, "InitialNamesAccepted" if ok else "Installing", "the names are accepted" * ok)
    stored = [each["name"] for each in spec.get("versions", []) if each.get("storage")]
    names = spec.get("names", {})
    return {"conditions": [accepted, made], "acceptedNames": names, "storedVersions": stored}


# of others


def _by_conditions(kinds: tuple[str, ...], reason: str, message: str = "", **more: Any) -> Make:
    """Every condition as the verdict is; the last one sums them up, and alone says why not."""

    def make(obj: Tree, verdict: str) -> Tree:
        ok = verdict == READY
        found = [condition(kind, ok, reason if ok else _why(verdict), message if ok else "") for kind in kinds]
        return {"conditions": [{**each, **_seen(obj)} for each in found], **(more if ok else {})}

    return make


def _karpenter(*kinds: str) -> Make:
    def make(obj: Tree, verdict: str) -> Tree:
        ok = verdict == READY
        found = [condition(kind, ok, kind if ok else _why(verdict)) for kind in (*kinds, "Ready")]
        return {"conditions": [{**each, **_seen(obj)} for each in found]}

    return make


def _external_secret(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    said = condition(
        "Ready",
        ok,
        "SecretSynced" if ok else ("SecretSyncedError" if verdict == STUCK else verdict),
        "secret synced" if ok else "could not get secret data from provider",
    )
    return {"conditions": [said], **({"binding": {"name": secret_name(obj)}} if ok else {})}


def _scaled_object(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    said = "ScaledObject is defined correctly and is ready for scaling"
    failed = "ScaledObject doesn't have correct scaleTargetRef specification"
    return {
        "conditions": [
            condition(
                "Ready",
                ok,
                "ScaledObjectReady" if ok else _why(verdict, "ScaledObjectCheckFailed"),
                said if ok else failed,
            ),
            condition("Active", False, "ScalerNotActive", "Scaling is not performed because triggers are not active"),
            condition("Fallback", False, "NoFallbackFound", "No fallbacks are active on this scaled object"),
            {"type": "Paused", "status": "Unknown"},
        ],
        **({"hpaName": f"keda-hpa-{obj['metadata']['name']}"} if ok else {}),
    }


def _leader_worker_set(obj: Tree, verdict: str) -> Tree:
    count, ok = replicas(obj), verdict == READY
    kind, reason = ("Available", "AllGroupsReady") if ok else ("Progressing", "GroupsProgressing")
    said = [condition(kind, True, reason, "All replicas are ready" if ok else "Replicas are progressing")]
    return {"replicas": count, "updatedReplicas": count, "readyReplicas": count if ok else 0, "conditions": said}


def _rollout(obj: Tree, verdict: str) -> Tree:
    count, ok = replicas(obj), verdict == READY
    ready = count if ok else 0
    phase = "Healthy" if ok else ("Degraded" if verdict in FAILURES else "Progressing")
    return {
        "observedGeneration": str(obj["metadata"].get("generation", 1)),
        "phase": phase,
        **({} if ok else {"message": _why(verdict, "updated replicas are still becoming available")}),
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }


def _gateway(obj: Tree, verdict: str) -> Tree:
    found = _by_conditions(("Accepted", "Programmed"), "Programmed")(obj, verdict)
    if verdict == READY:
        found["conditions"][0]["reason"] = "Accepted"
        found["addresses"] = [{"type": "Hostname", "value": hostname(obj)}]
    return found


def _route(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    said = [
        condition("Accepted", ok, "Accepted" if ok else _why(verdict)),
        condition("ResolvedRefs", ok, "ResolvedRefs"),
    ]
    parents = _spec(obj).get("parentRefs") or []
    return {
        "parents": [{"parentRef": each, "controllerName": "stand-in/gateway", "conditions": said} for each in parents]
    }


def _application(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    return {
        "sync": {"status": "Synced" if ok else "OutOfSync"},
        "health": {"status": "Healthy" if ok else "Progressing"},
    }


def _graph(obj: Tree, verdict: str) -> Tree:
    kinds = ("ResourceGraphAccepted", "KindReady", "ControllerReady", "Ready")
    found = _by_conditions(kinds, "Ready")(obj, verdict)
    return {"state": "Active" if verdict == READY else "Inactive", **found}


def graph_instance(obj: Tree, verdict: str) -> Tree:
    """Of an object whose kind a ResourceGraphDefinition made."""
    kinds = ("InstanceManaged", "GraphResolved", "ResourcesReady", "Ready")
    found = _by_conditions(kinds, "Ready")(obj, verdict)
    return {"state": "ACTIVE" if verdict == READY else "IN_PROGRESS", **found}


def _workflow(obj: Tree, verdict: str) -> Tree:
    return {"phase": "Succeeded" if verdict == READY else "Failed" if verdict in FAILURES else "Running"}


def _cluster_policy(obj: Tree, verdict: str) -> Tree:
    return {"state": "ready" if verdict == READY else "notReady", "namespace": "gpu-operator"}


def _of_ack(obj: Tree, verdict: str) -> Tree:
    ok = verdict == READY
    kind, name = obj["kind"].lower(), obj["metadata"]["name"]
    service = obj["apiVersion"].partition(".")[0]
    arn = f"arn:aws:{service}:us-west-2:123456789012:{kind}/{name}"
    where = {"ownerAccountID": "123456789012", "region": "us-west-2", **({"arn": arn} if ok else {})}
    said = [condition("ACK.ResourceSynced", ok, "", "Resource synced successfully" if ok else _why(verdict))]
    return {"ackResourceMetadata": where, "conditions": said}


_KINDS: dict[tuple[str, str], Make] = {
    ("", "Namespace"): _namespace,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _by_conditions(("Available",), "Passed", "all checks passed"),
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("argoproj.io", "Application"): _application,
    ("argoproj.io", "Rollout"): _rollout,
    ("argoproj.io", "Workflow"): _workflow,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("batch", "Job"): _job,
    ("eks.amazonaws.com", "NodeClass"): _karpenter("SubnetsReady", "SecurityGroupsReady", "InstanceProfileReady"),
    ("external-secrets.io", "ExternalSecret"): _external_secret,
    ("external-secrets.io", "SecretStore"): _by_conditions(
        ("Ready",), "Valid", "store validated", capabilities="ReadWrite"
    ),
    ("gateway.networking.k8s.io", "Gateway"): _gateway,
    ("gateway.networking.k8s.io", "GatewayClass"): _by_conditions(("Accepted",), "Accepted"),
    ("gateway.networking.k8s.io", "HTTPRoute"): _route,
    ("karpenter.k8s.aws", "EC2NodeClass"): _karpenter(
        "SubnetsReady", "SecurityGroupsReady", "AMIsReady", "InstanceProfileReady", "ValidationSucceeded"
    ),
    ("karpenter.sh", "NodePool"): _karpenter("ValidationSucceeded", "NodeClassReady"),
    ("keda.sh", "ScaledJob"): _by_conditions(("Ready",), "ScaledJobReady"),
    ("keda.sh", "ScaledObject"): _scaled_object,
    ("kro.run", "ResourceGraphDefinition"): _graph,
    ("kueue.x-k8s.io", "ClusterQueue"): _by_conditions(("Active",), "Ready", "Can admit new workloads"),
    ("kueue.x-k8s.io", "LocalQueue"): _by_conditions(("Active",), "Ready", "Can submit new workloads to localQueue"),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): _leader_worker_set,
    ("networking.k8s.io", "Ingress"): _balanced,
    ("nvidia.com", "ClusterPolicy"): _cluster_policy,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("serving.kserve.io", "InferenceService"): _by_conditions(("PredictorReady", "Ready"), "Ready"),
    ("serving.kserve.io", "LLMInferenceService"): _by_conditions(("WorkloadsReady", "Ready"), "Ready"),
    ("trainer.kubeflow.org", "TrainJob"): _by_conditions(("Complete",), "JobsCompleted"),
    ("jobset.x-k8s.io", "JobSet"): _by_conditions(("Completed",), "AllJobsCompleted"),
}


# what more than one reads


def replicas(obj: Tree) -> int:
    count = _spec(obj).get("replicas")
    return 1 if count is None else int(count)


def hostname(obj: Tree) -> str:
    meta = obj["metadata"]
    return f"{meta['name']}-{meta.get('namespace', 'cluster')}.elb.stand-in.invalid"


def secret_name(obj: Tree) -> str:
    """Of the Secret that an ExternalSecret makes."""
    return str((_spec(obj).get("target") or {}).get("name") or obj["metadata"]["name"])


def _why(verdict: str, stuck: str = "NotReady") -> str:
    return stuck if verdict == STUCK else verdict


def _seen(obj: Tree) -> Tree:
    return {"observedGeneration": obj["metadata"].get("generation", 1)}


def _spec(obj: Tree) -> Tree:
    found = obj.get("spec")
    return found if isinstance(found, dict) else {}

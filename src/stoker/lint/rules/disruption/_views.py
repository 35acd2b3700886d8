"""What scales, serves and protects a workload: the objects around it."""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.selectors import selects
from stoker.manifests.objects import Manifest, look, sections, texts, whole
from stoker.manifests.workloads import Workload

TRAINING_KINDS = (
    *("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob"),
    *("JobSet", "TrainingRuntime", "ClusterTrainingRuntime"),
)
"""Kinds whose pods lose their work when one of them is evicted."""
ONE_SHOT_KINDS = (*TRAINING_KINDS, "Job", "CronJob", "ScaledJob", "Workflow", "WorkflowTemplate", "CronWorkflow")
DEFAULT_GRACE_S = 30
SPOT_NOTICE_S = 120
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"


def share_namespace(a: Manifest, b: Manifest) -> bool:
    """Whether they can meet; an object that names no namespace goes along with either."""
    return not a.namespace or not b.namespace or a.namespace == b.namespace


def budgets(cluster: Cluster) -> Iterator[Manifest]:
    """The PodDisruptionBudgets whose selector can be read."""
    for budget in cluster.of("PodDisruptionBudget", group="policy"):
        if not budget.templated:
            yield budget


def guarded(cluster: Cluster, budget: Manifest) -> list[Workload]:
    """The workloads whose pods a budget counts."""
    selector = budget.get("spec", "selector")
    return [
        each
        for each in cluster.workloads
        if share_namespace(each.manifest, budget) and each.labels and selects(selector, each.labels)
    ]


def is_served(cluster: Cluster, workload: Workload) -> bool:
    """Whether a Service sends requests to its pods."""
    for service in cluster.of("Service", group=""):
        selector = texts(service.get("spec", "selector"))
        same = share_namespace(service, workload.manifest)
        if selector and same and all(workload.labels.get(key) == value for key, value in selector.items()):
            return True
    return False


def least_replicas(cluster: Cluster, workload: Workload) -> int | None:
    """The fewest pods there are while there are any: by the autoscaler that has it, or as written."""
    manifest = workload.manifest
    for scaler in cluster.of("ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler.get("spec", "scaleTargetRef")
        named = look(target, "name") == manifest.name and look(target, "kind", default="Deployment") == manifest.kind
        if named and share_namespace(scaler, manifest):
            key = "minReplicas" if scaler.kind == "HorizontalPodAutoscaler" else "minReplicaCount"
            least = scaler.get("spec", key, default=1)
            return max(1, least) if whole(least) is not None else None
    return workload.replicas


def grace_s(workload: Workload) -> int:
    """How long its pods may take to end."""
    found = workload.spec.get("terminationGracePeriodSeconds")
    return found if isinstance(found, int) and not isinstance(found, bool) else DEFAULT_GRACE_S


def scaled_share(value: Any, total: int, *, up: bool) -> int | None:
    """A number or a percentage of a total, rounded as Kubernetes does; None for what is neither."""
    if whole(value) is not None:
        return int(value)
    if not isinstance(value, str) or not value.endswith("%") or not value[:-1].isdecimal() or len(value) > 6:
        return None
    share = int(value[:-1]) * total
    return -(-share // 100) if up else share // 100


def allows_no_drift(pool: Manifest) -> bool:
    """Whether a budget that always holds keeps Karpenter from replacing nodes of the pool for drift."""
    for _, budget in sections(pool.get("spec", "disruption", "budgets")):
        reasons = budget.get("reasons")
        covers = not isinstance(reasons, list) or not reasons or "Drifted" in reasons
        if budget.get("nodes") in ("0", "0%") and covers and budget.get("schedule") is None:
            return True
    return False

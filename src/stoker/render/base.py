"""What everything else stands on: namespaces, priorities, the class of volumes, and the way secrets come in.

ServiceAccounts belong to the components whose pods use them. There is no ResourceQuota and no LimitRange: the limits of
the NodePools bound what the cluster can grow to, and each container that is rendered has its own requests.
"""

from collections.abc import Iterator

from stoker.catalog.labels import AUTO_MODE
from stoker.render import secrets
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata, selector
from stoker.render.plan import Plan

STORAGE_CLASS = "stoker-gp3"
PLATFORM_PRIORITY, SERVING_PRIORITY, TRAINING_PRIORITY = "stoker-platform", "stoker-serving", "stoker-training"
# Far below system-cluster-critical (2e9); steps between them, for classes of your own.
_PRIORITIES = {
    PLATFORM_PRIORITY: (1_000_000, "Gateway, Redis and ledger: without them no model can be asked."),
    SERVING_PRIORITY: (500_000, "Models and their workers: before training."),
    TRAINING_PRIORITY: (100_000, "Training: goes on from its checkpoint when a model needs the node."),
}

_WHY_RETAIN = (
    "Retain: deleting a claim by mistake does not delete tasks and usage. WaitForFirstConsumer: the volume is made in "
    "the zone where the pod runs."
)


def render(plan: Plan) -> Iterator[Item]:
    yield from _namespaces(plan)
    for name, (value, why) in _PRIORITIES.items():
        if name != TRAINING_PRIORITY or plan.spec.training.enabled:
            yield Resource("base/priorities.yaml", _priority(plan, name, value, why))
    if plan.redis == "cluster" or plan.ledger == "cluster":
        yield Resource("base/storage-class.yaml", _storage_class(plan), _WHY_RETAIN)
    yield from secrets.render(plan)


def _namespaces(plan: Plan) -> Iterator[Item]:
    yield Resource("base/namespaces.yaml", _namespace(plan, plan.namespace, "restricted"))
    if plan.spec.training.enabled:
        why = "pods of the pipeline and of other people's runtimes may run as root; what is rendered here does not"
        yield Resource("base/namespaces.yaml", _namespace(plan, plan.training_namespace, "baseline"), why)
    if plan.spec.global_.observability.enabled:
        why = "privileged, because what measures GPUs and hands them out needs paths and devices of its node"
        yield Resource("base/namespaces.yaml", _namespace(plan, plan.monitoring_namespace, "privileged"), why)


def _namespace(plan: Plan, name: str, level: str) -> Object:
    """Pod Security by labels. `warn` and `audit` are always the strictest, so that one sees what a laxer `enforce` lets
    through (Kubernetes documentation, Pod Security Admission)."""
    labels = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("audit", "warn")}
    labels["pod-security.kubernetes.io/enforce"] = level
    if level == "privileged":
        labels = {"pod-security.kubernetes.io/enforce": level}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(plan, name, "base", labels=labels)}


def _priority(plan: Plan, name: str, value: int, why: str) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": metadata(plan, name, "base"),
        "value": value,
        "globalDefault": False,
        "description": why,
    }


def _storage_class(plan: Plan) -> Object:
    """Auto Mode brings a CSI driver of its own (EKS user guide, "Create a storage class" of Auto Mode)."""
    provisioner = "ebs.csi.eks.amazonaws.com" if plan.domain("general") == AUTO_MODE else "ebs.csi.aws.com"
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata(plan, STORAGE_CLASS, "base"),
        "provisioner": provisioner,
        "parameters": {"type": "gp3", "encrypted": "true"},
        "reclaimPolicy": "Retain",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def claim(name: str, size: str) -> Object:
    """A volume of a StatefulSet."""
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "resources": {"requests": {"storage": size}},
        },
    }


def disruption_budget(plan: Plan, name: str, component: str) -> Object:
    """One pod of a workload at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(plan, name, component, namespace=plan.namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(name)}},
    }

"""Kueue: all pods of a job are admitted together or none, and no more than the training pool can hold."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from stoker.manifests.quantities import bytes_of, cpu_milli
from stoker.render import types
from stoker.render.facts import GPU, GPU_TOLERATION, SERVES, TRAINING, TRAINING_TOLERATION
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata
from stoker.render.plan import Plan
from stoker.render.training_pods import EFA

QUEUE, HELD = "training", "held"
"""LocalQueues: of jobs that are to run, and of those that wait for a person."""
PRIORITY, URGENT = "training", "training-urgent"
_API = "kueue.x-k8s.io/v1beta2"
_FILE = "training/queues.yaml"
_MIB = 1024**2


def labels(queue: str) -> dict[str, str]:
    return {"kueue.x-k8s.io/queue-name": queue, "kueue.x-k8s.io/priority-class": PRIORITY}


def render(plan: Plan) -> Iterator[Item]:
    yield Resource(_FILE, flavor(plan))
    yield Resource(_FILE, cluster_queue(plan), "Quotas: what the nodes of the training pool hold at most.")
    yield Resource(_FILE, local_queue(plan, QUEUE, held=False))
    yield Resource(_FILE, local_queue(plan, HELD, held=True), "Admits nothing: for jobs that a person starts.")
    yield Resource(_FILE, priority(plan, PRIORITY, 0))
    yield Resource(_FILE, priority(plan, URGENT, 1000), "Suspends a job of less priority where the quota is used up.")


def flavor(plan: Plan) -> Object:
    selected = {"nodeLabels": {SERVES: TRAINING}} if plan.spec.karpenter.enabled else {}
    return {
        "apiVersion": _API,
        "kind": "ResourceFlavor",
        "metadata": metadata(plan, _name(plan), "training"),
        "spec": {**selected, "tolerations": [GPU_TOLERATION, TRAINING_TOLERATION]},
    }


def _name(plan: Plan) -> str:
    """Of what is in no namespace, so that two platforms can share a cluster."""
    return plan.training_namespace


def cluster_queue(plan: Plan) -> Object:
    """Every resource that a pod requests has to be covered: a workload with one that is not is never admitted.

    Source: kubernetes-sigs/kueue site/content/en/docs/concepts/cluster_queue.md.
    """
    found = quotas(plan)
    return {
        "apiVersion": _API,
        "kind": "ClusterQueue",
        "metadata": metadata(plan, _name(plan), "training"),
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": plan.training_namespace}},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [
                {
                    "coveredResources": list(found),
                    "flavors": [
                        {
                            "name": _name(plan),
                            "resources": [{"name": key, "nominalQuota": value} for key, value in found.items()],
                        }
                    ],
                }
            ],
        },
    }


def quotas(plan: Plan) -> Mapping[str, str]:
    """GPUs: the limit of the pool. The others: as much as the pods request that these nodes hold."""
    pods = plan.training_pods
    places, gpus = _places(plan)
    found = {
        "cpu": _cores(cpu_milli(pods.cpu) * places),
        "memory": f"{bytes_of(pods.memory) * places // _MIB}Mi",
        GPU: str(gpus),
    }
    if pods.efa:
        found[EFA] = str(pods.efa * places)
    return found


def _cores(milli: int) -> str:
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def _places(plan: Plan) -> tuple[int, int]:
    """Pods that the pool holds at most, and GPUs that it has. A pod with EFA has its node alone."""
    pool = types.training_pool(plan)
    gpus = int(Decimal(pool.limits[GPU]))
    each = pool.types[0].gpu_count if plan.training_pods.efa else plan.training_pods.gpus
    return gpus // each, gpus


def local_queue(plan: Plan, name: str, *, held: bool) -> Object:
    return {
        "apiVersion": _API,
        "kind": "LocalQueue",
        "metadata": metadata(plan, name, "training", namespace=plan.training_namespace),
        "spec": {"clusterQueue": _name(plan), **({"stopPolicy": "Hold"} if held else {})},
    }


def priority(plan: Plan, name: str, value: int) -> Object:
    return {
        "apiVersion": _API,
        "kind": "WorkloadPriorityClass",
        "metadata": metadata(plan, name, "training"),
        "value": value,
        "description": "Training jobs. It orders the queue, and says nothing to the scheduler.",
    }

"""Pods by their labels, as Services, monitors and policies look for them."""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rules.match._references import meets
from stoker.manifests.workloads import Workload

_BY_CONTROLLERS = (
    "statefulset.kubernetes.io/",
    "apps.kubernetes.io/",
    "batch.kubernetes.io/",
    "jobset.sigs.k8s.io/",
    "leaderworkerset.sigs.k8s.io/",
    "training.kubeflow.org/",
    "trainer.kubeflow.org/",
    "workflows.argoproj.io/",
)
_EXACT = (
    *("pod-template-hash", "rollouts-pod-template-hash", "controller-revision-hash"),
    *("job-name", "controller-uid", "pod-template-generation"),
)


def is_by_controller(key: str) -> bool:
    """Whether a controller sets this label on its pods, beyond what their template says."""
    return key in _EXACT or key.startswith(_BY_CONTROLLERS)


def pods_in(cluster: Cluster, namespace: str) -> Iterator[Workload]:
    """The workloads whose pods can be in a namespace; one that is not written may be any."""
    return (each for each in cluster.workloads if meets(each.manifest.namespace, namespace))


def labelled(workload: Workload, selector: dict[str, str]) -> bool:
    """Whether its pods have these labels; those that a controller sets are taken to be there."""
    labels = workload.labels
    return all(labels.get(key) == value for key, value in selector.items() if not is_by_controller(key))

"""Huge pages are asked for in a way that is refused.

Huge pages are set aside for a container as a whole: the request is the limit. They also need a request of CPU or
memory beside them, or the pod is refused.

Symptom: "HugePages require cpu or memory"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {hugepages-2Mi: 5120Mi}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {hugepages-2Mi: 5120Mi, memory: 64Gi}}

Source: Kubernetes documentation, tasks/manage-hugepages/scheduling-hugepages
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import container_requests
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            asked = container_requests(container)
            limits = look(container, "resources", "limits", default={})
            for name in asked:
                if not name.startswith("hugepages-"):
                    continue
                if not isinstance(limits, dict) or name not in limits:
                    message = f"{name} is requested without a limit, which the API server refuses"
                    yield Problem(workload.manifest, (*path, "resources", "requests", name), message)
                elif not asked.get("cpu") and not asked.get("memory"):
                    message = f"{name} without a request of cpu or memory, which the API server refuses"
                    hint = "memory in limits as well"
                    yield Problem(workload.manifest, (*path, "resources", "limits", name), message, hint=hint)


RULE = Rule("STK-GPU-019", Severity.ERROR, "Huge pages are asked for in a way that is refused", check, __name__)

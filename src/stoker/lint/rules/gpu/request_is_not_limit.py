"""The request of GPUs is not their limit.

A device is had or not had: what is requested is what may be used. The two numbers must be the same, or the API server
refuses the pod. The same holds for huge pages.

Symptom: "must be equal to nvidia.com/gpu limit"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {requests: {nvidia.com/gpu: 2}, limits: {nvidia.com/gpu: 2}}

Source: Kubernetes documentation, concepts/configuration/manage-resources-containers (extended resources)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu.request_without_limit import DEVICES
from stoker.manifests.node_pools import amounts
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            requests = amounts(look(container, "resources", "requests"))
            limits = amounts(look(container, "resources", "limits"))
            for name, amount in requests.items():
                if name.startswith((*DEVICES, "hugepages-")) and limits.get(name, amount) != amount:
                    written = [look(container, "resources", part, name) for part in ("requests", "limits")]
                    yield Problem(
                        workload.manifest,
                        (*path, "resources", "requests", name),
                        f"{written[0]} of {name} requested, {written[1]} as limit: the API server wants them equal",
                        hint=f"the same number in both, or {name} in limits only",
                    )


RULE = Rule("STK-GPU-006", Severity.ERROR, "The request of GPUs is not their limit", check, __name__)

"""A container without requests of cpu or memory.

The scheduler then counts it as nothing: it is put where no room is, starves beside others, and is the first to be
evicted. Karpenter sizes nodes by requests, an HPA on cpu has nothing to divide by, and quotas refuse it.

Symptom: evicted: The node was low on resource: memory; FailedGetResourceMetric: missing request for cpu

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: registry.example.com/server:1.0
        resources:
          limits: {memory: 24Gi}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: registry.example.com/server:1.0
        resources:
          requests: {cpu: 4, memory: 24Gi}
          limits: {memory: 24Gi}

Source: Kubernetes documentation, Resource Management for Pods and Containers
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers, named, wants_gpu
from stoker.manifests.objects import filled_in_later, look, sections
from stoker.manifests.workloads import Workload

_GIVEN_ELSEWHERE = ("TrainingRuntime", "ClusterTrainingRuntime")
"""Each TrainJob says what its nodes have (resourcesPerNode)."""


def check(cluster: Cluster) -> Iterator[Problem]:
    defaulted = {each.namespace for each in cluster.of("LimitRange") if _has_defaults(each.get("spec", "limits"))}
    for workload, path, container in containers(cluster, init=False):
        if workload.namespace in defaulted or "" in defaulted or _counted_per_pod(workload):
            continue
        if wants_gpu(container):
            continue  # STK-GPU-016 says it, and what it does to the choice of the node
        resources = container.get("resources")
        if filled_in_later(resources) or filled_in_later(look(resources, "requests")):
            continue
        missing = [
            name
            for name in ("cpu", "memory")
            if look(resources, "requests", name) is None and look(resources, "limits", name) is None
        ]
        if missing:
            yield Problem(
                workload.manifest,
                (*path, "resources", "requests"),
                f"{named(container)} requests no {' and no '.join(missing)}: its node is chosen as if it needed none",
                hint="requests of what it uses when it is busy",
                severity=Severity.INFO if workload.kind in _GIVEN_ELSEWHERE else None,
            )


def _counted_per_pod(workload: Workload) -> bool:
    """Since 1.34 a pod can have resources as a whole."""
    return isinstance(look(workload.spec, "resources", "requests"), dict)


def _has_defaults(limits: object) -> bool:
    return any(each.get("defaultRequest") or each.get("default") for _i, each in sections(limits))


RULE = Rule("STK-SECURITY-021", Severity.WARNING, "A container without requests of cpu or memory", check, __name__)

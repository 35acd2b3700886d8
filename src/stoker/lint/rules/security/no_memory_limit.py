"""A container without a limit of memory.

It can take all memory of its node before anything stops it, and then the kernel chooses whom to kill: not always the
one that took it. (A limit of cpu is another matter: it slows down, and is best left out.)

Symptom: OOMKilled, of a pod that used less than it requested

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: registry.example.com/server:1.0
        resources:
          requests: {cpu: 1, memory: 2Gi}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: registry.example.com/server:1.0
        resources:
          requests: {cpu: 1, memory: 2Gi}
          limits: {memory: 2Gi}

Source: Kubernetes documentation, Resource Management for Pods and Containers; Node-pressure Eviction
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers, named
from stoker.manifests.objects import filled_in_later, look, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    defaulted = {
        limits.namespace
        for limits in cluster.of("LimitRange")
        if any(look(each, "default", "memory") is not None for _i, each in sections(limits.get("spec", "limits")))
    }
    for workload, path, container in containers(cluster, init=False):
        if workload.namespace in defaulted or "" in defaulted:
            continue
        resources = container.get("resources")
        whole_pod = look(workload.spec, "resources", "limits", "memory")
        if filled_in_later(resources) or filled_in_later(look(resources, "limits")) or whole_pod is not None:
            continue
        if look(resources, "limits", "memory") is None:
            yield Problem(
                workload.manifest,
                (*path, "resources", "limits", "memory"),
                f"{named(container)} has no limit of memory: it can take what its neighbours use",
                hint="limits: {memory: ...}, the same as its request",
            )


RULE = Rule("STK-SECURITY-022", Severity.INFO, "A container without a limit of memory", check, __name__)

"""A model server behind a Service gets SIGTERM while requests still come.

When a pod is to end, its address is taken out of the Service at the same time as SIGTERM is sent, and proxies and
load balancers learn of it some seconds later. A server that stops at once refuses what still arrives. A `preStop`
hook that only waits keeps it open for that time.

Symptom: a few 502 at every rollout, scale-down and spot interruption

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          terminationGracePeriodSeconds: 110
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}
            lifecycle: {preStop: {sleep: {seconds: 15}}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80}]

Source: Kubernetes documentation, concepts/workloads/pods/pod-lifecycle (termination of pods)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import gpus
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import is_served
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("Deployment", "StatefulSet", "Rollout", "LeaderWorkerSet")):
        containers = list(workload.containers())
        if any(look(each, "lifecycle", "preStop") for _, each in containers):
            continue
        server = next(((path, each) for path, each in containers if gpus(each)), None)
        if server is not None and is_served(cluster, workload):
            path, container = server
            yield Problem(
                workload.manifest,
                (*path, "lifecycle", "preStop"),
                f"container {container.get('name', '')} gets SIGTERM while the Service still sends it requests",
                hint="lifecycle.preStop.sleep.seconds: 15, within terminationGracePeriodSeconds",
            )


RULE = Rule("STK-DISRUPTION-019", Severity.INFO, "A model server has no time to be left alone", check, __name__)

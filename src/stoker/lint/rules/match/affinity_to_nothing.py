"""A pod must be near pods that nothing in sight makes.

A required affinity to pods that are not there keeps the pod from being scheduled. (A pod that matches itself is let in
as the first.)

Symptom: Pending with "didn't match pod affinity rules"

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          affinity:
            podAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
              - {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: cache}}}
          containers:
          - name: server
            image: chat:v1

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          affinity:
            podAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
              - {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: chat}}}
          containers:
          - name: server
            image: chat:v1

Source: Kubernetes documentation, Assigning Pods to Nodes (inter-pod affinity and anti-affinity)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import REQUIRED, holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._pods import pods_in
from stoker.lint.selectors import selects
from stoker.manifests.objects import look, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    path = ("affinity", "podAffinity", REQUIRED)
    for workload in cluster.workloads:
        for i, term in sections(look(workload.spec, *path)):
            selector = term.get("labelSelector")
            if holds_open(workload.manifest, selector) or term.get("namespaces") or "namespaceSelector" in term:
                continue
            pods = (*pods_in(cluster, workload.manifest.namespace), workload)
            if not any(holds_open(each.manifest, each.labels) or selects(selector, each.labels) for each in pods):
                yield Problem(
                    workload.manifest,
                    (*workload.path, *path, i, "labelSelector"),
                    f"{workload}: must be near pods that no workload in sight makes; without them it is not scheduled",
                    hint="labels of a pod template, or preferredDuringSchedulingIgnoredDuringExecution",
                )


RULE = Rule("STK-MATCH-033", Severity.INFO, "A pod must be near pods that nothing in sight makes", check, __name__)

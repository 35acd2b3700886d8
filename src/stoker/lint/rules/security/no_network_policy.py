"""Pods that are reached from outside, in a namespace without a NetworkPolicy.

Without one every pod of the cluster reaches every other, and the world: from a server that was broken into one comes
to Redis, to the metadata of the node, and out.

Symptom: none, until something scans the cluster from within

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: api, namespace: ai}
    spec:
      selector: {matchLabels: {app: api}}
      template:
        metadata: {labels: {app: api}}
        spec:
          automountServiceAccountToken: false
          containers:
          - {name: api, image: "registry.example.com/api:1.0"}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: api, namespace: ai}
    spec:
      type: LoadBalancer
      selector: {app: api}
      ports: [{port: 80}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: api, namespace: ai}
    spec:
      selector: {matchLabels: {app: api}}
      template:
        metadata: {labels: {app: api}}
        spec:
          automountServiceAccountToken: false
          containers:
          - {name: api, image: "registry.example.com/api:1.0"}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: api, namespace: ai}
    spec:
      type: LoadBalancer
      selector: {app: api}
      ports: [{port: 80}]
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: api, namespace: ai}
    spec:
      podSelector: {}
      policyTypes: [Ingress, Egress]
      ingress: [{ports: [{port: 80}]}]
      egress: [{to: [{podSelector: {}}]}]

Source: Kubernetes documentation, Network Policies: default policies
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import reached_from_outside

_KINDS = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "AdminNetworkPolicy")


def check(cluster: Cluster) -> Iterator[Problem]:
    guarded = {each.namespace or "default" for each in cluster.of(*_KINDS)}
    clusterwide = next(cluster.of("CiliumClusterwideNetworkPolicy", "AdminNetworkPolicy"), None) is not None
    for workload in cluster.workloads:
        if clusterwide or workload.namespace in guarded:
            continue
        by = reached_from_outside(cluster, workload)
        if by is not None:
            guarded.add(workload.namespace)  # once for each namespace
            yield Problem(
                workload.manifest,
                ("metadata", "namespace"),
                f"{by} leads to it from outside, and no NetworkPolicy of namespace {workload.namespace} says"
                " what may be reached from there",
                hint="a NetworkPolicy that allows what is needed, and no more",
            )


RULE = Rule(
    "STK-SECURITY-025",
    Severity.INFO,
    "Pods that are reached from outside, in a namespace without a NetworkPolicy",
    check,
    __name__,
)

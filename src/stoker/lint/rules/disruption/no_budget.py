"""Replicas behind a Service have no PodDisruptionBudget, and Karpenter moves pods.

Consolidation and drift drain nodes whenever it is cheaper. Without a budget several replicas can be evicted within a
minute, though each needs minutes to load again. Budgets of the NodePool count nodes, not replicas.

Symptom: most replicas restart at once although nobody deployed anything

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
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g6]}]

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
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}
    ---
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: chat}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80}]
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g6]}]

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/disruption.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import is_served, share_namespace
from stoker.lint.selectors import selects


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    for workload in cluster.workloads_like(("Deployment", "StatefulSet", "Rollout")):
        if workload.replicas in (0, 1) or not nodes.gpus(workload) or not nodes.of(workload):
            continue
        if not is_served(cluster, workload):
            continue
        has_one = any(
            share_namespace(budget, workload.manifest) and selects(budget.get("spec", "selector"), workload.labels)
            for budget in cluster.of("PodDisruptionBudget")
        )
        if not has_one:
            yield Problem(
                workload.manifest,
                ("spec",),
                "no PodDisruptionBudget in sight: consolidation and drift may evict several replicas at once",
                hint="a PodDisruptionBudget with maxUnavailable: 1",
            )


RULE = Rule("STK-DISRUPTION-021", Severity.INFO, "Replicas behind a Service have no budget", check, __name__)

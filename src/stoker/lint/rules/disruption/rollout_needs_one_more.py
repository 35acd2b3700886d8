"""A rollout needs one more GPU than the pools may have.

With `maxUnavailable` at 0 (the default of 25% is 0 below four replicas) a new pod has to be ready before an old one
ends. Where the limits of the pools are used up by the replicas there is no node for it, and the rollout stands still.

Symptom: the new pod is Pending with "all available instance types exceed limits for nodepool"
Symptom: Deployment exceeded its progress deadline

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      limits: {nvidia.com/gpu: 2}
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [g6.2xlarge]}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: example.com/chat:v1
            resources: {limits: {nvidia.com/gpu: 1}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      limits: {nvidia.com/gpu: 2}
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [g6.2xlarge]}]

Source: Kubernetes documentation, concepts/workloads/controllers/deployment (max unavailable, max surge)
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/nodepools.md (limits)
"""

from collections.abc import Iterator

from stoker.catalog.ec2 import instance_types
from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import scaled_share
from stoker.manifests.node_pools import pod_view
from stoker.policy.placement import most_pods


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    for workload in cluster.workloads_like(("Deployment",)):
        strategy = workload.manifest.get("spec", "strategy", "type", default="RollingUpdate")
        replicas = workload.replicas
        if not replicas or strategy != "RollingUpdate" or not nodes.gpus(workload) or not nodes.of(workload):
            continue
        path = ("spec", "strategy", "rollingUpdate", "maxUnavailable")
        unavailable = scaled_share(workload.manifest.get(*path, default="25%"), replicas, up=False)
        if unavailable != 0:
            continue
        views = [pool.view for pool in nodes.of(workload)]
        most = most_pods(pod_view(workload), views, tuple(instance_types().values()))
        if most == replicas:
            names = ", ".join(view.name for view in views)
            yield Problem(
                workload.manifest,
                path,
                f"a rollout needs a pod more than {replicas}, and the limits of {names} allow {most}: it stands still",
                hint="rollingUpdate: {maxUnavailable: 1, maxSurge: 0}, or a higher limit",
            )


RULE = Rule(
    "STK-DISRUPTION-018", Severity.WARNING, "A rollout needs one more GPU than the pools may have", check, __name__
)

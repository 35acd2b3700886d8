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

from stoker.lint.cluster import Cluster
from stoker.lint.pools import GPU, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import scaled_share


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    for workload in cluster.workloads_like(("Deployment",)):
        strategy = workload.manifest.get("spec", "strategy", "type", default="RollingUpdate")
        replicas, held = workload.replicas, nodes.gpus(workload)
        if not replicas or not held or strategy != "RollingUpdate" or not nodes.of(workload):
            continue
        path = ("spec", "strategy", "rollingUpdate", "maxUnavailable")
        unavailable = scaled_share(workload.manifest.get(*path, default="25%"), replicas, up=False)
        surge = scaled_share(workload.manifest.get(*path[:-1], "maxSurge", default="25%"), replicas, up=True)
        if surge == 0:  # where both come to 0, Kubernetes lets one pod go
            continue
        views = [pool.view for pool in nodes.of(workload)]
        if unavailable != 0 or any(GPU not in view.limits for view in views):
            continue
        most = sum(view.limits[GPU] // held for view in views)
        if most == replicas:
            names = ", ".join(view.name for view in views)
            yield Problem(
                workload.manifest,
                path,
                f"a rollout needs one pod more than {replicas}, and the GPU limits of {names} allow {most}: "
                "it stands still",
                hint="rollingUpdate: {maxUnavailable: 1, maxSurge: 0}, or a higher limit",
            )


RULE = Rule(
    "STK-DISRUPTION-018", Severity.WARNING, "A rollout needs one more GPU than the pools may have", check, __name__
)

"""A pod would fit its node but for the DaemonSets that run there.

Every DaemonSet whose tolerations and selectors allow it runs on each node and takes its part. Karpenter counts that
before it chooses a type: a pod that fits the empty machine and not what is left of it is never scheduled.

Symptom: Pending with "no instance type satisfied resources" after an agent was installed or its requests were raised

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 7, memory: 26Gi, nvidia.com/gpu: 1}
          limits: {nvidia.com/gpu: 1}
    ---
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: agent, namespace: watch}
    spec:
      selector: {matchLabels: {app: agent}}
      template:
        metadata: {labels: {app: agent}}
        spec:
          containers:
          - name: agent
            image: agent:v1
            resources: {requests: {cpu: "1", memory: 1Gi}}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 6, memory: 26Gi, nvidia.com/gpu: 1}
          limits: {nvidia.com/gpu: 1}
    ---
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: agent, namespace: watch}
    spec:
      selector: {matchLabels: {app: agent}}
      template:
        metadata: {labels: {app: agent}}
        spec:
          containers:
          - name: agent
            image: agent:v1
            resources: {requests: {cpu: "1", memory: 1Gi}}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/controllers/provisioning/scheduling/scheduler.go (daemon overhead)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet, what_blocks
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.placements import nearest_text
from stoker.manifests.quantities import format_amount


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if known.fits(pod):
            continue
        for pool, placement in known.placements(pod):
            alone = known.placement(pod, pool, daemons=False)
            if not alone.is_possible:
                continue
            keys = [each.key for each in placement.closest[1]] if placement.closest else []
            taken = ", ".join(f"{format_amount(key, n)} of {key}" for key, n in pool.daemons.items() if key in keys)
            yield Problem(
                pod.workload.manifest,
                pod.path_of_request(*keys, "cpu", "memory"),
                f"{pod.workload}: fits {alone.types[0]} of {pool} only without the DaemonSets, which take {taken} of "
                f"each node, so it is never scheduled: {what_blocks(placement)}",
                hint=f"request that much less; or {nearest_text(placement)}",
            )
            break


RULE = Rule("STK-FIT-004", Severity.ERROR, "A pod would fit but for the DaemonSets", check, __name__)

"""One node for the pod is more than the pool's limits allow.

Karpenter counts the whole machine against spec.limits before it launches it. A limit below one machine of the smallest
type that fits is a limit of nothing.

Symptom: Pending; "all available instance types exceed limits for nodepool"

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      limits: {cpu: "4"}
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

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      limits: {cpu: "64"}
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

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/nodepools.md (spec.limits)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import LIMITS, fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.placements import blocker_text


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    said = set()
    for pod in known.pods:
        if known.fits(pod):
            continue
        for pool, placement in known.placements(pod):
            only = {
                name: blockers
                for name, blockers in placement.against_type.items()
                if not placement.against_pool and blockers and all(each.kind == "limit" for each in blockers)
            }
            if not only:
                continue
            name, blockers = min(only.items(), key=lambda each: len(each[1]))
            if (pool.view.name, blockers[0].key) in said:
                continue
            said.add((pool.view.name, blockers[0].key))
            yield Problem(
                pool.manifest,
                (*LIMITS, blockers[0].key),
                f"{pod.workload} needs a {name}, which is over the {blocker_text(blockers[0])}, so no node is ever "
                "launched for it",
                hint="a limit of as many machines as there should be at most",
            )


RULE = Rule("STK-FIT-005", Severity.ERROR, "One node is more than the pool's limits allow", check, __name__)

"""A GPU pool without a taint.

Nothing keeps other pods off its nodes. Karpenter itself buys GPUs only for who asks, but once such a node runs, any
pod with room on it may be placed there, keeps it from being removed, and stands where a GPU pod would have fit.

Symptom: GPU nodes stay because of a log shipper or a web server

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          taints: [{key: nvidia.com/gpu, value: "true", effect: NoSchedule}]

Source: Karpenter documentation, scheduling: accelerators, taints and tolerations
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import NODE, is_gpu_pool, pools, view_of
from stoker.policy.taints import BLOCKING


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        if is_gpu_pool(pool) and not any(each.effect in BLOCKING for each in view_of(pool).taints):
            yield Problem(
                pool,
                (*NODE, "taints"),
                "GPU nodes without a taint: pods that need no GPU are placed on them, and keep them",
                hint='taints: [{key: nvidia.com/gpu, value: "true", effect: NoSchedule}]',
            )


RULE = Rule("STK-KARPENTER-036", Severity.WARNING, "GPU nodes without a taint", check, __name__)

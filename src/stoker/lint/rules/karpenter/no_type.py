"""The requirements leave no instance type.

Each line is met by some type, and all together by none: such a pool is accepted, is ready, and never launches a node.

Symptom: pods stay Pending; NodePool requirements filtered out all available instance types

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}
          - {key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["2"]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}
          - {key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["4"]}

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/reference/instance-types.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import REQUIREMENTS, is_known, pools, types_of, view_of


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        if is_known(pool) and not view_of(pool).contradictions and not types_of(pool):
            yield Problem(
                pool,
                REQUIREMENTS,
                "no instance type meets all of these requirements: the pool never launches a node",
                hint="drop the requirement that the wanted type does not meet",
            )


RULE = Rule("STK-KARPENTER-021", Severity.ERROR, "No instance type is left", check, __name__)

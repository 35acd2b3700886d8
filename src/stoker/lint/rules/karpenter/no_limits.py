"""A NodePool without any limit.

A pool without limits grows as long as pods wait and the account allows: one wrong number of replicas buys as many
nodes as it takes.

Symptom: the bill of a runaway deployment

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
      limits: {nvidia.com/gpu: "16"}

Source: Karpenter documentation, NodePools: spec.limits; EKS best practices, Karpenter
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import is_gpu_pool, limit_of, pools, section


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        spec = section(pool, "spec")
        if "template" not in spec or spec.get("limits") or "replicas" in spec:
            continue
        gpus = is_gpu_pool(pool)
        yield Problem(
            pool,
            ("spec", "limits"),
            f"no limits: the pool grows{', in nodes with accelerators,' if gpus else ''} as long as pods wait",
            hint=f'limits: {{{limit_of(pool)}: "<number>"}}' if gpus else 'limits: {cpu: "<number>"}',
            severity=None if gpus else Severity.INFO,
        )


RULE = Rule("STK-KARPENTER-034", Severity.WARNING, "A pool without limits", check, __name__)

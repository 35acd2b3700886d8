"""A GPU pool without a limit of GPUs.

GPUs are what costs. Limits of cpu and memory cap them only by way of the largest machines that fit, which is another
number for each type; a limit of `nvidia.com/gpu` says what is meant.

Symptom: a scaler that runs away costs more than anyone meant to allow

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
      limits: {cpu: "2000"}

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
      limits: {cpu: "2000", nvidia.com/gpu: "32"}

Source: Karpenter documentation, NodePools: spec.limits
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import GPU_LIMITS, is_gpu_pool, limit_of, pools, section, types_of, view_of
from stoker.policy.placement import NODES, reachable


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        limits = section(pool, "spec", "limits")
        if not limits or "replicas" in section(pool, "spec") or NODES in limits or not is_gpu_pool(pool):
            continue
        key = limit_of(pool)
        if any(each in limits for each in GPU_LIMITS):
            continue
        most = max((each.gpus or 0 for each in reachable(view_of(pool), types_of(pool))), default=0)
        yield Problem(
            pool,
            ("spec", "limits", key),
            f"no limit of {key}: by {' and '.join(map(str, limits))} alone the pool grows to {most} of them",
            hint=f'{key}: "<number>"',
        )


RULE = Rule("STK-KARPENTER-033", Severity.INFO, "No limit of GPUs", check, __name__, guide=("W13",))

"""The limit of one pool, and another pool that takes the same pods without one.

Limits count the nodes of their own pool. Where a second pool has the same labels and no further taints, and is tried
first or as well, its nodes are not in the sum: the limit does not cap what these pods can cost.

Symptom: more GPUs run than the limit of the pool says

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      limits: {nvidia.com/gpu: "32"}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving-spot}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      limits: {cpu: "2000"}
      weight: 100

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      limits: {nvidia.com/gpu: "12"}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving-spot}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      limits: {nvidia.com/gpu: "20"}
      weight: 100

Source: Karpenter documentation, NodePools: spec.limits, spec.weight
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import GPU_LIMITS, LABELS, is_gpu_pool, own_labels, pools, view_of
from stoker.manifests.objects import Manifest
from stoker.policy.placement import NODES
from stoker.policy.taints import BLOCKING


def check(cluster: Cluster) -> Iterator[Problem]:
    every = [each for each in pools(cluster) if not each.templated]
    by_label: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
    for pool in every:
        for item in own_labels(pool).items():
            by_label[item].append(pool)
    for pool in every:
        capped = [key for key in GPU_LIMITS if key in view_of(pool).limits]
        if not capped:
            continue
        for other in by_label.get(next(iter(own_labels(pool).items()), ("", "")), ()):
            if (
                other.name != pool.name
                and _takes_the_same(pool, other)
                and not view_of(other).limits.keys() & {capped[0], NODES}
            ):
                turn = "first" if view_of(other).weight > view_of(pool).weight else "as well"
                limit = pool.get("spec", "limits", capped[0])
                yield Problem(
                    pool,
                    (*LABELS, next(iter(own_labels(pool)))),
                    f"{other.name} has this label, too, takes these pods {turn}, and has no limit of {capped[0]}: "
                    f"the {limit} here do not cap them",
                    hint=f"limits of {capped[0]} in both, whose sum is what is meant",
                )


def _takes_the_same(pool: Manifest, other: Manifest) -> bool:
    """Whether what runs on the one by its labels and taints runs on the other. Pools without labels of their own say
    too little of their pods."""
    labels = own_labels(pool)
    taints = [{(t.key, t.value, t.effect) for t in view_of(p).taints if t.effect in BLOCKING} for p in (pool, other)]
    return (
        bool(labels)
        and all(own_labels(other).get(key) == value for key, value in labels.items())
        and taints[1] <= taints[0]
        and is_gpu_pool(other)
    )


RULE = Rule(
    "STK-KARPENTER-032",
    Severity.WARNING,
    "Another pool takes the pods, uncapped",
    check,
    __name__,
    guide=("S24",),
)

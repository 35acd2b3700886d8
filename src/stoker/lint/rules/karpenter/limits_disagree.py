"""The limit of GPUs is out of reach of the other limits.

Whichever limit is reached first ends the pool's growth, and each type reaches another one first. 128 GPUs are 16 nodes
of eight; with 2 TiB each, a limit of 16000Gi of memory ends at seven of them.

Symptom: the pool stops growing long before its limit of GPUs
Symptom: all available instance types exceed limits for nodepool

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: node.kubernetes.io/instance-type, operator: In, values: [p5.48xlarge]}
      limits: {memory: 16000Gi, nvidia.com/gpu: "128"}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: node.kubernetes.io/instance-type, operator: In, values: [p5.48xlarge]}
      limits: {memory: 34000Gi, nvidia.com/gpu: "128"}

Source: Karpenter documentation, NodePools: spec.limits
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/reference/instance-types.md
"""

import re
from collections.abc import Iterator

from stoker.catalog import ec2
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import GPU_LIMITS, is_known, listed, pools, remarks, types_of, view_of
from stoker.manifests.objects import Manifest
from stoker.policy.placement import Reach, reachable


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        limits = view_of(pool).limits
        key = next((each for each in GPU_LIMITS if each in limits), None)
        if key is None or not is_known(pool):
            continue
        every = [each for each in reachable(view_of(pool), types_of(pool)) if key in each.by_limit]
        largest = [each for each in every if _gpus(each) == max(map(_gpus, every))]
        # Within a tenth is as meant: limits are round numbers, and nodes are not.
        short = [each for each in largest if (each.nodes or 0) < 0.9 * each.by_limit[key]]
        promised = _promised(pool, key, limits[key])
        # In a pool of several types some are always too large; that is meant, unless a comment says otherwise.
        if not short or (len(short) < len(largest) and not promised):
            continue
        sure = len(short) == len(every) or promised
        said = [f"{each.type} {each.gpus} (by {each.limit})" for each in short]
        yield Problem(
            pool,
            ("spec", "limits", key),
            f"{limits[key]} GPUs are not reached, as another limit comes first: {listed(said, 3)}",
            hint=f"{listed(sorted({str(each.limit) for each in short}))} for {limits[key]} GPUs",
            severity=None if sure else Severity.INFO,
        )


def _gpus(reach: Reach) -> int:
    found = ec2.find(reach.type)
    return 0 if found is None else found.gpu_count or found.accelerator_count


def _promised(pool: Manifest, key: str, limit: int) -> bool:
    """Whether a comment promises the number."""
    return any(
        remark.is_about("spec", "limits", key) and re.search(rf"\b{limit}\b", remark.text) for remark in remarks(pool)
    )


RULE = Rule("STK-KARPENTER-035", Severity.WARNING, "Limits that disagree", check, __name__, guide=("S18",))

"""An API version that Karpenter no longer serves.

Karpenter 1.1 dropped v1beta1, and what came before it is gone since 0.33. The API server knows no such version, so
nothing of the file is applied. Between the versions fields moved and were renamed: the other rules of this area name
each.

Symptom: no matches for kind "NodePool" in version "karpenter.sh/v1beta1"
Symptom: resource mapping not found; ensure CRDs are installed first

Wrong:

    apiVersion: karpenter.sh/v1beta1
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

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds
Source: Karpenter documentation, v1 migration
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter import (
    expire_after_moved,
    hop_limit,
    no_ami,
    no_wait,
    node_class_ref,
    policy_renamed,
    schedule_alone,
    unknown_reason,
)
from stoker.lint.rules.karpenter._moving import OLD, Find, to_v1
from stoker.lint.rules.karpenter._views import AWS, CORE

_KINDS = {CORE: ("NodePool", "NodeClaim"), AWS: ("EC2NodeClass",)}
_BESIDE: tuple[Find, ...] = (
    policy_renamed.problems,
    expire_after_moved.problems,
    node_class_ref.problems,
    no_wait.problems,
    no_ami.problems,
    hop_limit.problems,
    unknown_reason.problems,
    schedule_alone.problems,
)
"""What else changes with the version."""


def check(cluster: Cluster) -> Iterator[Problem]:
    old = [
        manifest
        for group, kinds in _KINDS.items()
        for manifest in cluster.of(*kinds, group=group)
        if manifest.version in OLD
    ]
    beside: dict[int, list[Problem]] = defaultdict(list)
    for find in _BESIDE if old else ():
        for problem in find(cluster):
            beside[id(problem.manifest)].append(problem)
    for manifest in old:
        edits = to_v1(cluster, manifest, beside[id(manifest)])
        by_hand = "" if edits else "; --fix moves an object as a whole or not at all, and not all here has one answer"
        yield Problem(
            manifest,
            ("apiVersion",),
            f"{manifest.api_version} is served by no Karpenter since 1.1: the object is refused",
            hint=f"apiVersion: {manifest.group}/v1{by_hand}",
            edits=edits,
        )


RULE = Rule("STK-KARPENTER-001", Severity.ERROR, "An API version that is gone", check, __name__, guide=("E01",))

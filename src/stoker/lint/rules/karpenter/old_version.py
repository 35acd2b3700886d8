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

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import AWS, CORE
from stoker.manifests.edits import Replace

_KINDS = {CORE: ("NodePool", "NodeClaim"), AWS: ("EC2NodeClass",)}
_OLD = ("v1alpha1", "v1alpha5", "v1beta1")


def check(cluster: Cluster) -> Iterator[Problem]:
    for group, kinds in _KINDS.items():
        for manifest in cluster.of(*kinds, group=group):
            if manifest.version in _OLD:
                yield Problem(
                    manifest,
                    ("apiVersion",),
                    f"{manifest.api_version} is served by no Karpenter since 1.1: the object is refused",
                    hint=f"apiVersion: {group}/v1",
                    edits=(Replace(("apiVersion",), f"{group}/v1"),),
                )


RULE = Rule("STK-KARPENTER-001", Severity.ERROR, "An API version that is gone", check, __name__, guide=("E01",))

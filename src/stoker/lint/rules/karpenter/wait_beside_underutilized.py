"""v1beta1 refuses consolidateAfter beside WhenUnderutilized.

In v1beta1 only WhenEmpty could wait: with WhenUnderutilized, `consolidateAfter` had to be `Never` or left out. v1
allows it for every policy, so such a pool was never valid before and is after the move to v1.

Symptom: consolidateAfter cannot be combined with consolidationPolicy=WhenUnderutilized

Wrong:

    apiVersion: karpenter.sh/v1beta1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      disruption:
        consolidationPolicy: WhenUnderutilized
        consolidateAfter: 30s

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
      disruption:
        consolidationPolicy: WhenEmptyOrUnderutilized
        consolidateAfter: 30s

Source: aws/karpenter-provider-aws@v0.37.8 pkg/apis/crds/karpenter.sh_nodepools.yaml, spec.disruption
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import DISRUPTION, pools
from stoker.manifests.objects import is_open

_PATH = (*DISRUPTION, "consolidateAfter")


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        policy = pool.get(*DISRUPTION, "consolidationPolicy", default="WhenUnderutilized")
        after = pool.get(*_PATH)
        if pool.version != "v1beta1" or policy != "WhenUnderutilized" or is_open(pool, after):
            continue
        if isinstance(after, str) and after != "Never":
            yield Problem(
                pool,
                _PATH,
                f"v1beta1 refuses consolidateAfter ({after}) beside WhenUnderutilized: valid in no version",
                hint=f"in v1: consolidationPolicy: WhenEmptyOrUnderutilized, consolidateAfter: {after}",
                instead_of=DISRUPTION,
            )


RULE = Rule(
    "STK-KARPENTER-004",
    Severity.ERROR,
    "consolidateAfter beside WhenUnderutilized in v1beta1",
    check,
    __name__,
    guide=("E02",),
)

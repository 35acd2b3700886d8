"""WhenUnderutilized has another name in v1.

v1 calls the policy WhenEmptyOrUnderutilized, which says what it always did. The old word is refused.

Symptom: Unsupported value: "WhenUnderutilized": supported values: "WhenEmpty", "WhenEmptyOrUnderutilized"

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

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
Source: Karpenter documentation, v1 migration
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import DISRUPTION, pools
from stoker.manifests.edits import Replace

_PATH = (*DISRUPTION, "consolidationPolicy")
_NOW = "WhenEmptyOrUnderutilized"


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for pool in pools(cluster):
        if pool.get(*_PATH) == "WhenUnderutilized":
            yield Problem(
                pool,
                _PATH,
                "v1 has no policy WhenUnderutilized: the pool is refused",
                hint=f"consolidationPolicy: {_NOW}",
                edits=(Replace(_PATH, _NOW),),
            )


RULE = Rule(
    "STK-KARPENTER-003", Severity.ERROR, "A consolidation policy by its old name", check, __name__, guide=("E05",)
)

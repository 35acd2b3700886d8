"""Too few types to replace a spot node by a cheaper one.

Consolidation from spot to spot is off unless the feature gate SpotToSpotConsolidation is set, and then needs at least
15 types that cost less than the node. A pool with fewer types only ever removes spot nodes whose pods fit on others.

Symptom: expensive spot nodes stay although cheaper ones would do

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge]}
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot]}
      disruption:
        consolidationPolicy: WhenEmptyOrUnderutilized
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
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g4dn, g5, g6, g6e]}
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge, 4xlarge, 8xlarge]}
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot]}
      disruption:
        consolidationPolicy: WhenEmptyOrUnderutilized
        consolidateAfter: 30s

Source: Karpenter documentation, disruption: spot consolidation
Source: kubernetes-sigs/karpenter@v1.14.1 pkg/controllers/disruption/consolidation.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import DISRUPTION, allows, is_known, pools, types_of
from stoker.manifests.disruptions import policy_of

_LEAST = 15


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        types = len(types_of(pool)) if is_known(pool) else 0
        off = policy_of(pool) == "WhenEmpty" or pool.get(*DISRUPTION, "consolidateAfter") == "Never"
        if not off and 0 < types < _LEAST and allows(pool, "spot"):
            yield Problem(
                pool,
                (*DISRUPTION, "consolidationPolicy"),
                f"{types} instance types: a spot node alone is not replaced by a cheaper one: that takes {_LEAST}",
                hint="more families and sizes, and the feature gate SpotToSpotConsolidation",
            )


RULE = Rule("STK-KARPENTER-031", Severity.INFO, "Too few types from spot to spot", check, __name__, guide=("S13",))

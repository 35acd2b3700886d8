"""A disruption block without consolidateAfter.

v1 requires `consolidateAfter` as soon as `disruption` is written at all. Left out together with the block it is 0s.

Symptom: spec.disruption.consolidateAfter: Required value

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
        consolidationPolicy: WhenEmpty

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
        consolidationPolicy: WhenEmpty
        consolidateAfter: 0s

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml, spec.disruption
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import DISRUPTION, pools
from stoker.manifests.edits import Add

_PATH = (*DISRUPTION, "consolidateAfter")


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for pool in pools(cluster):
        disruption = pool.get(*DISRUPTION)
        if isinstance(disruption, dict) and disruption.get("consolidateAfter") is None:
            yield Problem(
                pool,
                _PATH,
                "v1 requires consolidateAfter in a disruption block: the pool is refused",
                hint="consolidateAfter: 0s, which is what leaving out the block means",
                edits=(Add(_PATH, "0s"),) if "consolidateAfter" not in disruption else (),
            )


RULE = Rule("STK-KARPENTER-008", Severity.ERROR, "disruption without consolidateAfter", check, __name__, guide=("E06",))

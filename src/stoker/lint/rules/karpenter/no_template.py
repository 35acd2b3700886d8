"""A NodePool that does not say what its nodes are.

`spec.template` holds the node class, the requirements and the taints. A pool has no defaults for them, and a second
NodePool object does not add to a first one: each is a pool of its own.

Symptom: spec.template: Required value

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: packed}
    spec:
      disruption:
        consolidationPolicy: WhenEmptyOrUnderutilized
        consolidateAfter: 30s

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: packed}
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
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import TEMPLATE, pools


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        if isinstance(pool.get("spec"), dict) and pool.get(*TEMPLATE) is None:
            yield Problem(
                pool,
                TEMPLATE,
                "no spec.template: the pool is refused, and adds nothing to any other pool",
                hint="spec.template.spec with nodeClassRef and requirements",
            )


RULE = Rule("STK-KARPENTER-009", Severity.ERROR, "A NodePool without a template", check, __name__, guide=("E12",))

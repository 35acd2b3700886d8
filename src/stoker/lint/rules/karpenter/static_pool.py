"""A pool of a fixed size with what only others have.

With `replicas` a pool keeps that many nodes, whatever pods wait: it has no place in an order of pools, so no `weight`,
and of limits only `nodes` means anything to it.

Symptom: 'weight' is not supported on static NodePools
Symptom: only 'limits.nodes' is supported on static NodePools

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      replicas: 4
      weight: 10
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
      replicas: 4
      limits: {nodes: "6"}
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml, spec
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import listed, pools, section


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        spec = section(pool, "spec")
        if spec.get("replicas") is None:
            continue
        others = [str(each) for each in section(pool, "spec", "limits") if each != "nodes"]
        if spec.get("weight") is not None:
            yield Problem(
                pool,
                ("spec", "weight"),
                f"a pool with replicas has no weight ({spec['weight']}): the pool is refused",
                hint="no weight",
                key=True,
                instead_of=("spec",),
            )
        if others:
            yield Problem(
                pool,
                ("spec", "limits"),
                f"a pool with replicas has no limit of {listed(others)}: the pool is refused",
                hint="limits: {nodes: <number>}",
                key=True,
                instead_of=("spec",),
            )


RULE = Rule("STK-KARPENTER-053", Severity.ERROR, "A static pool with weight or limits", check, __name__)

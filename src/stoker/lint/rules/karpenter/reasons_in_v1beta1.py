"""Budgets by reason do not exist in v1beta1.

`budgets[].reasons` came with v1. A v1beta1 API refuses the field, or drops it; without it each budget holds for every
reason, and the smallest wins: a budget of 0 nodes for one reason becomes 0 nodes for all.

Symptom: strict decoding error: unknown field "spec.disruption.budgets[0].reasons"

Wrong:

    apiVersion: karpenter.sh/v1beta1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {name: training}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      disruption:
        consolidationPolicy: WhenEmpty
        consolidateAfter: 300s
        budgets:
        - nodes: "0"
          reasons: [Drifted]

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      disruption:
        consolidationPolicy: WhenEmpty
        consolidateAfter: 300s
        budgets:
        - nodes: "0"
          reasons: [Drifted]

Source: aws/karpenter-provider-aws@v0.37.8 pkg/apis/crds/karpenter.sh_nodepools.yaml: nodes, schedule, duration only
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import BUDGETS, pools
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        if pool.version != "v1beta1":
            continue
        for i, budget in sections(pool.get(*BUDGETS)):
            if "reasons" in budget:
                nodes = budget.get("nodes", "10%")
                yield Problem(
                    pool,
                    (*BUDGETS, i, "reasons"),
                    f"v1beta1 has no reasons: where the field is dropped, {nodes} holds for every reason",
                    hint="apiVersion: karpenter.sh/v1",
                    key=True,
                )


RULE = Rule("STK-KARPENTER-011", Severity.ERROR, "Reasons of budgets in v1beta1", check, __name__, guide=("E08",))

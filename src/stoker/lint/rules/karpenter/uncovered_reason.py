"""Budgets that leave a reason without any limit.

With budgets written, the default of 10% is gone. A reason that no budget names, and no budget without reasons covers,
has no limit: a new image or a changed node class then replaces every node of the pool at once.

Symptom: all training nodes are replaced the day a new AMI comes out

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}
      disruption:
        consolidationPolicy: WhenEmpty
        consolidateAfter: 300s
        budgets:
        - {nodes: "0", reasons: [Underutilized]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}
      disruption:
        consolidationPolicy: WhenEmpty
        consolidateAfter: 300s
        budgets:
        - {nodes: "0", reasons: [Drifted]}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/apis/v1/nodepool.go: a reason without a budget is unlimited
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import BUDGETS, DISRUPTION, budgets_of, pools
from stoker.manifests.disruptions import policy_of

_WHAT = {
    "Drifted": "a new image or node class replaces all nodes at once",
    "Underutilized": "consolidation may take any number of nodes at once",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        budgets = budgets_of(pool)
        if pool.get(*BUDGETS) == []:
            yield Problem(
                pool,
                BUDGETS,
                "an empty list is no limit for any reason: the default of 10% holds where there is no list",
                hint="no budgets, or a list with one",
            )
        if not budgets or pool.templated:
            continue
        idle = "Underutilized" if policy_of(pool) == "WhenEmpty" else ""
        consolidates = pool.get(*DISRUPTION, "consolidateAfter") != "Never"
        for reason, what in _WHAT.items():
            covering = [each for each in budgets if each.covers(reason)]
            if reason == "Underutilized" and (idle or not consolidates):
                continue
            if not covering:
                yield Problem(
                    pool,
                    BUDGETS,
                    f"no budget covers {reason}, which then has no limit: {what}",
                    hint=f'a budget with reasons: [{reason}], such as nodes: "0" or "10%"',
                )
            elif all(each.schedule for each in covering):
                yield Problem(
                    pool,
                    BUDGETS,
                    f"outside of the hours of its budgets {reason} has no limit: {what}",
                    hint='a budget without a schedule beside them, such as nodes: "10%"',
                    severity=Severity.INFO,
                )
        for each in budgets:
            if idle and idle in each.reasons and not {"Empty", "Drifted"}.intersection(each.reasons):
                yield Problem(
                    pool,
                    (*each.path, "reasons"),
                    "WhenEmpty never removes a node for Underutilized: this budget limits nothing",
                    hint="reasons: [Drifted] or [Empty]",
                )


RULE = Rule("STK-KARPENTER-025", Severity.WARNING, "A reason without a budget", check, __name__, guide=("S16",))

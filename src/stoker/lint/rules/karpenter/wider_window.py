"""A wider budget for some hours has no effect.

Of all budgets that hold at a time the smallest counts. Beside one that holds always, a budget with a schedule can only
allow less: a low budget belongs to the hours to be protected, and the larger one has no schedule. Schedules are in
UTC.

Symptom: no more nodes than at other times are replaced in the maintenance window

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
        consolidateAfter: 30s
        budgets:
        - nodes: "10%"
        - {nodes: "50%", schedule: "0 2 * * *", duration: 2h}

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
        consolidateAfter: 30s
        budgets:
        - nodes: "50%"
        - {nodes: "10%", schedule: "0 4 * * *", duration: 22h}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/apis/v1/nodepool.go GetAllowedDisruptionsByReason
Source: Karpenter documentation, disruption: budgets
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import REASONS, budgets_of, pools


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        budgets = budgets_of(pool)
        always = [each for each in budgets if not each.schedule]
        for window in (each for each in budgets if each.schedule):
            reasons = [each for each in REASONS if window.covers(each)]
            tighter = [
                next((each for each in always if each.covers(reason) and each.allows_no_more_than(window)), None)
                for reason in reasons
            ]
            first = tighter[0] if tighter else None
            if first is not None and None not in tighter:
                yield Problem(
                    pool,
                    (*window.path, "nodes"),
                    f"{window.nodes} has no effect: {first.nodes} holds always, and the smallest budget counts",
                    hint="the larger budget always, the smaller one for the hours to protect (in UTC)",
                )


RULE = Rule("STK-KARPENTER-024", Severity.WARNING, "A wider budget without effect", check, __name__, guide=("S04",))

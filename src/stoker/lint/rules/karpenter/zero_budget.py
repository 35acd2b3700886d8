"""No node may ever be replaced, and yet each expires.

A budget of 0 nodes for every reason, at any time, stops consolidation and drift. It does not stop expiry: after
`expireAfter`, 720h by default, each node is drained, without a replacement made ready before. With `expireAfter:
Never` nothing replaces a node at all, so that it never gets a new image.

Symptom: nodes are drained after 30 days although the budget is 0
Symptom: nodes run the image of last year

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
        - nodes: "0"

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
        - nodes: "1"
        - {nodes: "0", schedule: "0 7 * * MON-FRI", duration: 12h}

Source: Karpenter documentation, disruption: budgets do not hold up expiry
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import REASONS, budgets_of, expire_after, pools


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        zero = [each for each in budgets_of(pool) if each.is_zero and not each.schedule]
        if not zero or not all(any(each.covers(reason) for each in zero) for reason in REASONS):
            continue
        after = expire_after(pool) or "720h"
        path = (*zero[0].path, "nodes")
        if after == "Never":
            yield Problem(
                pool,
                path,
                "no node is ever replaced: not by a budget of 0, not by expireAfter: Never, so none gets a new image",
                hint="a schedule for the 0, and a small budget outside of it",
            )
        else:
            yield Problem(
                pool,
                path,
                f"a budget of 0 does not stop expiry: after {after} each node is drained, with no replacement before",
                hint="a small budget, so that drift replaces nodes in order; or expireAfter: Never",
            )


RULE = Rule("STK-KARPENTER-028", Severity.WARNING, "A budget of 0 for everything, always", check, __name__)

"""A comment expects budgets to handle spot interruptions.

Budgets limit what Karpenter does of its own accord. A spot interruption is not asked: the node goes in two minutes.
Karpenter moves its pods in that time only where it reads the notices from a queue, which is a setting of its
installation.

Symptom: pods on interrupted spot nodes are killed without being moved

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
        - nodes: "33%"  # handles spot interruptions gracefully

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
        - nodes: "33%"  # of consolidation and drift

Source: Karpenter documentation, disruption: interruption; settings.interruptionQueue of its chart
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import DISRUPTION, denies, pools, remarks

_INTERRUPTION = re.compile(r"interrupt|\bspot\b.*\b(?:reclaim|terminat|evict|preempt|notice|loss)", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for remark in remarks(pool):
            if remark.is_about(*DISRUPTION) and _INTERRUPTION.search(remark.text) and not denies(remark.text):
                yield Problem(
                    pool,
                    remark.path,
                    "the comment speaks of interruptions: nothing in disruption has to do with them",
                    hint="settings.interruptionQueue of Karpenter's chart, with the queue and rules that feed it",
                )
                break  # once for each pool: the comments on its budgets speak of one thing


RULE = Rule("STK-KARPENTER-026", Severity.WARNING, "Budgets meant for interruptions", check, __name__, guide=("S14",))

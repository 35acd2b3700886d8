"""A comment gives thresholds of utilisation.

Karpenter has none. It tries whether the pods of a node fit elsewhere, and whether that costs less; a node at 80% may
go, one at 20% may stay. The Cluster Autoscaler is the one with a threshold.

Symptom: nodes below the threshold are not removed
Symptom: nodes above the threshold are removed

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
        # when CPU requests < 50% of the node
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
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      disruption:
        # when the pods fit elsewhere, or on a cheaper node
        consolidationPolicy: WhenEmptyOrUnderutilized
        consolidateAfter: 30s

Source: Karpenter documentation, disruption: consolidation
Source: kubernetes-sigs/karpenter@v1.14.1 pkg/controllers/disruption/consolidation.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import DISRUPTION, denies, pools, remarks

_THRESHOLD = re.compile(
    r"(?:cpu|memory|mem|gpu|utili[sz]\w*|requests?|usage|load|allocatable)\b.*?"
    r"(?:<=?|>=?|below|under|less than|lower than|above|over)\s*\d{1,3}\s*%"
    r"|(?:<=?|below|under|less than)\s*\d{1,3}\s*%.*?(?:utili[sz]|used|usage|cpu|memory|allocatable)",
    re.IGNORECASE,
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for remark in remarks(pool):
            if remark.is_about(*DISRUPTION) and _THRESHOLD.search(remark.text) and not denies(remark.text):
                yield Problem(
                    pool,
                    remark.path,
                    "the comment gives a threshold: Karpenter has none, it asks whether the pods fit elsewhere",
                    hint="no threshold; consolidateAfter says how long a node must have been quiet",
                )


RULE = Rule("STK-KARPENTER-027", Severity.WARNING, "A comment gives a threshold", check, __name__, guide=("S15",))

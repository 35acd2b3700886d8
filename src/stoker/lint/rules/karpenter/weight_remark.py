"""A comment takes the weight the wrong way round.

The heavier pool is tried first; without a weight it is 0. A weight only decides which pool makes the node for a pod
that several could take. It takes no node and no pod away from another pool: that is priority, a matter of pods.

Symptom: the pool that was to be the last resort is used first

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: reserve}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      weight: 5  # lower weight = higher priority

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: reserve}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      weight: 5  # after the pool of weight 10

Source: Karpenter documentation, NodePools: spec.weight
Source: kubernetes-sigs/karpenter@v1.14.1 pkg/utils/nodepool/nodepool.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import denies, pools, remarks

_IS = r"(?:=|:|->|→|\bis\b|\bare\b|\bmeans?\b|\bhas\b|\bhave\b|\bgets?\b)\s*"
_FILLER = r"(?:(?:a|an|the|of|more|tried|used|chosen|taken|considered)\s+)*"
_INVERTED = re.compile(
    rf"\b(?:low|lower|lowest|small|smaller|smallest)\b[^=]*?{_IS}{_FILLER}"
    r"(?:high|higher|highest|greater|first|preferred|prefer|important|earlier)\b"
    rf"|\b(?:high|higher|highest|large|larger|largest)\b[^=]*?{_IS}{_FILLER}(?:low|lower|lowest|less|last|later)\b"
    r"|\bthe lower\b[^,]*,\s*the (?:higher|greater|more|sooner|earlier)\b"
    r"|\b(?:lower|lowest|smaller|smallest)\s+(?:\w+\s+)?(?:first|wins|preferred)\b",
    re.IGNORECASE,
)
_YIELDS = re.compile(
    r"\byield|\bgives? way|\bpre-?empt|\bevict|\bsteals?\b|\btakes? over\b|\bmakes? room", re.IGNORECASE
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for remark in remarks(pool):
            if not remark.is_about("spec", "weight") or denies(remark.text):
                continue
            if _INVERTED.search(remark.text):
                yield Problem(
                    pool,
                    ("spec", "weight"),
                    "the comment has it the wrong way round: the heavier pool is tried first",
                    hint="higher weight = tried first; none is 0",
                )
            elif _YIELDS.search(remark.text):
                yield Problem(
                    pool,
                    ("spec", "weight"),
                    "a weight makes no pool yield: it picks the pool of a new node, and moves no running pod",
                    hint="a PriorityClass on the pods",
                )


RULE = Rule("STK-KARPENTER-029", Severity.WARNING, "A comment misreads the weight", check, __name__, guide=("S11",))

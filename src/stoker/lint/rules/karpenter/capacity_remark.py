"""A comment says spot, and the pool buys something else.

Comments on a capacity type are read by who pays. One that says spot over a requirement that allows on-demand alone, or
the other way round, is wrong in one of the two.

Symptom: a pool that was taken for spot costs three times as much

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
          - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}  # spot, for the price

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
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot]}  # spot, for the price

Source: Karpenter documentation, NodePools: capacity type
"""

import re
from collections.abc import Iterator

from stoker.catalog.labels import CAPACITY_TYPE
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import LABELS, denies, lines_of, pools, remarks, view_of

_NAMES = {"spot": re.compile(r"\bspot\b", re.IGNORECASE), "on-demand": re.compile(r"\bon[ -]?demand\b", re.IGNORECASE)}


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        places = [line.path for line in lines_of(pool) if line.key == CAPACITY_TYPE]
        bought = view_of(pool).capacity_types
        if not bought or pool.templated:
            continue
        for remark in remarks(pool):
            about = any(remark.is_about(*path) for path in (*places, (*LABELS, CAPACITY_TYPE)))
            said = [name for name, pattern in _NAMES.items() if pattern.search(remark.text)]
            if about and len(said) == 1 and said[0] not in bought and not denies(remark.text):
                yield Problem(
                    pool,
                    remark.path,
                    f"the comment says {said[0]}, and the pool launches {' or '.join(bought)} only",
                    hint=f"{said[0]} among the values, or another comment",
                )


RULE = Rule("STK-KARPENTER-037", Severity.WARNING, "A comment names another capacity type", check, __name__)
